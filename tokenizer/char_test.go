package tokenizer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const shakespeare = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func TestCharProtocols(t *testing.T) {
	for p := 1; p <= 5; p++ {
		tok, err := Char(fmt.Sprintf("testdata/meta_p%d.pkl", p))
		if err != nil {
			t.Fatal(err)
		}
		if n := tok.VocabSize(); n != 65 {
			t.Errorf("protocol %d: %d characters, want 65", p, n)
		}
		ids, err := tok.Encode(shakespeare)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			if i != id {
				t.Errorf("protocol %d: id of %q is %d, want %d", p, shakespeare[i], id, i)
			}
		}
		if text := tok.Decode(ids); text != shakespeare {
			t.Errorf("protocol %d: Decode = %q", p, text)
		}
		for _, id := range []int{-1, tok.VocabSize()} {
			if b := tok.AppendToken([]byte("x"), id); string(b) != "x" || tok.Decode([]int{id}) != "" {
				t.Errorf("protocol %d: id %d decodes to %q", p, id, b)
			}
		}
	}
}

func TestCharVariants(t *testing.T) {
	text := "naïve café — 日本語 \U0001f389\ufffd\x00\n一"
	var want []int
	for _, name := range []string{"mixed", "itos", "stoi", "list"} {
		tok, err := Char("testdata/meta_" + name + ".pkl")
		if err != nil {
			t.Fatal(err)
		}
		ids, err := tok.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = ids
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s: Encode = %v, want %v", name, ids, want)
		}
		if got := tok.Decode(ids); got != text {
			t.Errorf("%s: Decode = %q", name, got)
		}
		if tok.EndOfText() != -1 {
			t.Errorf("%s: EndOfText = %d", name, tok.EndOfText())
		}
	}

	tok, err := Char("testdata/meta_padded.pkl")
	if err != nil {
		t.Fatal(err)
	}
	if tok.VocabSize() != 64 || tok.Decode([]int{2, 3, 63, 64, -1, 0}) != "ca" {
		t.Errorf("padded: size %d, Decode = %q", tok.VocabSize(), tok.Decode([]int{2, 3, 63, 64, -1, 0}))
	}
}

func TestCharUnknownRune(t *testing.T) {
	for _, c := range []struct {
		file, text string
		want       UnknownRuneError
		message    string
	}{
		{"meta_p4.pkl", "One #1", UnknownRuneError{'#', 4}, `character '#' (U+0023) at byte 4 is not in the vocabulary`},
		{"meta_p4.pkl", "é", UnknownRuneError{'é', 0}, `character 'é' (U+00E9) at byte 0`},
		{"meta_mixed.pkl", "ï\xe2\x82", UnknownRuneError{'\ufffd', 2}, "at byte 2"}, // though U+FFFD is in it
	} {
		tok, err := Char("testdata/" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := tok.Encode(c.text)
		var unknown *UnknownRuneError
		if !errors.As(err, &unknown) || *unknown != c.want || !strings.Contains(err.Error(), c.message) || ids != nil {
			t.Errorf("Encode(%q) = %v, %v, want %v", c.text, ids, err, c.want)
		}
	}
}

func TestCharRefuses(t *testing.T) {
	for name, want := range map[string]string{
		"p0": "protocol 0", "class": "class", "class2": `"collections.OrderedDict"`, "disagree": `disagree about "b"`,
		"more": "2 characters, itos 3", "twice": "one id", "surrogate": "a character",
		"id": "1099511627776", "negative": "-1", "size": "vocab_size is 2", "empty": "no characters",
		"none": "neither", "list": "not a dict",
	} {
		file := "testdata/meta_bad_" + name + ".pkl"
		tok, err := Char(file)
		if err == nil {
			t.Errorf("%s: no error, %d characters", name, tok.VocabSize())
		} else if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), file) {
			t.Errorf("%s: %v, want %q in it", name, err, want)
		}
	}
	if _, err := Char("testdata/none.pkl"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestCharUnknown decodes entries of several characters, and never encodes them.
func TestCharUnknown(t *testing.T) {
	tok, err := Char("testdata/meta_unk.pkl") // newline, space, a, b, c and <UNK>
	if err != nil {
		t.Fatal(err)
	}
	if s := tok.Decode([]int{2, 5, 3}); s != "a<UNK>b" || tok.VocabSize() != 6 {
		t.Errorf("%q of %d", s, tok.VocabSize())
	}
	if ids, err := tok.Encode("a b"); err != nil || !slices.Equal(ids, []int{2, 1, 3}) {
		t.Errorf("%v, %v", ids, err)
	}
	if ids, err := tok.Encode("a<UNK>"); err == nil {
		t.Errorf("<UNK> is encoded: %v", ids)
	}
}

// hostile are pickles that nothing but malice or chance writes.
func hostile() map[string][]byte {
	u32 := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
	u64 := func(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }
	cases := map[string]string{
		"empty":            "",
		"long string":      "X" + u32(1<<31) + "abc.",
		"very long string": "\x8d" + u64(1<<62) + ".",
		"negative length":  "\x8d" + u64(1<<64-1) + ".",
		"long frame":       "\x80\x04\x95" + u64(1<<40) + "}.",
		"frame in frame":   "\x80\x04\x95" + u64(12) + "\x95" + u64(1) + "}...",
		"split frame":      "\x80\x04\x95" + u64(2) + "K" + "\x01J\x01\x02\x03\x04.",
		"marks":            strings.Repeat("(", 1<<22),
		"dicts":            strings.Repeat("}", 1<<22),
		"lists":            strings.Repeat("]0", 1<<22),
		"tuples":           "N" + strings.Repeat("\x85", 1<<20) + ".",
		"memo":             "N" + strings.Repeat("\x94", 1<<22) + ".",
		"too large":        strings.Repeat("N", maxMetaBytes+1),
		"no mark":          "N1.",
		"odd items":        "}(Nu.",
		"empty long":       "\x8a\x00.",
		"unknown":          "\xff.",
		"nothing":          ".",
		"self":             "}\x94(\x8c\x04itosh\x00u.",
		"self key":         "}\x94(h\x00h\x00\x8c\x04itosh\x00u.",
		"reduce":           "cos\nsystem\n(S'ls'\ntR.",
		"stack global":     "\x8c\x02os\x8c\x06system\x93)R.",
		"inst":             "(ios\nsystem\n.",
		"persistent":       "Pid\n.",
		"extension":        "\x82\x01.",
		"ordered":          "ccollections\nOrderedDict\n)R.",
		"unset memo":       "}(\x8c\x04itosh\x07u.",
	}
	out := map[string][]byte{}
	for name, s := range cases {
		out[name] = []byte(s)
	}
	return out
}

func TestReadMetaHostile(t *testing.T) {
	for name, data := range hostile() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ReadMeta(bytes.NewReader(data))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		// All that is allocated in the course, most of it garbage at once: io.ReadAll grows by a
		// quarter, so reading maxMetaBytes takes some five times as much.
		if n := after.TotalAlloc - before.TotalAlloc; n > 6*maxMetaBytes+maxMetaMemory {
			t.Errorf("%s: %d bytes allocated for %d", name, n, len(data))
		}
	}
}

// TestReadMetaTruncated cuts a file at every byte: only the whole is a vocabulary.
func TestReadMetaTruncated(t *testing.T) {
	for _, name := range []string{"p1", "p2", "p4"} {
		data, err := os.ReadFile("testdata/meta_" + name + ".pkl")
		if err != nil {
			t.Fatal(err)
		}
		for n := range data {
			if _, err := ReadMeta(bytes.NewReader(data[:n])); err == nil {
				t.Errorf("%s: no error for the first %d of %d bytes", name, n, len(data))
			}
		}
	}
}

// TestCharUnicode reads a vocabulary as large as that of all assigned characters, as Python writes it.
func TestCharUnicode(t *testing.T) {
	const n = 150000
	u32 := binary.LittleEndian.AppendUint32
	stoi, itos := []byte("\x8c\x04stoi\x94}\x94("), []byte("\x8c\x04itos\x94}\x94(")
	for i := range n {
		s := string(rune(0x10000 + i))
		stoi = append(append(append(stoi, 0x8c, byte(len(s))), s...), 0x94)
		stoi = u32(append(stoi, 'J'), uint32(i))
		itos = u32(append(itos, 'J'), uint32(i))
		itos = u32(append(itos, 'j'), uint32(i+3)) // after the dict, "stoi" and the dict in it
	}
	data := append(append(append(append([]byte("\x80\x04}\x94("), stoi...), 'u'), itos...), "uu."...)
	tok, err := ReadMeta(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.VocabSize(); got != n {
		t.Errorf("%d characters, want %d", got, n)
	}
}

// FuzzReadMeta checks that a vocabulary that is read spells each of its characters.
func FuzzReadMeta(f *testing.F) {
	files, err := filepath.Glob("testdata/meta_*.pkl")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, data := range hostile() {
		if len(data) < 1000 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := ReadMeta(bytes.NewReader(data))
		if err != nil {
			return
		}
		if n := tok.VocabSize(); n < 1 || n > maxChars {
			t.Fatalf("VocabSize = %d", n)
		}
		for id := range min(tok.VocabSize(), 1000) {
			s := tok.Decode([]int{id})
			if s == "" {
				continue
			}
			if utf8.RuneCountInString(s) > 1 {
				if ids, err := tok.Encode(s); err == nil && slices.Contains(ids, id) {
					t.Fatalf("id %d is %q, which is encoded", id, s)
				}
				continue
			}
			if ids, err := tok.Encode(s); err != nil || !slices.Equal(ids, []int{id}) {
				t.Fatalf("id %d is %q, which encodes to %v, %v", id, s, ids, err)
			}
		}
	})
}

func ExampleChar() {
	tok, err := Char("testdata/meta_p4.pkl") // of tiny Shakespeare
	if err != nil {
		panic(err)
	}
	ids, err := tok.Encode("To be")
	fmt.Println(ids, err)
	_, err = tok.Encode("2B")
	fmt.Println(err)
	// Output:
	// [32 53 1 40 43] <nil>
	// character '2' (U+0032) at byte 0 is not in the vocabulary
}
