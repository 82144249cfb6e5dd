package checkpoint

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/tensor"
)

// stranger is what testdata/make.py knows of a file that PyTorch wrote.
type stranger struct {
	Tensors map[string]struct {
		DType string
		Shape []int
		Data  string
	}
	Values map[string]any
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// TestTorch reads what PyTorch makes of all sorts of tensors and values, and compares every
// element's bits.
func TestTorch(t *testing.T) { testTorch(t, "testdata/torch") }

func testTorch(t *testing.T, dir string) {
	var expect map[string]stranger
	readJSON(t, filepath.Join(dir, "expect.json"), &expect)
	for file, want := range expect {
		for _, how := range []struct {
			name string
			opts []Option
		}{{"mapped", nil}, {"read", []Option{Unmapped()}}} {
			t.Run(file+"/"+how.name, func(t *testing.T) {
				f, err := Open(filepath.Join(dir, file), how.opts...)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				compare(t, f, want)
				if err := f.Verify(nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// compare checks a file's tensors and values.
func compare(t *testing.T, f *File, want stranger) {
	t.Helper()
	if len(f.Names()) != len(want.Tensors) {
		t.Errorf("tensors %v, want %d", f.Names(), len(want.Tensors))
	}
	for name, w := range want.Tensors {
		info, ok := f.Info(name)
		if !ok {
			t.Errorf("no tensor %q", name)
			continue
		}
		if info.DType.String() != w.DType || !slices.Equal(info.Shape, w.Shape) {
			t.Errorf("%s: %v %v, want %s %v", name, info.DType, info.Shape, w.DType, w.Shape)
		}
		b, err := f.tensors[name].Packed()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := hex.EncodeToString(b); got != w.Data {
			t.Errorf("%s: bytes %s, want %s", name, got, w.Data)
		}
		x, err := f.Tensor(name)
		if !store.IsWeight(info.DType) {
			if err == nil || !strings.Contains(err.Error(), w.DType) {
				t.Errorf("%s: error %v, want one that names %s", name, err, w.DType)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if want := max(1, len(w.Shape)); len(x.Shape()) != want || x.Len() != len(b)/int(store.Size(info.DType)) {
			t.Errorf("%s: Tensor has shape %v, want %v", name, x.Shape(), w.Shape)
		}
		for i, v := range x.Float32().Data() {
			if want := float32(store.Float(b, i, info.DType)); v != want {
				t.Errorf("%s: element %d is %v, want %v", name, i, v, want)
				break
			}
		}
	}
	for key, w := range want.Values {
		got, ok := f.Value(key)
		if !ok || !reflect.DeepEqual(viaJSON(t, got), w) {
			t.Errorf("Value(%q) = %#v, %v, want %#v", key, got, ok, w)
		}
	}
}

// viaJSON makes values comparable with those of expect.json.
func viaJSON(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestValueTypes checks the Go types that Python's become, which JSON doesn't tell.
func TestValueTypes(t *testing.T) {
	for _, file := range []string{"values_protocol2.pt", "values_protocol5.pt", "values_legacy.pt"} {
		f, err := Open("testdata/torch/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{
			"f8": 2.5, "f4": 0.5, "f2": 0.25, "i8": int64(-9), "u4": int64(4000000000), "b": true,
			"tuple": []any{int64(1), []any{int64(2), int64(3)}}, "set": []any{int64(5)}, "dtype": "torch.bfloat16",
			"device": "cuda:1", "size": []any{int64(2), int64(3)}, "loss": 1.5, "step": int64(12), "yes": true,
			"default": map[string]any{"k": []any{int64(1)}},
		} {
			if got, ok := f.Value(key); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: Value(%q) = %#v, %v, want %#v", file, key, got, ok, want)
			}
		}
		if got, ok := f.Value("intkeys", "-1"); !ok || got != "minus" {
			t.Errorf("%s: integer key: %v, %v", file, got, ok)
		}
		if _, ok := f.Value("tuple", "x"); ok {
			t.Errorf("%s: a key of a tuple was found", file)
		}
		f.Close()
	}
	f, err := Open("testdata/torch/arrays.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if raw, _ := f.Value("raw"); !reflect.DeepEqual(raw, []byte("\x00\xff\x80")) {
		t.Errorf("bytes are %#v", raw)
	}
	if n, _ := f.Value("uint64"); fmt.Sprint(n) != "18446744073709551615" {
		t.Errorf("2⁶⁴-1 is %v", n)
	}
	if a, _ := f.Value("array"); a != "a numpy.ndarray" {
		t.Errorf("an array is %v", a)
	}
}

// TestFormats reads the weights of one model in every encoding, and compares them with the file in
// plain float32, within what the encoding's precision loses.
func TestFormats(t *testing.T) {
	want, err := Open("testdata/formats/zip_f32.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	files, err := filepath.Glob("testdata/formats/*.*t*")
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			seen := 0
			for _, stored := range f.Names() {
				name := TrimPrefixes(stored)
				x, err := f.Tensor(stored)
				if err != nil {
					t.Fatal(err)
				}
				w, err := want.Tensor(name)
				if err != nil {
					t.Fatal(err)
				}
				seen++
				// Half a unit in the last place of the stored precision, relative; half
				// precision also has its subnormals.
				rel, abs := 0.0, 0.0
				switch x.DType() {
				case tensor.BF16:
					rel = 0x1p-8
				case tensor.F16:
					rel, abs = 0x1p-11, 0x1p-25
				}
				if !slices.Equal(x.Shape(), w.Shape()) {
					t.Fatalf("%s: shape %v, want %v", name, x.Shape(), w.Shape())
				}
				for i, got := range x.Float32().Data() {
					v := float64(w.Float32().Data()[i])
					if math.Abs(float64(got)-v) > rel*math.Abs(v)+abs {
						t.Fatalf("%s: element %d is %v, want %v", name, i, got, v)
					}
				}
			}
			if n := len(want.Names()); seen != n && seen != n-1 { // lm_head may be left out
				t.Errorf("%d tensors, want %d", seen, n)
			}
			if err := f.Verify(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestViews checks that tensors are views of the mapping, wherever their bytes allow it.
func TestViews(t *testing.T) {
	for _, file := range []string{"zip_f32.pt", "zip_bf16.pt", "zip_f16.pt", "one_storage.pt", "legacy_f32.pt", "legacy_bf16.pt", "model.safetensors"} {
		f, err := Open("testdata/formats/" + file)
		if err != nil {
			t.Fatal(err)
		}
		src := f.sources[0]
		if src.Data == nil {
			t.Logf("no mapping on %s", runtime.GOOS)
			f.Close()
			return
		}
		for _, name := range f.Names() {
			var tensors [2]*tensor.Weight
			allocs := testing.AllocsPerRun(1, func() { tensors[0], err = f.Tensor(name) })
			if err != nil {
				t.Fatal(err)
			}
			if tensors[1], err = f.Tensor(name); err != nil {
				t.Fatal(err)
			}
			a, b := tensors[0].Bytes(), tensors[1].Bytes()
			if &a[0] != &b[0] && store.Unaligned {
				t.Errorf("%s: %s is a copy (%v allocations)", file, name, allocs)
			}
		}
		f.Close()
	}
}

// TestTied checks that tied weights show as the same data.
func TestTied(t *testing.T) {
	for file, want := range map[string]bool{
		"formats/zip_f32.pt": true, "formats/legacy_f32.pt": true, "formats/untied.pt": false, "formats/transposed.pt": false, "torch/tied.safetensors": true,
	} {
		f, err := Open("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		a, ok := f.Info("lm_head.weight")
		b, ok2 := f.Info("transformer.wte.weight")
		if !ok2 {
			b, ok2 = f.Info("wte.weight")
		}
		if !ok || !ok2 || a.SameData(b) != want {
			t.Errorf("%s: SameData = %v, want %v (%+v, %+v)", file, a.SameData(b), want, a, b)
		}
		f.Close()
	}
}

// TestKey selects one of several state_dicts.
func TestKey(t *testing.T) {
	f, err := Open("testdata/torch/nested.pt", Key("state_dict", "enc", "deep"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Names(); !slices.Equal(got, []string{"x"}) {
		t.Errorf("names %v", got)
	}
	if _, err := Open("testdata/torch/nested.pt", Key("ema")); err == nil || !strings.Contains(err.Error(), `"ema"`) || !strings.Contains(err.Error(), `"state_dict"`) {
		t.Errorf("error %v, want one that names the key and what there is", err)
	}
}

// TestOpenBytes opens a file in memory, at any address.
func TestOpenBytes(t *testing.T) {
	b, err := os.ReadFile("testdata/formats/mixed.pt")
	if err != nil {
		t.Fatal(err)
	}
	want, err := OpenBytes("embedded", b)
	if err != nil {
		t.Fatal(err)
	}
	moved := append(make([]byte, 1, len(b)+1), b...)[1:]
	f, err := OpenBytes("embedded", moved)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(nil); err != nil {
		t.Error(err)
	}
	for _, name := range f.Names() {
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := want.Tensor(name)
		if !slices.Equal(x.Float32().Data(), w.Float32().Data()) {
			t.Errorf("%s differs at an odd address", name)
		}
	}
	if _, err := f.Tensor("nope"); err == nil || !strings.HasPrefix(err.Error(), `embedded: tensor "nope"`) {
		t.Errorf("error %v", err)
	}
}
