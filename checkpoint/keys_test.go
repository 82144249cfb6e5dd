package checkpoint

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint/pickle"
	"microrwkv/tensor"
)

// TestKeys shows keys that aren't strings as Python writes them, and none of two that look alike is lost.
func TestKeys(t *testing.T) {
	d := &pickle.Dict{
		Keys:   []any{"None", nil, true, "True", int64(1), "1", 1.5, pickle.Tuple{"a", int64(0)}, pickle.Tuple{"a"}, "it's", []byte{1}, []byte{2}},
		Values: []any{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
	}
	want := []string{"'None'", "None", "True", "'True'", "1", "'1'", "1.5", "('a', 0)", "('a',)", "it's", "a value of some other type", "a value of some other type #2"}
	if got := keyTexts(d); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for i, key := range want {
		if v, ok := lookup(d, []string{key}); !ok || v != d.Values[i] {
			t.Errorf("%s: %v, want %v", key, v, d.Values[i])
		}
	}
	f, err := Open("../rwkv/testdata/found/tuple_keys.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Names()) != 2 || !slices.Contains(f.Names(), "('a', 0)") || !slices.Contains(f.Names(), "('a', 1)") {
		t.Errorf("%q", f.Names())
	}
	shared := pickle.Tuple{strings.Repeat("x", 1<<20)}
	if n := len(keyRepr(pickle.Tuple{shared, shared})); n > 1000 {
		t.Errorf("%d bytes of a key", n)
	}
}

// TestKeyOfATuple says what the keys of a tuple are.
func TestKeyOfATuple(t *testing.T) {
	f := &File{}
	root := pickle.Tuple{&pickle.Dict{}, int64(3)}
	if err := f.selectTensors(root, &options{key: []string{"model"}}); err == nil || !strings.Contains(err.Error(), "a tuple of 2") || !strings.Contains(err.Error(), "numbers from 0") {
		t.Error(err)
	}
}

// TestOpaque opens files with unknown classes beside the weights, and shows them as what they are.
func TestOpaque(t *testing.T) {
	for file, want := range map[string]string{
		"class_as_key.ckpt": "EarlyStopping", "enum_beside.pt": "AttnMaskType", "optimizer_object.pt": "torch.optim.sgd.SGD",
	} {
		path := "../rwkv/testdata/found/" + file
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "--opaque") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
		f, err := Open(path, Opaque())
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		all, _ := f.Value()
		if s := fmt.Sprint(all); !strings.Contains(s, want) {
			t.Errorf("%s: %s isn't in %.300s", file, want, s)
		}
		if err := f.Verify(nil); err != nil {
			t.Error(err)
		}
		f.Close()
	}
}

// TestVerifyFromTheMiddle finds what isn't finite in a file without checksums whose floats begin in the
// middle of a block that is checked at a time, and end before the next one does.
func TestVerifyFromTheMiddle(t *testing.T) {
	for _, from := range []int{1, 1000, checkBlock/4 - 1, checkBlock / 4, checkBlock/4 + 1, checkBlock/4 + 1000} {
		for _, at := range []int{0, 10} {
			ints := tensor.New(from) // written as what isn't searched: its own tensor comes first
			floats := tensor.New(checkBlock/4 + 20)
			floats.Data()[at] = float32(math.NaN())
			path := filepath.Join(t.TempDir(), "m.safetensors")
			if err := WriteSafetensors(path, []Named{{Name: "a", Tensor: ints.Weight()}, {Name: "b", Tensor: floats.Weight()}}, nil); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Verify(nil, "b"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("[%d]", at)) {
				t.Errorf("NaN at %d of a tensor that begins at %d: %v", at, from, err)
			}
			if err := f.Verify(nil, "a"); err != nil {
				t.Error(err)
			}
			f.Close()
		}
	}
}
