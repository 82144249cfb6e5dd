package checkpoint

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"microrwkv/checkpoint/internal/torch"
	"microrwkv/checkpoint/pickle"
	"microrwkv/tensor"
)

// entry is one of a zip archive's.
type entry struct {
	name string
	data []byte
}

// entries reads an archive.
func entries(t *testing.T, path string) (list []entry) {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range r.File {
		file, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, entry{f.Name, b})
	}
	return list
}

// rezip writes an archive, entries with a data descriptor after them as streams have it.
func rezip(t *testing.T, list []entry, method uint16, comment string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range list {
		w, err := z.CreateHeader(&zip.FileHeader{Name: e.name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.SetComment(comment); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestArchives reads archives that other programs have written again, and refuses those that are
// not what torch.save writes.
func TestArchives(t *testing.T) {
	small := entries(t, "testdata/torch/small.pt")
	renamed := func(root string) (list []entry) {
		for _, e := range small {
			_, rest, _ := strings.Cut(e.name, "/")
			list = append(list, entry{root + rest, e.data})
		}
		return list
	}
	with := func(extra ...entry) []entry { return append(renamed("small/"), extra...) }
	for _, c := range []struct {
		name    string
		list    []entry
		method  uint16
		comment string
		want    string // in the error
	}{
		{"streamed", small, zip.Store, "", ""},
		{"commented", small, zip.Store, strings.Repeat("comment ", 5000), ""},
		{"without a root", renamed(""), zip.Store, "", ""},
		{"another root", renamed("модель 7/"), zip.Store, "", ""},
		{"directories and more", with(entry{"small/", nil}, entry{"README", []byte("x")}), zip.Store, "", ""},
		{"compressed", small, zip.Deflate, "", "compressed"},
		{"two pickles", with(entry{"other/data.pkl", nil}), zip.Store, "", "two zip entries"},
		{"one name twice", with(entry{"small/data/0", nil}), zip.Store, "", "two zip entries"},
		{"no pickle", renamed("a/b/"), zip.Store, "", "data.pkl"},
		{"code", with(entry{"small/code/__torch__.py", nil}), zip.Store, "", "TorchScript"},
		{"constants", with(entry{"small/constants.pkl", nil}), zip.Store, "", "TorchScript"},
		{"byte order", with(), zip.Store, "", ""},
	} {
		if c.name == "byte order" {
			for i, e := range c.list {
				if strings.HasSuffix(e.name, "byteorder") {
					c.list[i].data = []byte("middle")
				}
			}
			c.want = "byteorder"
		}
		f, err := OpenBytes(c.name, rezip(t, c.list, c.method, c.comment))
		if err == nil {
			err = f.Verify(nil)
		}
		if c.want == "" && (err != nil || len(f.Names()) != 2) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// TestOverlap refuses an archive two of whose records are the same bytes.
func TestOverlap(t *testing.T) {
	b, err := os.ReadFile("testdata/torch/small.pt")
	if err != nil {
		t.Fatal(err)
	}
	local := map[string]uint32{}
	for _, key := range []string{"data/0", "data/1"} {
		at := bytes.LastIndex(b, []byte("small/"+key)) // in the central directory
		offset := b[at-4:]
		if key == "data/1" {
			binary.LittleEndian.PutUint32(offset, local["data/0"])
		}
		local[key] = binary.LittleEndian.Uint32(offset)
	}
	if _, err := OpenBytes("x.pt", b); err == nil || !strings.Contains(err.Error(), "overlap") || !strings.Contains(err.Error(), "small/data/1") {
		t.Errorf("error %v, want one that names the records", err)
	}
}

// TestEntryHeaders refuses a record whose entry says that its bytes aren't the elements, each for its
// own reason.
func TestEntryHeaders(t *testing.T) {
	const flags, method, sum, packed, size = 8, 10, 16, 20, 24 // in an entry of the central directory
	small, err := os.ReadFile("testdata/torch/small.pt")
	if err != nil {
		t.Fatal(err)
	}
	header := func(record string) int { return bytes.LastIndex(small, []byte("small/"+record)) - 46 }
	data := small[header("data/0"):]
	n, file := binary.LittleEndian.Uint32(data[size:]), uint32(len(small))
	for _, c := range []struct {
		name, record string
		fields       map[int]uint32
		want         string
	}{
		{"as it is", "data/0", map[int]uint32{size: n}, ""},
		{"deflated to as many bytes", "data/0", map[int]uint32{method: uint32(zip.Deflate)}, "compressed"},
		{"packed into fewer bytes", "data/0", map[int]uint32{packed: n - 1}, "compressed"},
		{"encrypted", "data/0", map[int]uint32{flags: uint32(binary.LittleEndian.Uint16(data[flags:])) | 1}, "encrypted"},
		{"larger than the file", "data/0", map[int]uint32{packed: 1 << 30, size: 1 << 30}, "1073741824 bytes at"},
		{"as large as the file", "data/0", map[int]uint32{packed: file, size: file}, fmt.Sprintf("%d bytes at", file)},
		{"another checksum", "data/0", map[int]uint32{sum: 1}, "CRC-32"},
		{"another checksum of the pickle", "data.pkl", map[int]uint32{sum: 1}, "CRC-32"},
	} {
		b, entry := bytes.Clone(small), header(c.record)
		for at, v := range c.fields {
			if at < sum {
				binary.LittleEndian.PutUint16(b[entry+at:], uint16(v))
			} else {
				binary.LittleEndian.PutUint32(b[entry+at:], v)
			}
		}
		f, err := OpenBytes("x.pt", b)
		if err == nil {
			err = f.Verify(nil)
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// TestDeclared refuses a record that has fewer bytes than any tensor of it says, the first or the last.
func TestDeclared(t *testing.T) {
	for _, c := range []struct {
		numels []int64
		ok     bool
	}{{[]int64{2, 2}, true}, {[]int64{1, 2}, true}, {[]int64{3, 2}, false}, {[]int64{2, 3}, false}, {[]int64{2, 100, 1}, false}} {
		p := &pickler{}
		p.out = append(p.out, 0x80, 2, '}', '(')
		for i, n := range c.numels {
			p.str(fmt.Sprint("t", i))
			p.rebuild("0", n, nil, 0, []int64{1}, []int64{1})
		}
		p.out = append(p.out, 'u', '.')
		f, err := OpenBytes("x.pt", rezip(t, []entry{{"x/data.pkl", p.out}, {"x/data/0", make([]byte, 8)}}, zip.Store, ""))
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.numels {
			_, err := f.Tensor(fmt.Sprint("t", i))
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "should have") {
				t.Errorf("%v: tensor %d: error %v", c.numels, i, err)
			}
		}
	}
}

// TestSharing opens a pickle that makes ten thousand tensors of one storage of a megabyte, which
// overlap and hold a NaN at the end: what would take ten thousand passes over it is cut short.
func TestSharing(t *testing.T) {
	const n, tensors = 1 << 18, 10000
	p := &pickler{}
	p.out = append(p.out, 0x80, 2, '}', '(')
	for i := range tensors {
		p.str(fmt.Sprint("t", i))
		p.rebuild("0", n, nil, 0, []int64{n - 1 - int64(i)}, []int64{1})
	}
	p.out = append(p.out, 'u', '.')
	data := make([]byte, 4*n)
	binary.NativeEndian.PutUint32(data[4*(n-1):], 0x7fc00000)
	f, err := OpenBytes("x.pt", rezip(t, []entry{{"x/data.pkl", p.out}, {"x/data/0", data}}, zip.Store, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Tensor("t0"); err != nil {
		t.Error(err)
	}
	start := time.Now()
	err = f.Verify(nil)
	if err == nil || !strings.Contains(err.Error(), "shares its elements") {
		t.Errorf("error %v", err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("Verify took %v", d)
	}
	if _, err := f.Tensor("t9999"); err == nil || !strings.Contains(err.Error(), "shares its elements") {
		t.Errorf("error %v", err)
	}
}

// TestLarge opens checkpoints with what long trainings leave beside the weights, and of very many
// tensors; each takes some hundred megabytes.
func TestLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	log, floats := make([]any, 200000), make([]any, 2000000)
	for i := range log {
		log[i] = map[string]any{"step": i, "loss": float64(i), "lr": 1e-3, "time": "now"}
	}
	for i := range floats {
		floats[i] = float64(i)
	}
	many := make([]Named, 100000)
	for i := range many {
		many[i] = Named{fmt.Sprintf("transformer.h.%d.weight", i), tensor.FromSlice([]float32{float32(i)}, 1).Weight()}
	}
	for _, c := range []struct {
		name    string
		tensors []Named
		values  map[string]any
	}{
		{"log", many[:1], map[string]any{"log": log}}, {"floats", many[:1], map[string]any{"floats": floats}}, {"tensors", many, nil},
	} {
		path := filepath.Join(t.TempDir(), c.name+".pt")
		if err := WritePT(path, c.tensors, c.values); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if n := len(f.Names()); n != len(c.tensors) {
			t.Errorf("%s: %d tensors, want %d", c.name, n, len(c.tensors))
		}
		f.Close()
	}
}

// TestCalls opens a pickle that makes a thousand dicts of the same hundred thousand pairs.
func TestCalls(t *testing.T) {
	p := &pickler{out: []byte{0x80, 2, '('}}
	p.global("collections", "OrderedDict")
	p.out = append(p.out, "q\x00](K\x01K\x02\x86q\x01"...)
	p.out = append(p.out, strings.Repeat("h\x01", 100000)...)
	p.out = append(p.out, "e\x85q\x02"...)
	p.out = append(p.out, strings.Repeat("h\x00h\x02R", 1000)...)
	p.out = append(p.out, 't', '.')
	b := rezip(t, []entry{{"x/data.pkl", p.out}}, zip.Store, "")
	var err error
	spent := allocated(func() { _, err = OpenBytes("x.pt", b) })
	if err == nil || !strings.Contains(err.Error(), "calls that take too much memory") {
		t.Errorf("error %v", err)
	}
	if limit := 2 * pickle.MaxMemory(len(p.out)); spent > limit {
		t.Errorf("%d bytes allocated, want at most %d", spent, limit)
	}
}

// rebuild writes a float32 tensor's pickle; view is a part of a storage, in legacy files.
func (p *pickler) rebuild(key string, numel int64, view []any, offset int64, shape, stride []int64) {
	p.global("torch._utils", "_rebuild_tensor_v2")
	p.out = append(p.out, '(', '(')
	p.str("storage")
	p.global("torch", "FloatStorage")
	p.str(key)
	p.str("cuda:0")
	p.int(numel)
	if view == nil {
		p.out = append(p.out, 'N')
	} else {
		p.value(pickle.Tuple(view))
	}
	p.out = append(p.out, 't', 'Q')
	p.int(offset)
	p.ints(shape)
	p.ints(stride)
	p.out = append(p.out, 0x89)
	p.global("collections", "OrderedDict")
	p.out = append(p.out, ')', 'R', 't', 'R')
}

// legacyFile makes a legacy file of one tensor "w" and the storages that it says it has.
func legacyFile(tensor func(p *pickler), machine *pickle.Dict, keys []any, data []byte) []byte {
	p := &pickler{}
	dump := func(write func()) {
		p.out = append(p.out, 0x80, 2)
		write()
		p.out = append(p.out, '.')
	}
	dump(func() { p.big(torch.LegacyMagic) })
	dump(func() { p.int(torch.LegacyVersion) })
	dump(func() { p.value(machine) })
	dump(func() {
		p.out = append(p.out, '}')
		p.str("w")
		tensor(p)
		p.out = append(p.out, 's')
	})
	dump(func() { p.value(keys) })
	return append(p.out, data...)
}

// TestStrides lists a tensor with more dimensions than strides, and refuses its elements.
func TestStrides(t *testing.T) {
	b := legacyFile(func(p *pickler) { p.rebuild("a", 1, nil, 0, []int64{1, 1}, []int64{1}) },
		&pickle.Dict{}, []any{"a"}, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f, err := OpenBytes("x.pt", b)
	if err != nil {
		t.Fatal(err)
	}
	if info, ok := f.Info("w"); !ok || len(info.Shape) != 2 || len(info.Strides) != 2 {
		t.Errorf("%+v, %v", info, ok)
	}
	if _, err := f.Tensor("w"); err == nil || !strings.Contains(err.Error(), "shape [1 1] with strides [1]") {
		t.Errorf("error %v", err)
	}
}

// TestLegacy reads views of storages, and refuses legacy files that contradict themselves.
func TestLegacy(t *testing.T) {
	data := make([]byte, 8+6*4)
	data[0] = 6
	for i := range 6 {
		binary.LittleEndian.PutUint32(data[8+4*i:], uint32(0x3f800000+i))
	}
	two := append(bytes.Clone(data), data...)
	whole := func(p *pickler) { p.rebuild("a", 6, nil, 0, []int64{2, 3}, []int64{3, 1}) }
	viewed := func(view ...any) func(p *pickler) {
		return func(p *pickler) { p.rebuild("a", 6, view, 1, []int64{2}, []int64{1}) }
	}
	little := &pickle.Dict{Keys: []any{"little_endian"}, Values: []any{true}}
	big := &pickle.Dict{Keys: []any{"little_endian"}, Values: []any{false}}
	for _, c := range []struct {
		name    string
		tensor  func(p *pickler)
		machine *pickle.Dict
		keys    []any
		data    []byte
		want    string
	}{
		{"whole", whole, little, []any{"a"}, data, ""},
		{"a view", viewed("v", 2, 4), little, []any{"a"}, data, ""},
		{"big-endian", whole, big, []any{"a"}, data, "big-endian"},
		{"a view outside", viewed("v", 3, 4), little, []any{"a"}, data, "outside of storage"},
		{"a negative view", viewed("v", -1, 4), little, []any{"a"}, data, "outside of storage"},
		{"a view too short", viewed("v", 2, 2), little, []any{"a"}, data, "need more than the 8 bytes"},
		{"a view of two", viewed("v", 2), little, []any{"a"}, data, "view"},
		{"no storages", whole, little, []any{}, data, "not in the file"},
		{"listed twice", whole, little, []any{"a", "a"}, two, "twice"},
		{"another", whole, little, []any{"a", "b"}, two, `"b" is listed`},
		{"a number", whole, little, []any{1}, data, "not a string"},
		{"another size", func(p *pickler) { p.rebuild("a", 5, nil, 0, []int64{5}, []int64{1}) }, little, []any{"a"}, data, "6 elements, and 5 are announced"},
		{"cut", whole, little, []any{"a"}, data[:31], "should have 24 bytes, 23 are left"},
		{"no elements", whole, little, []any{"a"}, data[:7], "storage 1 of 1 is missing"},
	} {
		f, err := OpenBytes(c.name, legacyFile(c.tensor, c.machine, c.keys, c.data))
		if err == nil {
			err = f.Verify(nil)
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
		if err != nil {
			continue
		}
		x, err := f.Tensor("w")
		if err != nil {
			t.Fatal(err)
		}
		first := map[string]uint32{"whole": 0x3f800000, "a view": 0x3f800003}[c.name]
		if got := math.Float32bits(x.Float32().Data()[0]); got != first {
			t.Errorf("%s: begins with %#x, want %#x", c.name, got, first)
		}
	}
}
