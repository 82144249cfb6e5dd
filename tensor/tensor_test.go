package tensor_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
	"slices"
	"strconv"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// as converts to a DType, rounding toward zero.
func as(dtype tensor.DType, t *tensor.Tensor) *tensor.Weight {
	if dtype == tensor.F32 {
		return t.Weight()
	}
	bits := make([]uint16, t.Len())
	for i := range bits {
		b := math.Float32bits(t.Row(i / t.Dim(-1))[i%t.Dim(-1)])
		if dtype == tensor.BF16 {
			bits[i] = uint16(b >> 16)
		} else { // numbers in ±1 are normal or flushed to zero here
			e := int(b>>23&0xff) - 112
			if e > 0 {
				bits[i] = uint16(b>>16&0x8000) | uint16(e)<<10 | uint16(b>>13&0x3ff)
			}
		}
	}
	return tensor.FromBits(dtype, bits, t.Shape()...)
}

// dense is a float64 copy.
func dense(t *tensor.Tensor) *mat.Dense {
	d := mat.NewDense(t.Len()/t.Dim(-1), t.Dim(-1), nil)
	for i := range t.Len() / t.Dim(-1) {
		for j, v := range t.Row(i) {
			d.Set(i, j, float64(v))
		}
	}
	return d
}

// abs returns |a|, elementwise.
func abs(a *mat.Dense) *mat.Dense {
	var d mat.Dense
	d.Apply(func(_, _ int, v float64) float64 { return math.Abs(v) }, a)
	return &d
}

func act64(a tensor.Act, v float64) float64 {
	switch a {
	case tensor.SquareReLU:
		return max(v, 0) * max(v, 0)
	case tensor.Sigmoid:
		return 1 / (1 + math.Exp(-v))
	case tensor.SiLU:
		return v / (1 + math.Exp(-v))
	case tensor.Tanh:
		return math.Tanh(v)
	}
	return v
}

// TestLinear checks products with every epilogue against float64. A sum of k products has an error
// of at most (k+1)·2⁻²⁴·Σ|x·w|; the activations' slopes are at most 1.1 (and 2|v| for squares)
// and their own errors a few units in the last place.
func TestLinear(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			m, n, k := 1+rng.IntN(12), 1+rng.IntN(150), 1+rng.IntN(200)
			if i%50 == 0 {
				m = 200 + rng.IntN(400) // more than a block of rows
			}
			dtype := tensor.F32 + tensor.DType(rng.IntN(3))
			x, w := tensortest.Random(rng, rng.IntN(2)*7, m, k), as(dtype, tensortest.Random(rng, 0, n, k))
			p := tensor.Product{Dst: tensortest.Random(rng, rng.IntN(2)*5, m, n), X: x, W: w, Act: tensor.Act(rng.IntN(5)), Add: rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				p.Bias = tensortest.Random(rng, 0, n)
			}
			switch rng.IntN(3) {
			case 0:
				p.Gate = tensortest.Random(rng, rng.IntN(2)*3, m, n)
			case 1:
				p.Gate = p.Dst
			}
			before := dense(p.Dst)
			var gate *mat.Dense
			if p.Gate != nil {
				gate = dense(p.Gate)
			}
			tensor.Linear(p)

			var want, size mat.Dense
			want.Mul(dense(x), dense(w.Float32()).T())
			size.Mul(abs(dense(x)), abs(dense(w.Float32())).T())
			for r := range m {
				for c := range n {
					v, bound := want.At(r, c), float64(k+1)*tensortest.Eps32*size.At(r, c)
					if p.Bias != nil {
						v += float64(p.Bias.Data()[c])
						bound += tensortest.Eps32 * math.Abs(v)
					}
					slope := 1.1
					if p.Act == tensor.SquareReLU {
						slope = 2*math.Abs(v) + 1
					}
					v = act64(p.Act, v)
					bound = slope*bound + 8*tensortest.Eps32*math.Abs(v)
					if gate != nil {
						v *= gate.At(r, c)
					}
					if p.Add {
						v += before.At(r, c)
					}
					bound += 4 * tensortest.Eps32 * (math.Abs(v) + math.Abs(before.At(r, c)))
					if got := float64(p.Dst.Row(r)[c]); !(math.Abs(got-v) <= bound) {
						t.Fatalf("m=%d n=%d k=%d %v act=%d bias=%t gate=%t add=%t: [%d %d] = %g, want %g ± %g",
							m, n, k, dtype, p.Act, p.Bias != nil, gate != nil, p.Add, r, c, got, v, bound)
					}
				}
			}
		}
	})
}

// A row's bits don't depend on the rows beside it, on the number of threads, or on what else is
// computed in the same call.
func TestLinearRowsAreIndependent(t *testing.T) {
	defer tensor.SetThreads(0)
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
			const n, k, rows = 333, 187, 300
			x, w := tensortest.Random(rng, 0, rows, k), as(dtype, tensortest.Random(rng, 0, n, k))
			tensor.SetThreads(1)
			want := tensor.New(rows, n)
			for r := range rows {
				tensor.Linear(tensor.Product{Dst: want.Rows(r, r+1), X: x.Rows(r, r+1), W: w})
			}
			for _, threads := range []int{1, 2, 7} {
				tensor.SetThreads(threads)
				for _, m := range []int{2, 3, 5, 8, 50, rows} {
					got, other := tensor.New(m, n), tensor.New(m, n)
					tensor.Linear(tensor.Product{Dst: got, X: x.Rows(0, m), W: w}, tensor.Product{Dst: other, X: x.Rows(rows-m, rows), W: w})
					if !slices.Equal(got.Data(), want.Rows(0, m).Data()) || !slices.Equal(other.Data(), want.Rows(rows-m, rows).Data()) {
						t.Fatalf("%v: other bits with %d rows, %d threads", dtype, m, threads)
					}
				}
			}
		}
	})
}

func TestMatMul(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		for range 100 {
			m, n, k := 1+rng.IntN(70), 1+rng.IntN(300), 1+rng.IntN(150)
			a, b := tensortest.Random(rng, rng.IntN(2)*3, m, k), tensortest.Random(rng, rng.IntN(2)*9, k, n)
			dst := tensortest.Random(rng, rng.IntN(2)*4, m, n)
			tensor.MatMul(dst, a, b)
			var want, size mat.Dense
			want.Mul(dense(a), dense(b))
			size.Mul(abs(dense(a)), abs(dense(b)))
			for r := range m {
				for c := range n {
					bound := float64(k+1) * tensortest.Eps32 * size.At(r, c)
					if got := float64(dst.Row(r)[c]); !(math.Abs(got-want.At(r, c)) <= bound) {
						t.Fatalf("m=%d n=%d k=%d: [%d %d] = %g, want %g ± %g", m, n, k, r, c, got, want.At(r, c), bound)
					}
				}
			}
		}
	})
}

func TestNorms(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(15, 16))
		for range 50 {
			rows, groups := 1+rng.IntN(20), 1+rng.IntN(4)
			n := groups * (1 + rng.IntN(70))
			x, gain, bias := tensortest.Random(rng, rng.IntN(2)*3, rows, n), tensortest.Random(rng, 0, n), tensortest.Random(rng, 0, n)
			switch rng.IntN(3) {
			case 0:
				bias = nil
			case 1:
				gain, bias = nil, nil
			}
			y, z := tensor.New(rows, n), tensor.New(rows, n)
			tensor.GroupNorm(y, x, groups, gain, bias, 1e-3)
			tensor.RMSNorm(z, x, 1e-3)
			size := n / groups
			for r := range rows {
				var squares float64
				for g := range groups {
					part := x.Row(r)[g*size:][:size]
					var mean, variance float64
					for _, v := range part {
						mean += float64(v) / float64(size)
						squares += float64(v) * float64(v)
					}
					for _, v := range part {
						variance += (float64(v) - mean) * (float64(v) - mean) / float64(size)
					}
					want := make([]float64, size)
					for i, v := range part {
						want[i] = (float64(v) - mean) / math.Sqrt(variance+1e-3)
						if gain != nil {
							want[i] *= float64(gain.Data()[g*size+i])
						}
						if bias != nil {
							want[i] += float64(bias.Data()[g*size+i])
						}
					}
					tensortest.CloseTo(t, "GroupNorm", y.Row(r)[g*size:], want)
				}
				for i, v := range x.Row(r) {
					want := float64(v) / (math.Sqrt(squares/float64(n)) + 1e-3)
					tensortest.CloseTo(t, "RMSNorm", z.Row(r)[i:], []float64{want})
				}
			}
		}
	})
}

func TestShapesThatDontFitPanic(t *testing.T) {
	a, b, w := tensor.New(2, 3), tensor.New(2, 4), tensor.FromBits(tensor.BF16, make([]uint16, 12), 4, 3)
	for name, f := range map[string]func(){
		"Linear":        func() { tensor.Linear(tensor.Product{Dst: a, X: a, W: w}) },
		"Linear bias":   func() { tensor.Linear(tensor.Product{Dst: b, X: a, W: w, Bias: tensor.New(3)}) },
		"Linear gate":   func() { tensor.Linear(tensor.Product{Dst: b, X: a, W: w, Gate: a}) },
		"NewWeight":     func() { tensor.NewWeight(tensor.F32, make([]byte, 8), 3) },
		"weight's size": func() { tensor.NewWeight(tensor.F32, nil, 1<<(strconv.IntSize-2)) },
		"weight's rows": func() { tensor.NewWeight(tensor.F32, nil, 1<<(strconv.IntSize-4), 4) },
		"weight's type": func() { tensor.NewWeight(tensor.Int32, make([]byte, 8), 2) },
		"weight's Rows": func() { w.Rows(1, 5) },
		"MatMul":        func() { tensor.MatMul(a, a, b) },
		"Add":           func() { tensor.Add(a, a, b) },
		"Mix":           func() { tensor.Mix(a, a, a, tensor.New(2)) },
		"GroupNorm":     func() { tensor.GroupNorm(a, a, 2, nil, nil, 1) },
		"Rows":          func() { a.Rows(1, 3) },
		"Cols":          func() { a.Cols(-1, 2) },
		"Reshape":       func() { a.Cols(0, 2).Reshape(4) },
		"FromSlice":     func() { tensor.FromSlice(make([]float32, 5), 2, 3) },
		"New":           func() { tensor.New(-1) },
		"overflow":      func() { tensor.New(math.MaxInt/2, 3) },
	} {
		tensortest.Panics(t, name, f)
	}
}

func TestString(t *testing.T) {
	for _, c := range []struct {
		t    fmt.Stringer
		want string
	}{
		{tensor.FromSlice([]float32{1, 2, 3, 4, 5, 6}, 3, 2), "[[1 2] [3 4] [5 6]]"},
		{tensor.FromSlice([]float32{1, 2, 3, 4, 5, 6}, 3, 2).Cols(1, 2), "[[2] [4] [6]]"},
		{tensor.FromBits(tensor.BF16, []uint16{0x3f80, 0xc000}, 2), "[1 -2]"},
		{tensor.New(2, 2, 2), "[[[0 0] [0 0]] [[0 0] [0 0]]]"},
		{tensor.New(20, 30), "f32[20 30]"},
	} {
		if got := c.t.String(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestScratchReusesMemory(t *testing.T) {
	var s tensor.Scratch
	pass := func() {
		defer s.Release(s.Mark())
		a := s.New(100, 300)
		b := s.New(7)
		s.Rows(a, 1, 2)
		a.Row(0)[0], b.Row(0)[6] = 1, 2
	}
	pass()
	if n := testing.AllocsPerRun(10, pass); n != 0 {
		t.Errorf("%v allocations", n)
	}
	a := s.New(3)
	b := s.New(100000)
	a.Row(0)[2] = 5
	clear(b.Data())
	if a.Row(0)[2] != 5 {
		t.Error("tensors overlap")
	}
}

func ExampleLinear() {
	x, y := tensor.FromSlice([]float32{1, 2}, 1, 2), tensor.New(1, 3)
	w := tensor.FromSlice([]float32{1, 0, 0, 1, 1, 1}, 3, 2) // [out, in], as PyTorch stores it
	tensor.Linear(tensor.Product{Dst: y, X: x, W: w.Weight()})
	fmt.Println(y)
	// Output: [[1 2 3]]
}
