package tensor_test

import (
	"fmt"
	"math"
	"microrwkv/tensor"
	"slices"
	"testing"
)

// nearest fails unless bits is, of all patterns that value maps to numbers, one nearest to x, and
// the even one of two.
func nearest(t *testing.T, name string, x float32, bits uint16, value func(uint16) float64) {
	t.Helper()
	got := value(bits)
	below, above := value(bits-1), value(bits+1)
	err := math.Abs(float64(x) - got)
	if math.IsInf(got, 0) {
		return // checked by what is finite
	}
	for _, v := range []float64{below, above} {
		other := math.Abs(float64(x) - v)
		if other < err || (other == err && v != got && bits&1 == 1) {
			t.Fatalf("%s of %g is %g, but %g is nearer", name, x, got, v)
		}
	}
}

func TestRoundToNearestEven(t *testing.T) {
	bf16 := func(b uint16) float64 { return float64(math.Float32frombits(uint32(b) << 16)) }
	f16 := func(b uint16) float64 {
		row := make([]float32, 1)
		tensor.FromBits(tensor.F16, []uint16{b}, 1).RowTo(row, 0)
		return float64(row[0])
	}
	check := func(b uint32) {
		x := math.Float32frombits(b)
		if x != x {
			if v := bf16(tensor.RoundBF16(x)); v == v {
				t.Fatalf("bf16 of NaN %#x is %g", b, v)
			}
			if v := f16(tensor.RoundF16(x)); v == v {
				t.Fatalf("f16 of NaN %#x is %g", b, v)
			}
			return
		}
		if got := tensor.RoundBF16(x); got&0x7fff != 0 && got&0x7fff < 0x7f7f {
			nearest(t, "bf16", x, got, bf16)
		}
		if got := tensor.RoundF16(x); got&0x7fff != 0 && got&0x7fff < 0x7bff {
			nearest(t, "f16", x, got, f16)
		}
	}
	for b := uint64(0); b < 1<<32; b += 9973 { // a prime: all low bits occur
		check(uint32(b))
	}
	for _, c := range []struct {
		x         float32
		bf16, f16 uint16
	}{
		{0, 0, 0}, {1, 0x3f80, 0x3c00}, {-2, 0xc000, 0xc000}, {0x1p-24, 0x3380, 1}, {0x1p-25, 0x3300, 0},
		{0x1.000002p-25, 0x3300, 1}, {65504, 0x4780, 0x7bff}, {65519.99, 0x4780, 0x7bff}, {65520, 0x4780, 0x7c00},
		{math.MaxFloat32, 0x7f80, 0x7c00}, {float32(math.Inf(-1)), 0xff80, 0xfc00}, {1 + 0x1p-8, 0x3f80, 0x3c04},
		{1 + 0x3p-8, 0x3f82, 0x3c0c}, {1 + 0x1p-11, 0x3f80, 0x3c00}, {1 + 0x3p-11, 0x3f80, 0x3c02}, {-1e-45, 0x8000, 0x8000},
	} {
		if got := tensor.RoundBF16(c.x); got != c.bf16 {
			t.Errorf("RoundBF16(%g) = %#x, want %#x", c.x, got, c.bf16)
		}
		if got := tensor.RoundF16(c.x); got != c.f16 {
			t.Errorf("RoundF16(%g) = %#x, want %#x", c.x, got, c.f16)
		}
	}
}

func TestConvert(t *testing.T) {
	x := tensor.FromSlice([]float32{1, 2.5, -3, 0.1, 5, 6}, 2, 3)
	if w := x.Weight(); w.Convert(tensor.F32) != w {
		t.Error("converted to its own dtype")
	}
	for _, dtype := range []tensor.DType{tensor.BF16, tensor.F16} {
		y := x.Cols(1, 3).Weight().Convert(dtype)
		if got, want := y.String(), "[[2.5 -3] [5 6]]"; got != want || y.DType() != dtype {
			t.Errorf("%v %v, want %v %v", y.DType(), got, dtype, want)
		}
		if got, want := y.Convert(tensor.F32).String(), "[[2.5 -3] [5 6]]"; got != want {
			t.Errorf("back to f32: %v, want %v", got, want)
		}
	}
	// 0.1 in the two formats
	if got := math.Float32bits(x.Weight().Convert(tensor.BF16).Float32().Data()[3]); got != 0x3dcd<<16 {
		t.Errorf("0.1 as bf16 is %#x", got)
	}
}

// Rows, Transpose, Reshape and Packed of every type give what the same do to float32.
func TestWeightViews(t *testing.T) {
	x := tensor.FromSlice([]float32{1, 2.5, -3, 0.5, 5, 6, 7, 8}, 4, 2)
	for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		w := x.Weight().Convert(dtype)
		for _, c := range []struct {
			got  *tensor.Weight
			want string
		}{
			{w.Rows(1, 3), "[[-3 0.5] [5 6]]"},
			{w.Rows(2, 2), "[]"},
			{w.Transpose(), "[[1 -3 5 7] [2.5 0.5 6 8]]"},
			{w.Reshape(2, 2, 2), "[[[1 2.5] [-3 0.5]] [[5 6] [7 8]]]"},
			{x.Cols(1, 2).Weight().Packed(), "[[2.5] [0.5] [6] [8]]"},
			{x.Cols(1, 2).Weight().Transpose(), "[[2.5 0.5 6 8]]"},
		} {
			if got := c.got.String(); got != c.want || got != c.got.Float32().String() {
				t.Errorf("%v: %s, want %s", dtype, got, c.want)
			}
		}
	}
	if v := x.Weight().Float32(); &v.Data()[0] != &x.Data()[0] {
		t.Error("Float32 of a float32 weight is a copy")
	}
}

// A weight in bfloat16, as a file has it, multiplies float32 rows.
func ExampleWeight() {
	w := tensor.FromBits(tensor.BF16, []uint16{0x3f80, 0x4000, 0x4040, 0x4080}, 2, 2) // [out, in]
	x, y := tensor.FromSlice([]float32{1, 10}, 1, 2), tensor.New(1, 2)
	tensor.Linear(tensor.Product{Dst: y, X: x, W: w})
	fmt.Println(w, w.DType())
	fmt.Println(y)
	// Output:
	// [[1 2] [3 4]] bf16
	// [[21 43]]
}

// Turned is Transpose, later: of every type, for all that reads weights, and its own transpose is what was turned.
func TestTurned(t *testing.T) {
	x := tensor.FromSlice([]float32{1, 2.5, -3, 0.5, 5, 6, 7, 8}, 4, 2)
	for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		w := x.Weight().Convert(dtype).WithActivations(tensor.Q8Activations)
		v := w.Turned()
		if v.DType() != dtype || !slices.Equal(v.Shape(), []int{2, 4}) || !v.Contiguous() {
			t.Fatalf("%v: turned %v %v", dtype, v.DType(), v.Shape())
		}
		if back := v.Transpose(); &back.Bytes()[0] != &w.Bytes()[0] || !slices.Equal(back.Shape(), w.Shape()) {
			t.Errorf("%v: the transpose of a turned weight is a copy", dtype)
		}
		if back := v.Turned(); &back.Bytes()[0] != &w.Bytes()[0] {
			t.Errorf("%v: what is turned twice is a copy", dtype)
		}
		row := make([]float32, 4)
		v.RowTo(row, 1)
		product, want := tensor.New(1, 2), tensor.New(1, 2)
		y := tensor.FromSlice([]float32{1, 2, 3, 4}, 1, 4)
		tensor.Linear(tensor.Product{Dst: product, X: y, W: w.Turned()})
		tensor.Linear(tensor.Product{Dst: want, X: y, W: w.Transpose()})
		for _, c := range []struct{ got, want fmt.Stringer }{
			{v, w.Transpose()}, {w.Turned().Rows(1, 2), w.Transpose().Rows(1, 2)}, {w.Turned().Reshape(2, 4), w.Transpose()},
			{w.Turned().Reshape(8), w.Transpose().Reshape(8)}, {w.Turned().Float32(), w.Transpose().Float32()}, {w.Turned().Packed(), w.Transpose()},
			{w.Turned().Convert(tensor.BF16), w.Transpose().Convert(tensor.BF16)},
			{tensor.FromSlice(row, 4), w.Transpose().Rows(1, 2).Reshape(4).Float32()}, {product, want},
		} {
			if c.got.String() != c.want.String() {
				t.Errorf("%v: %v, want %v", dtype, c.got, c.want)
			}
		}
		if first := &v.Bytes()[0]; first != &v.Bytes()[0] || first != &v.WithActivations(0).Bytes()[0] {
			t.Errorf("%v: copied twice", dtype)
		}
	}
	blocks := tensor.New(2, 32).Weight().Convert(tensor.Q8_0)
	if v := blocks.Turned(); v.DType() != tensor.F32 || v.Dim(0) != 32 {
		t.Errorf("blocks turned: %v %v", v.DType(), v.Shape())
	}
}
