package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// TestSourceBytes gives what a file has, and nothing beside it.
func TestSourceBytes(t *testing.T) {
	data := []byte("01234567")
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, unmapped := range []bool{false, true} {
		src, err := Open(path, unmapped)
		if err != nil {
			t.Fatal(err)
		}
		if mapped := src.Data != nil; mapped == unmapped && runtime.GOOS == "linux" {
			t.Errorf("unmapped: %v, and mapped: %v", unmapped, mapped)
		}
		for _, s := range []*Source{src, Memory("memory", data)} {
			for _, c := range []struct {
				off, n int64
				ok     bool
			}{
				{0, 0, true}, {0, 8, true}, {3, 5, true}, {8, 0, true}, {2, 1, true},
				{0, 9, false}, {3, 6, false}, {8, 1, false}, {9, 0, false}, {9, -1, false}, {-1, 2, false}, {4, -1, false},
				{1, math.MaxInt64, false}, {math.MaxInt64, 1, false}, {math.MinInt64, 1, false}, {math.MaxInt64, math.MinInt64, false},
			} {
				b, err := s.Bytes(c.off, c.n)
				if (err == nil) != c.ok || err == nil && (string(b) != string(data[c.off:c.off+c.n]) || s.Data != nil && int64(cap(b)) != c.n) {
					t.Errorf("%s: Bytes(%d, %d) = %q, %v", s.Name, c.off, c.n, b, err)
				}
			}
			for _, c := range []struct {
				off  int64
				n    int
				want string
				err  error
			}{
				{0, 8, "01234567", nil}, {3, 5, "34567", nil}, {4, 5, "4567", io.EOF}, {8, 1, "", io.EOF}, {7, 1, "7", nil}, {9, 1, "", io.EOF},
			} {
				p := make([]byte, c.n)
				if n, err := s.ReadAt(p, c.off); string(p[:n]) != c.want || err != c.err {
					t.Errorf("%s: ReadAt(%d, %d) = %q, %v, want %q, %v", s.Name, c.n, c.off, p[:n], err, c.want, c.err)
				}
			}
			if _, err := s.ReadAt(make([]byte, 1), -1); err == nil {
				t.Errorf("%s: a byte before the first is read", s.Name)
			}
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		if b, err := src.Bytes(0, 1); err == nil {
			t.Errorf("a closed file has %q", b)
		}
	}
}

// TestExtent counts elements up to what an int64 holds.
func TestExtent(t *testing.T) {
	const most = math.MaxInt64
	for _, c := range []struct {
		shape, stride []int64
		n, last       int64
		ok            bool
	}{
		{nil, nil, 1, 1, true},
		{[]int64{3, 4}, []int64{4, 1}, 12, 12, true},
		{[]int64{3, 4}, []int64{1, 3}, 12, 12, true},
		{[]int64{3, 4}, []int64{10, 2}, 12, 27, true},
		{[]int64{5}, []int64{0}, 5, 1, true},
		{[]int64{0, 5}, []int64{5, 1}, 0, 0, true},
		{[]int64{1 << 62, 0, 4}, []int64{0, 0, 0}, 0, 0, true},
		{[]int64{1, 1}, []int64{most, most}, 1, 1, true},
		{[]int64{most}, []int64{0}, most, 1, true},
		{[]int64{most, 1}, []int64{0, 0}, most, 1, true},
		{[]int64{most, 2}, []int64{0, 0}, 0, 0, false},
		{[]int64{1 << 32, 1 << 31}, []int64{0, 0}, 0, 0, false},
		{[]int64{2}, []int64{most - 1}, 2, most, true},
		{[]int64{2}, []int64{most}, 0, 0, false},
		{[]int64{3}, []int64{1<<62 - 1}, 3, most, true},
		{[]int64{3}, []int64{1 << 62}, 0, 0, false},
		{[]int64{2, 2}, []int64{most - 1, 1}, 0, 0, false},
		{[]int64{-1}, []int64{1}, 0, 0, false},
		{[]int64{2}, []int64{-1}, 0, 0, false},
		{[]int64{0, -1}, []int64{1, 1}, 0, 0, false},
		{[]int64{0, 2}, []int64{1, -1}, 0, 0, false},
	} {
		if n, last, ok := Extent(c.shape, c.stride); n != c.n || last != c.last || ok != c.ok {
			t.Errorf("Extent(%v, %v) = %d, %d, %v, want %d, %d, %v", c.shape, c.stride, n, last, ok, c.n, c.last, c.ok)
		}
	}
}

func TestStrides(t *testing.T) {
	for _, c := range []struct {
		shape, stride []int64
		contiguous    bool
	}{
		{nil, nil, true},
		{[]int64{3}, []int64{1}, true},
		{[]int64{3}, []int64{2}, false},
		{[]int64{3}, []int64{0}, false},
		{[]int64{2, 3}, []int64{3, 1}, true},
		{[]int64{2, 3}, []int64{1, 2}, false},
		{[]int64{2, 3}, []int64{4, 1}, false},
		{[]int64{1, 3}, []int64{99, 1}, true},
		{[]int64{2, 1, 3}, []int64{3, 50, 1}, true},
		{[]int64{0, 5}, []int64{7, 7}, true},
	} {
		x := &Tensor{Shape: c.shape, Stride: c.stride}
		if got := x.Contiguous(); got != c.contiguous {
			t.Errorf("%v by %v: contiguous is %v", c.shape, c.stride, got)
		}
	}
	const most = math.MaxInt64
	for _, c := range []struct{ shape, want []int64 }{
		{nil, nil},
		{[]int64{2, 3, 4}, []int64{12, 4, 1}},
		{[]int64{2, 0, 3}, []int64{3, 3, 1}},
		{[]int64{2, -1, 3}, []int64{3, 3, 1}},
		{[]int64{5, most, 1}, []int64{most, 1, 1}},
		{[]int64{5, most, 2}, []int64{2, 2, 1}},
	} {
		if got := RowMajor(c.shape); !slices.Equal(got, c.want) {
			t.Errorf("RowMajor(%v) = %v, want %v", c.shape, got, c.want)
		}
	}
}

// TestCheck lets a tensor have the last element of its storage, and none behind it.
func TestCheck(t *testing.T) {
	broken := errors.New("broken")
	rec := func(file, size int64) *Record { return &Record{Src: &Source{Size: file}, Key: "7", Size: size} }
	for _, c := range []struct {
		name string
		t    Tensor
		want string
	}{
		{"all of it", Tensor{Rec: rec(12, 12), Shape: []int64{3}, Stride: []int64{1}}, ""},
		{"the last two", Tensor{Rec: rec(12, 12), Offset: 1, Shape: []int64{2}, Stride: []int64{1}}, ""},
		{"one behind", Tensor{Rec: rec(12, 12), Offset: 2, Shape: []int64{2}, Stride: []int64{1}}, `needs 16 bytes, its storage "7" has 12`},
		{"a part of one", Tensor{Rec: rec(12, 11), Offset: 1, Shape: []int64{2}, Stride: []int64{1}}, `needs 12 bytes, its storage "7" has 11`},
		{"strides", Tensor{Rec: rec(12, 12), Shape: []int64{2}, Stride: []int64{3}}, "needs 16 bytes"},
		{"one, without dimensions", Tensor{Rec: rec(12, 12), Offset: 2}, ""},
		{"none, without dimensions", Tensor{Rec: rec(12, 12), Offset: 3}, "needs 16 bytes"},
		{"no elements", Tensor{Rec: rec(12, 12), Offset: 99, Shape: []int64{0}, Stride: []int64{1}}, ""},
		{"a megabyte of one", Tensor{Rec: rec(4, 4), Shape: []int64{1 << 18}, Stride: []int64{0}}, ""},
		{"more than that", Tensor{Rec: rec(4, 4), Shape: []int64{1<<18 + 1}, Stride: []int64{0}}, "262145 elements, in a file of 4 bytes"},
		{"as many as the file has", Tensor{Rec: rec(1<<21, 4), Shape: []int64{1 << 19}, Stride: []int64{0}}, ""},
		{"one more", Tensor{Rec: rec(1<<21, 4), Shape: []int64{1<<19 + 1}, Stride: []int64{0}}, "524289 elements, in a file of 2097152 bytes"},
		{"nonsense", Tensor{Rec: rec(4, 4), Shape: []int64{-1}, Stride: []int64{1}}, "a shape that makes no sense"},
		{"special", Tensor{Rec: rec(4, 4), Special: "a sparse tensor"}, "a sparse tensor"},
		{"its error", Tensor{Rec: rec(4, 4), Err: broken}, "broken"},
		{"its record's", Tensor{Rec: &Record{Err: broken}}, "broken"},
	} {
		c.t.DType = tensor.F32
		if err := c.t.Check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
		if c.want == "" {
			continue
		}
		if _, err := c.t.Packed(); err == nil {
			t.Errorf("%s: there are elements", c.name)
		}
	}
}

// TestLocate finds a record once, which has at least the bytes that it should have.
func TestLocate(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		declared, size int64
		find, err      error
		want           string
	}{
		{8, 8, nil, nil, ""},
		{8, 9, nil, nil, ""},
		{9, 8, nil, nil, `storage "7" should have 9 bytes, its record "data/7" has 8`},
		{8, 8, broken, nil, `record "data/7": broken`},
		{8, 8, nil, io.EOF, io.EOF.Error()},
	} {
		calls := 0
		r := &Record{Key: "7", Name: "data/7", Declared: c.declared, Err: c.err}
		r.Find = func() (off, size int64, err error) {
			calls++
			return 64, c.size, c.find
		}
		for range 2 {
			if err := r.Locate(); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
				t.Errorf("%+v: error %v, want %q", c, err, c.want)
			}
		}
		if want := map[bool]int{true: 1}[c.err == nil]; calls != want {
			t.Errorf("%+v: looked for %d times, want %d", c, calls, want)
		}
		if c.want == "" && (r.Off != 64 || r.Size != c.size) {
			t.Errorf("%+v: at %d+%d", c, r.Off, r.Size)
		}
	}
}

// stored returns a tensor of bytes that count up.
func stored(d DType, offset int64, shape, stride []int64, swap bool) *Tensor {
	b := make([]byte, 240)
	for i := range b {
		b[i] = byte(i)
	}
	return &Tensor{Rec: &Record{Src: Memory("m", b), Off: 8, Size: int64(len(b)) - 8, Swap: swap}, DType: d, Offset: offset, Shape: shape, Stride: stride}
}

// TestPacked compares with the elements one by one, of every size and some strides.
func TestPacked(t *testing.T) {
	for _, d := range []DType{tensor.Uint8, tensor.F16, tensor.F32, tensor.F64, tensor.Complex64, tensor.Complex128} {
		for _, c := range []struct {
			offset        int64
			shape, stride []int64
		}{
			{1, nil, nil}, {0, []int64{4}, []int64{1}}, {2, []int64{2, 3}, []int64{3, 1}}, {1, []int64{3, 2}, []int64{1, 3}},
			{0, []int64{2, 3}, []int64{5, 1}}, {3, []int64{2, 2, 2}, []int64{1, 2, 4}}, {2, []int64{3, 4}, []int64{0, 0}}, {1, []int64{5}, []int64{2}},
			{0, []int64{1 << 40, 0}, []int64{1, 2}}, {0, []int64{0, 3}, []int64{1, 2}},
		} {
			for _, swap := range []bool{false, true} {
				x := stored(d, c.offset, c.shape, c.stride, swap)
				size := Size(d)
				var want []byte
				for i := range x.Numel() {
					at, rest := c.offset, i
					for j := len(c.shape) - 1; j >= 0; j-- {
						at += rest % c.shape[j] * c.stride[j]
						rest /= c.shape[j]
					}
					e := slices.Clone(x.Rec.Src.Data[8+at*size:][:size])
					if swap && (d == tensor.Complex64 || d == tensor.Complex128) {
						slices.Reverse(e[:size/2])
						slices.Reverse(e[size/2:])
					} else if swap {
						slices.Reverse(e)
					}
					want = append(want, e...)
				}
				if got, err := x.Packed(); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v, %+v, swapped %v: %v, %v, want %v", d, c, swap, got, err, want)
				}
			}
		}
	}
	for _, c := range []struct {
		d    DType
		swap bool
		view bool
	}{{tensor.F32, false, true}, {tensor.F32, true, false}, {tensor.Uint8, true, true}} {
		x := stored(c.d, 1, []int64{3}, []int64{1}, c.swap)
		b, err := x.Packed()
		if err != nil {
			t.Fatal(err)
		}
		if view := &b[0] == &x.Rec.Src.Data[8+Size(c.d)]; view != c.view {
			t.Errorf("%v, swapped %v: a view is %v", c.d, c.swap, view)
		}
	}
	odd := []byte{1, 2, 3, 4, 5}
	if SwapBytes(odd, tensor.F32); !bytes.Equal(odd, []byte{4, 3, 2, 1, 5}) {
		t.Errorf("a part of an element is swapped: %v", odd)
	}
}

// TestLoad takes floats of at most four dimensions.
func TestLoad(t *testing.T) {
	ones := func(n int) (s []int64) {
		for range n {
			s = append(s, 1)
		}
		return s
	}
	for _, c := range []struct {
		d    DType
		dims int
		want string
	}{
		{tensor.F32, 0, ""}, {tensor.F16, 4, ""}, {tensor.BF16, 1, ""}, {tensor.F64, 2, ""},
		{tensor.F32, 5, "5 dimensions, want at most 4"}, {tensor.Int32, 1, "want f32, bf16, f16, f64 or blocks of quantized weights"}, {tensor.Complex64, 1, "want f32"},
	} {
		w, err := stored(c.d, 0, ones(c.dims), ones(c.dims), false).Load()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v of %d dimensions: error %v, want %q", c.d, c.dims, err, c.want)
		}
		if err == nil && len(w.Shape()) != max(c.dims, 1) {
			t.Errorf("%v of %d dimensions: shape %v", c.d, c.dims, w.Shape())
		}
	}
	b := binary.NativeEndian.AppendUint64(nil, math.Float64bits(1.5))
	b = binary.NativeEndian.AppendUint64(b, math.Float64bits(-2.25))
	wide := &Tensor{Rec: &Record{Src: Memory("m", b), Size: 16}, DType: tensor.F64, Shape: []int64{2}, Stride: []int64{1}}
	if w, err := wide.Load(); err != nil || w.DType() != tensor.F32 || !bytes.Equal(w.Bytes(), tensor.FromSlice([]float32{1.5, -2.25}, 2).Weight().Bytes()) {
		t.Errorf("f64 becomes %v, %v", w, err)
	}
}

// TestScalar reads numbers without dimensions, and no others.
func TestScalar(t *testing.T) {
	of := func(d DType, b []byte) *Tensor {
		return &Tensor{Rec: &Record{Src: Memory("m", b), Size: int64(len(b))}, DType: d}
	}
	word := binary.NativeEndian.AppendUint64(nil, math.Float64bits(-1.5))
	for _, c := range []struct {
		t    *Tensor
		want any
	}{
		{of(tensor.F64, word), -1.5},
		{of(tensor.F32, binary.NativeEndian.AppendUint32(nil, math.Float32bits(0.25))), 0.25},
		{of(tensor.BF16, binary.NativeEndian.AppendUint16(nil, 0x3f80)), 1.0},
		{of(tensor.F16, binary.NativeEndian.AppendUint16(nil, 0x4000)), 2.0},
		{of(tensor.Int64, binary.NativeEndian.AppendUint64(nil, 1<<40)), int64(1 << 40)},
		{of(tensor.Int32, binary.NativeEndian.AppendUint32(nil, 0xffffffff)), int64(-1)},
		{of(tensor.Bool, []byte{2}), true},
		{of(tensor.Bool, []byte{0}), false},
		{of(tensor.Int8, []byte{1}), nil},
		{of(tensor.F64, word[:7]), nil},
		{of(tensor.Complex128, append(word, word...)), nil},
		{&Tensor{Rec: &Record{Src: Memory("m", word), Size: 8}, DType: tensor.F64, Shape: []int64{1}, Stride: []int64{1}}, nil},
	} {
		if got := c.t.Scalar(); got != c.want {
			t.Errorf("%v %v: %v, want %v", c.t.DType, c.t.Shape, got, c.want)
		}
	}
}
