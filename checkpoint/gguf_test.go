package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// testdata/gguf was made with the PyPI package gguf, whose dequantizers gave the values.

// open opens a file of the test data until the test ends.
func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// numbersOf returns a tensor of F32 as a slice.
func numbersOf(t *testing.T, f *File, name string) []float32 {
	t.Helper()
	w, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	return w.Float32().Data()
}

// The numbers of every type of blocks are those of the reference, bit for bit, and so is their product with
// three rows, within the roundings of float32.
func TestGGUFBlocks(t *testing.T) {
	before := tensor.Kernel()
	defer tensor.SetKernel(before)
	for _, kernel := range tensor.Kernels() {
		if err := tensor.SetKernel(kernel); err != nil {
			t.Fatal(err)
		}
		t.Run("impl="+kernel, testBlocks)
	}
}

func testBlocks(t *testing.T) {
	f, want := open(t, "testdata/gguf/blocks/blocks.gguf"), open(t, "testdata/gguf/blocks/blocks.safetensors")
	if err := f.Verify(nil); err != nil {
		t.Error(err)
	}
	seen := map[DType]bool{}
	x, err := want.Tensor("x")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range f.Names() {
		w, err := f.Tensor(name)
		if err != nil {
			t.Error(err)
			continue
		}
		seen[w.DType()] = true
		if info, _ := f.Info(name); !slices.Equal(info.Shape, w.Shape()) || !strings.EqualFold(info.DType.String(), strings.Split(name, ".")[0]) {
			t.Errorf("%s is %+v", name, info)
		}
		got, values := w.Float32(), got64(t, want, name+".dot")
		if _, ok := want.Info(name + ".values"); ok {
			for i, v := range numbersOf(t, want, name+".values") {
				if math.Float32bits(v) != math.Float32bits(got.Data()[i]) {
					t.Fatalf("%s: number %d is %g, want %g", name, i, got.Data()[i], v)
				}
			}
		}
		y := tensor.New(x.Dim(0), w.Dim(0))
		tensor.Linear(tensor.Product{Dst: y, X: x.Float32(), W: w})
		for i := range x.Dim(0) {
			for j := range w.Dim(0) {
				sum := 0.0
				for p, v := range got.Row(j) {
					sum += math.Abs(float64(v) * float64(x.Float32().Row(i)[p]))
				}
				want := values[i*w.Dim(0)+j]
				if bound := 1e-6 * sum; !(math.Abs(float64(y.Row(i)[j])-want) <= bound) {
					t.Errorf("%s: product %d, %d is %g, want %g ± %g", name, i, j, y.Row(i)[j], want, bound)
				}
			}
		}
	}
	if len(seen) != 15 {
		t.Errorf("%d types, want 15", len(seen))
	}
}

// got64 returns a tensor of F64 without rounding it.
func got64(t *testing.T, f *File, name string) []float64 {
	t.Helper()
	b, err := f.tensors[name].Packed()
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float64, len(b)/8)
	for i := range x {
		x[i] = math.Float64frombits(binary.NativeEndian.Uint64(b[8*i:]))
	}
	return x
}

// ggufValue is a value as JSON has it, in the form that Value returns.
func ggufValue(kind string, v any) any {
	switch v := v.(type) {
	case json.Number:
		if strings.HasPrefix(kind, "float") {
			x, _ := v.Float64()
			return x
		}
		n, _ := new(big.Int).SetString(v.String(), 10)
		if n.IsInt64() {
			return n.Int64()
		}
		return n
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = ggufValue(strings.TrimPrefix(kind, "array of "), x)
		}
		return out
	}
	return v
}

// Metadata of every type, alignments, version 2, and what tensors there are, mapped and read.
func TestGGUFMetadata(t *testing.T) {
	files, _ := filepath.Glob("testdata/gguf/meta/*.gguf")
	if len(files) < 5 {
		t.Fatalf("files %v", files)
	}
	for _, path := range files {
		var want struct {
			Metadata map[string][2]any
			Tensors  map[string]struct {
				Type   string
				Shape  []int
				Values []float64
			}
		}
		b, err := os.ReadFile(strings.TrimSuffix(path, "gguf") + "json")
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		for _, opts := range [][]Option{nil, {Unmapped()}} {
			f, err := Open(path, opts...)
			if err != nil {
				t.Error(err)
				continue
			}
			if err := f.Verify(nil); err != nil || f.Format() != GGUF {
				t.Errorf("%s: %v, %v", path, f.Format(), err)
			}
			all, _ := f.Value()
			if n := len(all.(map[string]any)); n != len(want.Metadata) {
				t.Errorf("%s: %d values, want %d", path, n, len(want.Metadata))
			}
			for key, entry := range want.Metadata {
				got, ok := f.Value(key)
				if v := ggufValue(entry[0].(string), entry[1]); !ok || !reflect.DeepEqual(got, v) {
					t.Errorf("%s: %s is %#v, want %#v", path, key, got, v)
				}
			}
			if len(f.Names()) != len(want.Tensors) {
				t.Errorf("%s: tensors %v", path, f.Names())
			}
			for name, w := range want.Tensors {
				got, err := f.Tensor(name)
				if err != nil {
					t.Error(err)
					continue
				}
				if !slices.Equal(got.Shape(), w.Shape) || !strings.EqualFold(got.DType().String(), w.Type) {
					t.Errorf("%s: %s is %v %v", path, name, got.DType(), got.Shape())
				}
				for i, v := range got.Float32().Data() {
					if float64(v) != w.Values[i] {
						t.Errorf("%s: number %d of %s is %g, want %g", path, i, name, v, w.Values[i])
					}
				}
			}
			f.Close()
		}
	}
}

// ggufModels are hostile files that are sound as files: what is wrong is for the model to find.
var ggufModels = []string{
	"missing_tensor", "wrong_shape", "no_architecture", "architecture_llama", "no_block_count", "block_count_huge", "head_size_0", "embedding_string",
}

// TestHostileGGUF opens files that must be refused, without allocating by what they claim.
func TestHostileGGUF(t *testing.T) {
	var cases []struct {
		File  string
		Must  string
		Words []string `json:"error_should_name"`
	}
	readJSON(t, "testdata/gguf/hostile/cases.json", &cases)
	for _, c := range cases {
		for _, opts := range [][]Option{nil, {Unmapped()}} {
			path := filepath.Join("testdata/gguf/hostile", c.File)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			var got error
			spent := allocated(func() {
				f, err := Open(path, opts...)
				if got = err; err == nil {
					got = f.Verify(nil)
					f.Close()
				}
			})
			if limit := 3<<20 + 16*info.Size(); spent > limit {
				t.Errorf("%s: %d bytes allocated for a file of %d", c.File, spent, info.Size())
			}
			if slices.Contains(ggufModels, strings.TrimSuffix(c.File, ".gguf")) {
				if got != nil {
					t.Errorf("%s: error %v, want none from this package", c.File, got)
				}
				continue
			}
			if got == nil && c.Must == "error" {
				t.Errorf("%s: no error", c.File)
			}
			for _, word := range append(c.Words, c.File) {
				if got != nil && !strings.Contains(got.Error(), word) {
					t.Errorf("%s: error %q doesn't name %q", c.File, got, word)
				}
			}
		}
	}
}

// Files that are cut short or have a bit turned over give an error or a result.
func TestBrokenGGUF(t *testing.T) {
	b, err := os.ReadFile("testdata/gguf/meta/kinds.gguf")
	if err != nil {
		t.Fatal(err)
	}
	last := open(t, "testdata/gguf/meta/kinds.gguf")
	end := int64(0)
	for _, x := range last.tensors {
		end = max(end, x.Rec.Off+x.Rec.Size)
	}
	for n := range end {
		if _, err := OpenBytes("cut", b[:n:n]); err == nil {
			t.Errorf("no error when cut to %d of %d bytes", n, end)
		}
	}
	for bit := range 8 * len(b) {
		b[bit/8] ^= 1 << (bit % 8)
		checkBroken(b)
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// checkBroken opens a file and reads all of it.
func checkBroken(b []byte) {
	f, err := OpenBytes("broken.gguf", b)
	if err != nil {
		return
	}
	f.Verify(nil)
	for _, name := range f.Names() {
		f.Tensor(name)
	}
	f.Value()
}

func FuzzGGUF(f *testing.F) {
	files, _ := filepath.Glob("testdata/gguf/meta/*.gguf")
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if spent := allocated(func() { checkBroken(b) }); spent > 1<<20+64*int64(len(b)) {
			t.Errorf("%d bytes allocated for a file of %d", spent, len(b))
		}
	})
}

// ggufFile makes a file of one entry and one tensor.
func ggufFile(entry, info []byte, n int) []byte {
	b := []byte("GGUF\x03\x00\x00\x00")
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = append(append(b, entry...), info...)
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, n)...)
}

func ggufText(s string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
}

func ggufNumbers(x ...uint32) (b []byte) {
	for _, n := range x {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// What the golden files don't have.
func TestRefusedGGUF(t *testing.T) {
	info := func(id uint32, dim uint32) []byte {
		return append(ggufText("w"), ggufNumbers(1, dim, 0, id, 0, 0)...)
	}
	entry := func(key string, x ...uint32) []byte { return append(ggufText(key), ggufNumbers(x...)...) }
	plain := entry("a", 4, 1)
	for _, c := range []struct {
		name string
		file []byte
		want string // "" for a sound file
	}{
		{"sound", ggufFile(plain, info(0, 8), 32), ""},
		{"last padding missing", ggufFile(plain, info(0, 2), 8), ""},
		{"data missing", ggufFile(plain, info(0, 8), 31), `"w"`},
		{"split", ggufFile(entry("split.count", 4, 2), info(0, 8), 32), "split.count"},
		{"one part", ggufFile(entry("split.count", 4, 1), info(0, 8), 32), ""},
		{"type −1", ggufFile(plain, info(math.MaxUint32, 8), 32), "-1"},
		{"MXFP4", ggufFile(plain, info(39, 32), 32), "MXFP4"},
		{"dead Q4_0_4_4", ggufFile(plain, info(31, 32), 32), "removed"},
		{"rows of half blocks", ggufFile(plain, info(8, 48), 64), "whole blocks"},
		{"alignment 6", ggufFile(entry("general.alignment", 4, 6), info(0, 8), 32), "general.alignment"},
	} {
		f, err := OpenBytes("x.gguf", c.file)
		if err == nil {
			err = f.Verify(nil)
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	// The scale of the second block, of the second row.
	file := ggufFile(plain, append(ggufText("w"), ggufNumbers(2, 64, 0, 2, 0, 8, 0, 0)...), 4*34)
	binary.LittleEndian.PutUint16(file[len(file)-34:], 0x7c00)
	f, err := OpenBytes("x.gguf", file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(nil); err == nil || !strings.Contains(fmt.Sprint(err), "element [1 32] on has the scale +Inf") {
		t.Errorf("an infinite scale: %v", err)
	}
}

// Rounding to blocks gives the reference's bytes, or for the types that a search decides its error, within
// 2%.
func TestQuantizeAsReference(t *testing.T) {
	var info struct {
		Types map[string]struct {
			Exactly bool      `json:"quantize_exactly"`
			Error   []float64 `json:"fit_rms_error_per_row"`
		}
	}
	readJSON(t, "testdata/gguf/blocks/blocks.json", &info)
	f, want := open(t, "testdata/gguf/blocks/blocks.gguf"), open(t, "testdata/gguf/blocks/blocks.safetensors")
	for name, c := range info.Types {
		fit, err := f.Tensor(name + ".fit")
		if err != nil {
			continue
		}
		d := fit.DType()
		if !d.Quantizes() && d != F16 && d != BF16 {
			continue
		}
		source, err := want.Tensor(name + ".fit.source")
		if err != nil {
			t.Error(err)
			continue
		}
		got := source.Convert(d)
		if c.Exactly && !bytes.Equal(got.Bytes(), fit.Bytes()) {
			t.Errorf("%s: other bytes than the reference's", name)
		}
		x, y := source.Float32(), got.Float32()
		for r := range x.Dim(0) {
			sum := 0.0
			for i, v := range x.Row(r) {
				e := float64(v) - float64(y.Row(r)[i])
				sum += e * e
			}
			if e := math.Sqrt(sum / float64(x.Dim(1))); !(e <= 1.02*c.Error[r]+1e-12) {
				t.Errorf("%s: row %d has the error %g, the reference %g", name, r, e, c.Error[r])
			}
		}
	}
}
