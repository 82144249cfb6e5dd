package checkpoint

import (
	"bytes"
	"math"
	"math/big"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// What is written is read back: every type of blocks, metadata of every type, in GGUF and, the tensors, in
// safetensors.
func TestWriteGGUF(t *testing.T) {
	f := open(t, "testdata/gguf/blocks/blocks.gguf")
	values := map[string]any{
		"general.architecture": "test", "b": true, "n": 7, "minus": -3, "large": int64(1) << 40, "least": int64(math.MinInt64), "huge": new(big.Int).SetUint64(math.MaxUint64),
		"f": 0.5, "d": 0.1, "texts": []any{"", "a\x00β"}, "ints": []any{1, int64(-2)}, "wide": []any{1, int64(1) << 33}, "floats": []any{0.5, 0.1}, "none": []any{}, "flags": []any{true, false},
	}
	var list []Named
	for _, name := range f.Names() {
		w, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Named{name, w})
	}
	list = append(list, Named{"odd", tensor.FromSlice([]float32{1, 2, 3}, 3, 1, 1).Weight()})
	dir := t.TempDir()
	for _, ext := range []string{".gguf", ".safetensors"} {
		path := filepath.Join(dir, "a"+ext)
		if err := Write(path, list, values); err != nil && ext == ".gguf" {
			t.Fatal(err)
		} else if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, "copy"+ext)
		if err := Convert(copied, open(t, path)); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{path, copied} {
			g := open(t, path)
			if err := g.Verify(nil); err != nil {
				t.Error(err)
			}
			for _, n := range list {
				w, err := g.Tensor(n.Name)
				if err != nil {
					t.Error(err)
					continue
				}
				if w.DType() != n.Tensor.DType() || !reflect.DeepEqual(w.Shape(), n.Tensor.Shape()) || !bytes.Equal(w.Bytes(), n.Tensor.Bytes()) {
					t.Errorf("%s: %s became %v %v", path, n.Name, w.DType(), w.Shape())
				}
			}
			for key, want := range values {
				switch v := want.(type) {
				case int:
					want = int64(v)
				case []any:
					plain := make([]any, len(v))
					for i, x := range v {
						if n, ok := x.(int); ok {
							x = int64(n)
						}
						plain[i] = x
					}
					want = plain
				}
				if got, _ := g.Value(key); !reflect.DeepEqual(got, want) && !(ext == ".safetensors" && key == "huge") {
					t.Errorf("%s: %s is %#v, want %#v", path, key, got, want)
				}
			}
		}
	}
}

func TestWriteGGUFErrors(t *testing.T) {
	w := tensor.New(2, 32).Weight()
	path := filepath.Join(t.TempDir(), "a.gguf")
	for want, c := range map[string]struct {
		name   string
		values map[string]any
		opts   []WriteOption
	}{
		"at most 63 bytes": {name: strings.Repeat("n", 64)},
		`value "m"`:        {name: "w", values: map[string]any{"m": map[string]any{"a": 1}}},
		"several types":    {name: "w", values: map[string]any{"l": []any{1, "a"}}},
		"rwkv.Quantize":    {name: "w", opts: []WriteOption{As(Q8_0)}},
	} {
		if err := Write(path, []Named{{c.name, w}}, c.values, c.opts...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := Write(filepath.Join(t.TempDir(), "a.pt"), []Named{{"w", w.Convert(Q8_0)}}, nil); err == nil || !strings.Contains(err.Error(), "q8_0") {
		t.Errorf("blocks for PyTorch: %v", err)
	}
	half := filepath.Join(t.TempDir(), "a.pt")
	if err := Write(half, []Named{{"w", w.Convert(Q8_0)}}, nil, As(F16)); err != nil {
		t.Error(err)
	}
	if got, err := open(t, half).Tensor("w"); err != nil || got.DType() != F16 || !reflect.DeepEqual(got.Shape(), []int{2, 32}) {
		t.Errorf("blocks as f16: %v, %v", got, err)
	}
}

// Safetensors that say of bytes that they are blocks.
func TestSafetensorsBlocks(t *testing.T) {
	for _, c := range []struct{ format, shape, want string }{
		{"q8_0", "[2,34]", ""}, {"q8_0", "[2,33]", `"w"`}, {"q9", "[2,34]", "q9"}, {"q8_0", "[]", `"w"`},
	} {
		n := map[string]int{"[2,34]": 68, "[2,33]": 66, "[]": 1}[c.shape]
		header := `{"__metadata__":{"quantization":"{\"w\":\"` + c.format + `\"}"},"w":{"dtype":"U8","shape":` + c.shape + `,"data_offsets":[0,` + big.NewInt(int64(n)).String() + `]}}`
		f, err := OpenBytes("x.safetensors", safe(header, n))
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s of %s: error %v", c.shape, c.format, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if w, err := f.Tensor("w"); err != nil || w.DType() != Q8_0 || w.Dim(1) != 32 {
			t.Errorf("%v, %v", w, err)
		}
	}
}
