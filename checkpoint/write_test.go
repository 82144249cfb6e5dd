package checkpoint

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/tensor"
)

// TestHalf rounds every binary16 and bfloat16, everything half way between two of them, and
// neighbours of those.
func TestHalf(t *testing.T) {
	for _, c := range []struct {
		name  string
		widen func(uint16) float32
		round func(float32) uint16
		inf   uint16
	}{{"f16", store.HalfToFloat, tensor.RoundF16, 0x7c00}, {"bf16", store.BfloatToFloat, tensor.RoundBF16, 0x7f80}} {
		for h := uint16(0); h < c.inf; h++ {
			x := c.widen(h)
			if got := c.round(x); got != h {
				t.Fatalf("%s: %#x is %v, which rounds to %#x", c.name, h, x, got)
			}
			if got := c.round(-x); got != h|0x8000 {
				t.Fatalf("%s: -%v rounds to %#x", c.name, x, got)
			}
			up := float64(c.widen(h + 1))
			if h+1 == c.inf { // as if exponents went on
				up = 2*float64(x) - float64(c.widen(h-1))
			}
			mid := float32((float64(x) + up) / 2) // exact
			even := h + h&1
			if got := c.round(mid); got != even {
				t.Fatalf("%s: %v, half way from %#x, rounds to %#x, want %#x", c.name, mid, h, got, even)
			}
			if got := c.round(math.Nextafter32(mid, 0)); got != h && mid > 0 {
				t.Fatalf("%s: below %v: %#x, want %#x", c.name, mid, got, h)
			}
			if got := c.round(math.Nextafter32(mid, float32(math.Inf(1)))); got != h+1 {
				t.Fatalf("%s: above %v: %#x, want %#x", c.name, mid, got, h+1)
			}
		}
		for _, x := range []float32{float32(math.Inf(1)), math.MaxFloat32} {
			if got := c.round(x); got != c.inf {
				t.Errorf("%s: %v rounds to %#x, want %#x", c.name, x, got, c.inf)
			}
		}
		for _, bits := range []uint32{0x7fc00000, 0x7f800001, 0xffffffff} {
			if x := c.widen(c.round(math.Float32frombits(bits))); x == x {
				t.Errorf("%s: NaN %#x becomes %v", c.name, bits, x)
			}
		}
	}
}

// TestConvert writes every file that can be read in both formats, reads that again, and compares
// bits, values and which tensors are tied.
func TestConvert(t *testing.T) {
	files, _ := filepath.Glob("testdata/torch/*.*t*")
	more, _ := filepath.Glob("testdata/formats/*.*t*")
	for _, path := range append(append(files, more...), "testdata/torch/pytorch_model.bin.index.json") {
		if strings.HasSuffix(path, ".json") && !strings.HasSuffix(path, ".index.json") || notAll(path) {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel() // each file that is written waits for the disk
			testConvert(t, path)
		})
	}
}

func testConvert(t *testing.T, path string) {
	dir := t.TempDir()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, ext := range []string{".pt", ".safetensors"} {
		out := filepath.Join(dir, "out"+ext)
		if dtype := noSafetensors(path, ext); dtype != "" {
			if err := Convert(out, f); err == nil || !strings.Contains(err.Error(), dtype) {
				t.Errorf("error %v, want one that names %s", err, dtype)
			}
			continue
		}
		if err := Convert(out, f); err != nil {
			t.Fatalf("to %s: %v", ext, err)
		}
		g, err := Open(out)
		if err != nil {
			t.Fatalf("to %s: %v", ext, err)
		}
		sameFile(t, "to "+ext, f, g)
		back := filepath.Join(dir, "back.pt")
		if err := Convert(back, g); err != nil {
			t.Fatal(err)
		}
		h, err := Open(back)
		if err != nil {
			t.Fatal(err)
		}
		sameFile(t, "to "+ext+" and back", f, h)
		g.Close()
		h.Close()
	}
}

// notAll reports whether a file can't be converted as it is: it has no state_dict, or tensors in it
// that can't be written.
func notAll(path string) bool {
	base := filepath.Base(path)
	return base == "in_list.pt" || strings.HasSuffix(base, "_special.pt")
}

// noSafetensors returns a type that a file has and safetensors lacks.
func noSafetensors(path, ext string) string {
	return map[string]string{"complex128.pt.safetensors": "complex128", "rare.pt.safetensors": "complex32"}[filepath.Base(path)+ext]
}

func sameFile(t *testing.T, what string, f, g *File) {
	t.Helper()
	if err := g.Verify(nil); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	names, got := slices.Sorted(slices.Values(f.Names())), slices.Sorted(slices.Values(g.Names()))
	if !slices.Equal(names, got) {
		t.Errorf("%s: names %v, want %v", what, got, names)
		return
	}
	for i, name := range names {
		a, b := f.tensors[name], g.tensors[name]
		x, err := a.Packed()
		y, err2 := b.Packed()
		if err != nil || err2 != nil || a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) || !bytes.Equal(x, y) {
			t.Errorf("%s: %s differs (%v %v, %v %v; %v, %v)", what, name, a.DType, a.Shape, b.DType, b.Shape, err, err2)
		}
		for _, other := range names[:i] {
			in, _ := f.Info(name)
			jn, _ := f.Info(other)
			ig, _ := g.Info(name)
			jg, _ := g.Info(other)
			if in.SameData(jn) && !ig.SameData(jg) {
				t.Errorf("%s: %s and %s are tied no more", what, name, other)
			}
		}
	}
	for _, key := range []string{"model_args", "config", "iter_num", "best_val_loss", "variant", "tuple", "list", "lr", "ns", "long", "yes"} {
		v, ok := f.Value(key)
		w, ok2 := g.Value(key)
		if ok != ok2 || !reflect.DeepEqual(v, w) {
			t.Errorf("%s: Value(%q) = %#v, %v, want %#v, %v", what, key, w, ok2, v, ok)
		}
	}
}

// TestConvertDType rounds the float tensors of a file, and only those.
func TestConvertDType(t *testing.T) {
	f, err := Open("testdata/torch/integers.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		out := filepath.Join(t.TempDir(), "out.pt")
		var done, total int64
		if err := Convert(out, f, As(d), OnProgress(func(d, t int64) { done, total = d, t })); err != nil {
			t.Fatal(err)
		}
		if done != total || total == 0 {
			t.Errorf("progress ended at %d of %d", done, total)
		}
		g, err := Open(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range f.Names() {
			want, _ := f.Info(name)
			got, _ := g.Info(name)
			if name != "w" {
				if got.DType != want.DType {
					t.Errorf("%s became %v", name, got.DType)
				}
				continue
			}
			x, err := f.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			y, err := g.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			if y.DType() != d {
				t.Errorf("%s is %v, want %v", name, y.DType(), d)
			}
			for i, v := range x.Float32().Data() {
				w := v
				switch d {
				case tensor.BF16:
					w = store.BfloatToFloat(tensor.RoundBF16(v))
				case tensor.F16:
					w = store.HalfToFloat(tensor.RoundF16(v))
				}
				if got := y.Float32().Data()[i]; got != w {
					t.Errorf("%s: element %d is %v, want %v", name, i, got, w)
				}
			}
		}
		g.Close()
	}
}

// TestWrite writes tensors of a program, views with gaps among them.
func TestWrite(t *testing.T) {
	big := tensor.New(4, 6)
	for i := range big.Data() {
		big.Data()[i] = float32(i) + 0.5
	}
	bits := tensor.FromBits(tensor.BF16, []uint16{0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0}, 2, 3)
	named := []Named{{"big", big.Weight()}, {"tied", big.Weight()}, {"cols", big.Cols(1, 3).Weight()}, {"bits", bits}, {"bitrows", bits.Rows(1, 2)}, {"rows", big.Rows(1, 2).Weight()}, {"none", tensor.New(0, 3).Weight()}}
	values := map[string]any{
		"model_args": map[string]any{"n_layer": 2, "dropout": 0.0, "bias": false}, "config": map[string]any{}, "iter_num": int64(1 << 40), "loss": math.Inf(1),
		"variant": "causal", "text": "12", "quote": `"x"`, "list": []any{nil, true, -1, "é"}, "empty": []any{},
	}
	for _, ext := range []string{".pt", ".safetensors"} {
		path := filepath.Join(t.TempDir(), "out"+ext)
		write := WritePT
		if ext == ".safetensors" {
			write = WriteSafetensors
		}
		if err := write(path, named, values); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range named {
			got, err := f.Tensor(n.Name)
			if err != nil {
				t.Fatal(err)
			}
			if got.DType() != n.Tensor.DType() || got.String() != n.Tensor.String() || !slices.Equal(got.Shape(), n.Tensor.Shape()) {
				t.Errorf("%s: %s is %v, want %v", ext, n.Name, got, n.Tensor)
			}
		}
		a, _ := f.Info("big")
		b, _ := f.Info("tied")
		if !a.SameData(b) {
			t.Errorf("%s: tied tensors are stored twice", ext)
		}
		for key, want := range map[string]any{
			"variant": "causal", "text": "12", "quote": `"x"`, "iter_num": int64(1 << 40), "list": []any{nil, true, int64(-1), "é"}, "empty": []any{},
			"model_args": map[string]any{"n_layer": int64(2), "dropout": 0.0, "bias": false},
		} {
			if got, ok := f.Value(key); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: Value(%q) = %#v, %v, want %#v", ext, key, got, ok, want)
			}
		}
		f.Close()
	}
}

// TestAlignment checks that a zip's records begin at multiples of 64 bytes, so that they can be
// mapped, and that other programs find the zip whole.
func TestAlignment(t *testing.T) {
	f, err := Open("testdata/formats/mixed.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := filepath.Join(t.TempDir(), "out.pt")
	if err := Convert(path, f); err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, e := range z.File {
		if off, err := e.DataOffset(); err != nil || off%alignment != 0 || e.Method != zip.Store {
			t.Errorf("%s at %d, method %d, %v", e.Name, off, e.Method, err)
		}
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil { // checks the CRC
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

// TestWriteErrors refuses what can't be written, and leaves nothing behind, and the file that was
// there as it was.
func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.pt")
	if err := os.WriteFile(path, []byte("before"), 0o640); err != nil {
		t.Fatal(err)
	}
	one := tensor.FromSlice([]float32{1, 1e6}, 2).Weight()
	for _, c := range []struct {
		tensors []Named
		values  map[string]any
		opts    []WriteOption
		want    string
	}{
		{[]Named{{"a", one}, {"a", one}}, nil, nil, `"a"`},
		{[]Named{{"", one}}, nil, nil, "without a name"},
		{[]Named{{"a", one}}, map[string]any{"model": 1}, nil, "model"},
		{[]Named{{"a", one}}, map[string]any{"x": make(chan int)}, nil, "chan int"},
		{[]Named{{"a", one}}, nil, []WriteOption{As(tensor.F16)}, "1e+06 is too large for f16"},
	} {
		err := WritePT(path, c.tensors, c.values, c.opts...)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "out.pt") {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "before" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := WritePT(path, []Named{{"a", one}}, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
		t.Errorf("permissions %v, %v, want those before", info.Mode(), err)
	}
	if err := Convert(filepath.Join(dir, "out.xyz"), &File{}); err == nil || !strings.Contains(err.Error(), ".xyz") {
		t.Errorf("error %v", err)
	}
	if err := WritePT(filepath.Join(dir, "none", "out.pt"), nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// TestVerify finds what is wrong with single tensors, wherever it is, and all of it.
func TestVerify(t *testing.T) {
	nan := float32(math.NaN())
	n := checkBlock/4 + 7
	a, b, c := tensor.New(3, n), tensor.New(5), tensor.New(2, 2)
	a.Data()[2*n+3], a.Data()[2*n+4] = nan, nan
	c.Data()[2] = float32(math.Inf(-1))
	for _, ext := range []string{".pt", ".safetensors"} {
		path := filepath.Join(t.TempDir(), "bad"+ext)
		write := WritePT
		if ext == ".safetensors" {
			write = WriteSafetensors
		}
		if err := write(path, []Named{{"a", a.Weight()}, {"b", b.Weight()}, {"c", c.Weight()}}, nil); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var last, total int64
		err = f.Verify(func(d, n int64) {
			if d < last {
				t.Errorf("progress went from %d to %d", last, d)
			}
			last, total = d, n
		})
		want := fmt.Sprintf("%[1]s: tensor \"a\": element [2 3] is NaN, and 1 more that are not finite\n%[1]s: tensor \"c\": element [1 0] is -Inf", path)
		if err == nil || err.Error() != want {
			t.Errorf("error\n%v, want\n%s", err, want)
		}
		var e *Error
		if !errors.As(err, &e) || e.Tensor != "a" || e.File != path {
			t.Errorf("%#v is no *Error of tensor a", err)
		}
		if last != total || total < 12*int64(n) {
			t.Errorf("progress ended at %d of %d", last, total)
		}
		if err := f.Verify(nil, "b"); err != nil {
			t.Error(err)
		}
		if err := f.Verify(nil, "b", "d"); !errors.Is(err, ErrNotFound) {
			t.Errorf("error %v", err)
		}
		f.Close()
	}
}

// python returns a Python with PyTorch: MICRORWKV_PYTHON, else python3, if it has it.
func python(t *testing.T) string {
	t.Helper()
	exe := os.Getenv("MICRORWKV_PYTHON")
	if exe == "" {
		exe = "python3"
	}
	if out, err := exec.Command(exe, "-c", "import torch, numpy, safetensors").CombinedOutput(); err != nil {
		t.Skipf("no PyTorch for %s (MICRORWKV_PYTHON names another Python): %v\n%s", exe, err, out)
	}
	return exe
}

// TestWithPyTorch makes fresh files with the PyTorch that is installed, reads them, converts them,
// and has PyTorch compare every bit of what it loads with weights_only=True.
func TestWithPyTorch(t *testing.T) {
	exe := python(t)
	dir := t.TempDir()
	if out, err := exec.Command(exe, "testdata/make.py", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testTorch(t, dir)
	files, _ := filepath.Glob(filepath.Join(dir, "*.*t*"))
	compare, _ := filepath.Glob("testdata/formats/*.*t*")
	var args []string
	for _, path := range append(files, compare...) {
		if strings.HasSuffix(path, ".json") || strings.Contains(path, "endian") || strings.Contains(path, "elsewhere") || notAll(path) {
			continue // PyTorch has no reader for an index, and compares big-endian files wrongly
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, ext := range []string{".pt", ".safetensors"} {
			if noSafetensors(path, ext) != "" {
				continue
			}
			out := filepath.Join(dir, fmt.Sprintf("out%d%s", len(args), ext))
			if err := Convert(out, f); err != nil {
				t.Fatal(err)
			}
			args = append(args, path, out)
		}
		for _, d := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
			out := filepath.Join(dir, fmt.Sprintf("out%d.%v.pt", len(args), d))
			if err := Convert(out, f, As(d)); err != nil {
				t.Fatal(err)
			}
			args = append(args, path, out)
		}
		f.Close()
	}
	if out, err := exec.Command(exe, append([]string{"testdata/compare.py"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
