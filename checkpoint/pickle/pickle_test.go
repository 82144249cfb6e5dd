package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
)

// plainDecoder knows two functions, and persistent ids of any kind.
var plainDecoder = Decoder{
	FindClass: func(module, name string) (any, error) {
		switch module + "." + name {
		case "m.f":
			return Func(func(args []any) (any, error) { return len(args), nil }), nil
		case "m.dict":
			return NewDict, nil
		case "m.object":
			return NewObject, nil
		case "collections.OrderedDict":
			return NewOrderedDict, nil
		}
		return nil, fmt.Errorf("class %s.%s", module, name)
	},
	PersistentLoad: func(id any) (any, error) { return "persistent", nil },
}

func decode(s string) (any, int, error) { return plainDecoder.Decode([]byte(s)) }

// TestDecode decodes what each protocol writes.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		in   string
		want any
	}{
		{"N.", nil},
		{"\x80\x02K\x07.", int64(7)},
		{"M\x01\x02.", int64(513)},
		{"J\xff\xff\xff\xff.", int64(-1)},
		{"I12\n.", int64(12)},
		{"I01\n.", true},
		{"L-5L\n.", int64(-5)},
		{"L1099511627776L\n.", int64(1 << 40)}, // more than an int of 32 bits, which gopickle cuts short
		{"L-9223372036854775808L\n.", int64(-1 << 63)},
		{"L-128\n.", int64(-128)},
		{"\x8a\x06\x00\x00\x00\x00\x00\x01.", int64(1 << 40)},
		{"\x8a\x05\x00\x00\x00\x00\xff.", int64(-1 << 32)},
		{"\x8a\x00.", int64(0)},
		{"\x8b\x00\x00\x00\x00.", int64(0)},
		{"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", int64(-1 << 63)},
		{"\x8a\x01\xff.", int64(-1)},
		{"G\x3f\xf8\x00\x00\x00\x00\x00\x00.", 1.5},
		{"F2.5\n.", 2.5},
		{"X\x02\x00\x00\x00hi.", "hi"},
		{"\x8c\x02hi.", "hi"},
		{"C\x02hi.", []byte("hi")},
		{"\x96\x02\x00\x00\x00\x00\x00\x00\x00hi.", []byte("hi")},
		{"S'hi'\n.", "hi"},
		{"(K\x01K\x02t.", Tuple{int64(1), int64(2)}},
		{"](K\x01K\x02e.", List{int64(1), int64(2)}},
		{"]K\x01a.", List{int64(1)}},
		{"(K\x01l.", List{int64(1)}},
		{"}X\x01\x00\x00\x00aK\x01s.", &Dict{[]any{"a"}, []any{int64(1)}}},
		{"}(K\x01K\x02K\x01K\x03u.", &Dict{[]any{int64(1)}, []any{int64(3)}}}, // the last one counts
		{"(K\x01K\x02d.", &Dict{[]any{int64(1)}, []any{int64(2)}}},
		{"\x8f(K\x01\x90.", List{int64(1)}},
		{"(K\x01\x91.", List{int64(1)}},
		{"ccollections\nOrderedDict\n)R(K\x01K\x02u.", &Dict{[]any{int64(1)}, []any{int64(2)}}},
		{"ccollections\nOrderedDict\n](](K\x01K\x02eea\x85R.", nil},
		{"\x8c\x0bcollections\x8c\x0bOrderedDict\x93)R}(\x8c\x01aK\x01ub.", &Dict{[]any{}, []any{}}},
		{"cm\nobject\n)\x81}X\x01\x00\x00\x00aK\x01sb.", &Dict{[]any{"a"}, []any{int64(1)}}},
		{"cm\nf\n(K\x01K\x02tR.", int64(2)},
		{"(K\x01im\nf\n.", int64(1)},
		{"(cm\nf\nK\x01o.", int64(1)},
		{"K\x01Q.", "persistent"},
		{"K\x07q\x000h\x00.", int64(7)},
		{"K\x07p5\n0g5\n.", int64(7)},
		{"K\x01q\x01K\x02q\x000K\x03\x94\x940h\x02h\x00\x86h\x03h\x01\x86\x86\x86.", Tuple{int64(1), Tuple{Tuple{int64(3), int64(2)}, Tuple{int64(3), int64(1)}}}}, // in any order
		{"K\x01q\x000h\x00K\x02q\x000\x85.", Tuple{int64(1)}}, // stored again after its use
		{"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00K\x07\x94\x95\x04\x00\x00\x00\x00\x00\x00\x000h\x00.", int64(7)},
		{"K\x07(K\x012.", nil},
	} {
		got, n, err := decode(c.in + "rest")
		if c.want == nil && c.in != "N." {
			continue
		}
		if err != nil || n != len(c.in) || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q = %#v, %d, %v, want %#v, %d", c.in, got, n, err, c.want, len(c.in))
		}
	}
}

// hostile are pickles that gopickle alone allocates without end for, panics at or worse.
var hostile = []struct{ name, in, want string }{
	{"empty", "", "cut short"},
	{"no stop", "N", "cut short"},
	{"stop with nothing", ".", "empty"},
	{"opcode 255", "\xff", "0xff"},
	{"protocol", "\x80\x09.", "protocol 9"},
	{"unicode8 of exabytes", "\x8d\xff\xff\xff\xff\xff\xff\xff\x0f.", "are left"},
	{"negative unicode8", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "are left"},
	{"bytes8", "\x8e\xff\xff\xff\xff\x00\x00\x00\x00.", "are left"},
	{"unicode of 4 GB", "X\xff\xff\xff\xff.", "are left"},
	{"frame of exabytes", "\x95\xff\xff\xff\xff\xff\xff\xff\x0fN.", "are left"},
	{"long4 of 2 GB", "\x8b\xff\xff\xff\x7f.", "announced"},
	{"long4 that takes quadratic time", "\x8b\x00\x00\x10\x00" + strings.Repeat("x", 1<<20) + ".", "integer of"},
	{"long of many digits", "L" + strings.Repeat("9", 1<<20) + "L\n.", "line"},
	{"dict of three", "(K\x01K\x02K\x03d.", "no value"},
	{"setitems of three", "}(K\x01K\x02K\x03u.", "no value"},
	{"memo not set", "h\x07.", "memo 7"},
	{"long without digits", "LL\n.", "bad integer"},
	{"long of letters", "L12xL\n.", "bad integer"},
	{"no mark", "K\x01t.", "no mark"},
	{"pop through a mark", "K\x01(a.", "empty"},
	{"unhashable", "\x8f(C\x01x\x90.", "hash"},
	{"set that contains itself", "\x8f(h\x00\x90.", "memo"},
	{"list that contains itself", "]q\x00h\x00a.", "itself"},
	{"reduce of a string", "X\x01\x00\x00\x00x)R.", "not a class"},
	{"newobj of a tuple", "))\x81.", "not a class"},
	{"obj without class", "(o.", "not a class"},
	{"inst of os.system", "(ios\nsystem\n.", "os.system"},
	{"global", "cos\nsystem\n.", "os.system"},
	{"stack global", "\x8c\x02os\x8c\x06system\x93.", "os.system"},
	{"stack global of numbers", "K\x01K\x02\x93.", "not a string"},
	{"two lines in a class", "\x8c\x04os\nx\x8c\x06system\x93.", "line"},
	{"gopickle's own classes", "ccopy_reg\n_reconstructor\n.", "_reconstructor"},
	{"gopickle's own object", "c__builtin__\nobject\n.", "object"},
	{"build of a list", "]}b.", "BUILD"},
	{"reduce without a tuple", "cm\nf\nK\x01R.", "not a tuple"},
	{"OrderedDict of a number", "ccollections\nOrderedDict\nK\x01\x85R.", "pairs"},
	{"extension", "\x82\x01.", "extension"},
	{"buffer", "\x97.", "buffer"},
	{"persistent text", "P0\n.", "persistent"},
	{"deep tuples", strings.Repeat("(", 100000) + strings.Repeat("t", 100000) + ".", "nested"},
	{"deep lists", strings.Repeat("]", 1000) + strings.Repeat("a", 999) + ".", "nested"},
	{"deep tuples of one", ")" + strings.Repeat("\x85", 1000) + ".", "nested"},
	{"a billion parts", "]" + doublings(30) + ".", "shared too often"},
	{"a billion entries", "}" + dictDoublings(30) + ".", "shared too often"},
	{"many dicts", "(" + strings.Repeat("}", 3<<20) + "t.", "memory"},
	{"many sets", "(" + strings.Repeat("\x8f", 3<<20) + "t.", "memory"},
	{"many marks", strings.Repeat("(t0", 1<<20) + "N.", ""},
	{"many references", "]q\x00(" + strings.Repeat("h\x00", 1<<20) + "t.", ""},
	{"formatted without end", "X\x00\x00\x10\x00" + strings.Repeat("x", 1<<20) + strings.Repeat("2", 100) + "(" + strings.Repeat("2", 3), ""},
	{"OrderedDict of wide arguments", "X\x00\x00\x08\x00" + strings.Repeat("x", 1<<19) + "q\x000ccollections\nOrderedDict\n(" + strings.Repeat("h\x00", 100000) + "tR.", "pairs"},
	{"BUILD with a wide key", "X\x00\x00\x08\x00" + strings.Repeat("x", 1<<19) + "q\x000ccollections\nOrderedDict\n)R}((" + strings.Repeat("h\x00", 100000) + "tK\x01ub.", ""},
}

// doublings makes a list of the last value twice, again and again.
func doublings(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString("q\x000]h\x00ah\x00a")
	}
	return b.String()
}

func dictDoublings(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString("q\x000}(K\x01h\x00K\x02h\x00u")
	}
	return b.String()
}

// TestHostile gives an error, and takes no more memory than announced, for each of them.
func TestHostile(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			var err error
			check(t, []byte(c.in), func() { _, _, err = decode(c.in) })
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error text of %d bytes", len(err.Error()))
			}
		})
	}
}

// check runs f, which decodes data, and compares what it allocates with MaxMemory.
func check(t *testing.T, data []byte, f func()) {
	t.Helper()
	const slack = 1 << 20 // of the runtime's counters, and other goroutines
	before := allocated()
	f()
	if spent, limit := allocated()-before, MaxMemory(len(data)); spent > limit+slack {
		t.Errorf("%d bytes allocated for %d of pickle, want at most %d", spent, len(data), limit)
	}
}

// allocated returns the bytes allocated so far, freed ones included.
func allocated() int64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// TestBudget takes the costliest things there are until the scan refuses: what was promised is
// then nearly used up, and not more.
func TestBudget(t *testing.T) {
	if runtime.GOARCH == "386" || runtime.GOARCH == "arm" {
		t.Skip("smaller values")
	}
	for name, unit := range map[string]string{
		"dict": "}", "list": "]", "tuple": ")", "set": "\x8f", "mark": "(t", "memo": "N\x94", "put": "Nr\x01\x02\x03\x04", "one": "N\x85", "three": "NNN\x87",
		"pair": "}NNs", "pairs": "}(NNNNu", "items": "](NNNNNNNNe", "ordered": "ccollections\nOrderedDict\n)R", "int": "K\x01", "float": "G\x3f\xf8\x00\x00\x00\x00\x00\x01",
		"text": "X\x04\x00\x00\x00abcd", "bytes": "C\x04abcd", "long": "\x8a\x09123456789", "short": "\x8a\x0512345", "digits": "L123456789123456789123456789L\n", "line": "S'abcdabcd'\n",
		"global": "cm\nf\n", "call": "cm\nf\n)R", "object": "cm\nobject\n)\x81}X\x01\x00\x00\x00aNsb", "dup": "N2", "frozen": "(NNN\x91", "set of one": "\x8f(N\x90",
	} {
		t.Run(name, func(t *testing.T) {
			n := 200000
			in := []byte("(" + strings.Repeat(unit, n) + "t.")
			if name == "put" { // another place each time
				in = in[:0]
				in = append(in, '(')
				for i := range n {
					in = append(in, 'N', 'r', byte(i), byte(i>>8), byte(i>>16), 0)
				}
				in = append(in, 't', '.')
			}
			s := newScanner(in, 1<<60)
			for {
				if stop, err := s.step(); err != nil {
					t.Fatal(err)
				} else if stop {
					break
				}
			}
			before := allocated()
			_, _, err := plainDecoder.decode(in, 1<<60)
			spent := allocated() - before
			t.Logf("%d of each allocated, %d accounted for", spent/int64(n), s.spent/int64(n))
			if err != nil {
				t.Fatal(err)
			}
			if spent > s.spent {
				t.Errorf("%d bytes allocated, %d accounted for: %d of each, want %d", spent, s.spent, s.spent/int64(n), spent/int64(n))
			}
		})
	}
}

// TestLarge decodes what long trainings leave beside their weights.
func TestLarge(t *testing.T) {
	for _, c := range []struct {
		name, before, unit, after string
		n                         int
	}{
		{"a log of dicts", "](X\x04\x00\x00\x00stepq\x00X\x04\x00\x00\x00lossq\x01X\x02\x00\x00\x00lrq\x02000", "}r\x00\x01\x00\x00(h\x00M\x01\x02h\x01G@\x00\x00\x00\x00\x00\x00\x00h\x02G@\x00\x00\x00\x00\x00\x00\x00u", "e.", 200000},
		{"floats", "](", "G@\x00\x00\x00\x00\x00\x00\x00", "e.", 2000000},
		{"booleans", "](", "\x88", "e.", 2000000},
	} {
		in := []byte(c.before + strings.Repeat(c.unit, c.n) + c.after)
		check(t, in, func() {
			v, _, err := plainDecoder.Decode(in)
			if list, ok := v.(List); err != nil || !ok || len(list) != c.n {
				t.Errorf("%s: %d of %d, error %v", c.name, len(list), c.n, err)
			}
		})
	}
}

// FuzzDecode looks for pickles that panic, hang, or take more memory than announced.
func FuzzDecode(f *testing.F) {
	for _, c := range hostile {
		if len(c.in) < 1000 {
			f.Add([]byte(c.in))
		}
	}
	files, _ := filepath.Glob("../testdata/torch/legacy_*.pt")
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for range 5 {
			n, err := Length(b)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(bytes.Clone(b[:n]))
			b = b[n:]
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var err error
		var v any
		check(t, data, func() { v, _, err = plainDecoder.Decode(data) })
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error text of %d bytes", len(err.Error()))
		}
		if err == nil {
			left := 1<<16 + 4*len(data)
			walk(t, v, &left)
		}
	})
}

// walk visits all parts of a value, of which there are not many.
func walk(t *testing.T, v any, left *int) {
	if *left--; *left < 0 {
		t.Fatal("a value of too many parts")
	}
	var list []any
	switch v := v.(type) {
	case Tuple:
		list = v
	case List:
		list = v
	case *Dict:
		if len(v.Keys) != len(v.Values) {
			t.Fatal("a dict with more keys or values")
		}
		list = append(append(list, v.Keys...), v.Values...)
	}
	for _, x := range list {
		walk(t, x, left)
	}
}

var errTest = errors.New("a class's own error")

// TestClassError keeps the error that a class gives.
func TestClassError(t *testing.T) {
	d := Decoder{FindClass: func(string, string) (any, error) {
		return Func(func([]any) (any, error) { return nil, errTest }), nil
	}}
	if _, _, err := d.Decode([]byte("cm\nf\n)R.")); !errors.Is(err, errTest) {
		t.Errorf("error %v", err)
	}
	d.FindClass = func(string, string) (any, error) { panic("a class that panics") }
	if _, _, err := d.Decode([]byte("cm\nf\n)R.")); err == nil || !strings.Contains(err.Error(), "panics") {
		t.Errorf("error %v", err)
	}
}
