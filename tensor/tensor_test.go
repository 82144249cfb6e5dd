package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// eachKernel runs a test with each set of kernels that this CPU has.
func eachKernel(t *testing.T, f func(t *testing.T)) {
	before := Kernel()
	defer SetKernel(before)
	for _, name := range Kernels() {
		t.Run(name, func(t *testing.T) {
			if err := SetKernel(name); err != nil {
				t.Fatal(err)
			}
			f(t)
		})
	}
}

// random returns a tensor of uniform numbers in ±1, as a view with gaps between the rows if gap is
// above 0.
func random(rng *rand.Rand, gap int, shape ...int) *Tensor {
	if gap == 0 {
		t := New(shape...)
		for i := range t.data {
			t.data[i] = 2*rng.Float32() - 1
		}
		return t
	}
	wide := random(rng, 0, shape[0], shape[1]+gap)
	return wide.Cols(gap/2, gap/2+shape[1])
}

// as converts to a DType, rounding toward zero.
func as(dtype DType, t *Tensor) *Weight {
	if dtype == F32 {
		return t.Weight()
	}
	bits := make([]uint16, t.Len())
	for i := range bits {
		b := math.Float32bits(t.Row(i / t.cols())[i%t.cols()])
		if dtype == BF16 {
			bits[i] = uint16(b >> 16)
		} else { // numbers in ±1 are normal or flushed to zero here
			e := int(b>>23&0xff) - 112
			if e > 0 {
				bits[i] = uint16(b>>16&0x8000) | uint16(e)<<10 | uint16(b>>13&0x3ff)
			}
		}
	}
	return FromBits(dtype, bits, t.Shape()...)
}

// dense is a float64 copy.
func dense(t *Tensor) *mat.Dense {
	d := mat.NewDense(t.rows(), t.cols(), nil)
	for i := range t.rows() {
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

const eps32 = 0x1p-24 // the largest relative error of one rounding

func act64(a Act, v float64) float64 {
	switch a {
	case SquareReLU:
		return max(v, 0) * max(v, 0)
	case Sigmoid:
		return 1 / (1 + math.Exp(-v))
	case SiLU:
		return v / (1 + math.Exp(-v))
	case Tanh:
		return math.Tanh(v)
	}
	return v
}

// TestLinear checks products with every epilogue against float64. A sum of k products has an error
// of at most (k+1)·2⁻²⁴·Σ|x·w|; the activations' slopes are at most 1.1 (and 2|v| for squares)
// and their own errors a few units in the last place.
func TestLinear(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 300 {
			m, n, k := 1+rng.IntN(12), 1+rng.IntN(150), 1+rng.IntN(200)
			if i%50 == 0 {
				m = 200 + rng.IntN(400) // more than a block of rows
			}
			dtype := F32 + DType(rng.IntN(3))
			x, w := random(rng, rng.IntN(2)*7, m, k), as(dtype, random(rng, 0, n, k))
			p := Product{Dst: random(rng, rng.IntN(2)*5, m, n), X: x, W: w, Act: Act(rng.IntN(5)), Add: rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				p.Bias = random(rng, 0, n)
			}
			switch rng.IntN(3) {
			case 0:
				p.Gate = random(rng, rng.IntN(2)*3, m, n)
			case 1:
				p.Gate = p.Dst
			}
			before := dense(p.Dst)
			var gate *mat.Dense
			if p.Gate != nil {
				gate = dense(p.Gate)
			}
			Linear(p)

			var want, size mat.Dense
			want.Mul(dense(x), dense(w.Float32()).T())
			size.Mul(abs(dense(x)), abs(dense(w.Float32())).T())
			for r := range m {
				for c := range n {
					v, bound := want.At(r, c), float64(k+1)*eps32*size.At(r, c)
					if p.Bias != nil {
						v += float64(p.Bias.data[c])
						bound += eps32 * math.Abs(v)
					}
					slope := 1.1
					if p.Act == SquareReLU {
						slope = 2*math.Abs(v) + 1
					}
					v = act64(p.Act, v)
					bound = slope*bound + 8*eps32*math.Abs(v)
					if gate != nil {
						v *= gate.At(r, c)
					}
					if p.Add {
						v += before.At(r, c)
					}
					bound += 4 * eps32 * (math.Abs(v) + math.Abs(before.At(r, c)))
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
	defer SetThreads(0)
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for _, dtype := range []DType{F32, BF16, F16} {
			const n, k, rows = 333, 187, 300
			x, w := random(rng, 0, rows, k), as(dtype, random(rng, 0, n, k))
			SetThreads(1)
			want := New(rows, n)
			for r := range rows {
				Linear(Product{Dst: want.Rows(r, r+1), X: x.Rows(r, r+1), W: w})
			}
			for _, threads := range []int{1, 2, 7} {
				SetThreads(threads)
				for _, m := range []int{2, 3, 5, 8, 50, rows} {
					got, other := New(m, n), New(m, n)
					Linear(Product{Dst: got, X: x.Rows(0, m), W: w}, Product{Dst: other, X: x.Rows(rows-m, rows), W: w})
					if !slices.Equal(got.Data(), want.Rows(0, m).Data()) || !slices.Equal(other.Data(), want.Rows(rows-m, rows).Data()) {
						t.Fatalf("%v: other bits with %d rows, %d threads", dtype, m, threads)
					}
				}
			}
		}
	})
}

func TestMatMul(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		for range 100 {
			m, n, k := 1+rng.IntN(70), 1+rng.IntN(300), 1+rng.IntN(150)
			a, b := random(rng, rng.IntN(2)*3, m, k), random(rng, rng.IntN(2)*9, k, n)
			dst := random(rng, rng.IntN(2)*4, m, n)
			MatMul(dst, a, b)
			var want, size mat.Dense
			want.Mul(dense(a), dense(b))
			size.Mul(abs(dense(a)), abs(dense(b)))
			for r := range m {
				for c := range n {
					bound := float64(k+1) * eps32 * size.At(r, c)
					if got := float64(dst.Row(r)[c]); !(math.Abs(got-want.At(r, c)) <= bound) {
						t.Fatalf("m=%d n=%d k=%d: [%d %d] = %g, want %g ± %g", m, n, k, r, c, got, want.At(r, c), bound)
					}
				}
			}
		}
	})
}

// softmax64 returns softmax(scores) with some more scores of zero, whose shares are dropped.
func softmax64(scores []float64, zeros int) []float64 {
	var sum float64
	for _, s := range scores {
		sum += math.Exp(s)
	}
	sum += float64(zeros)
	p := make([]float64, len(scores))
	for i, s := range scores {
		p[i] = math.Exp(s) / sum
	}
	return p
}

// Both forms of the recurrence, with and without a state before, against its definition.
func TestWKV5(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(11, 12))
		for range 40 {
			heads, n := 1+rng.IntN(3), 1+rng.IntN(40)
			spans := []int{0, rng.IntN(4), 0, 0}
			spans[2] = spans[1] + rng.IntN(150)
			spans[3] = spans[2] + 1 + rng.IntN(9)
			rows := spans[3]
			r, k, v := random(rng, 0, rows, heads*n), random(rng, 0, rows, heads*n), random(rng, 0, rows, heads*n)
			w, u := make([]float32, heads), make([]float32, heads)
			for h := range w {
				w[h], u[h] = rng.Float32(), 2*rng.Float32()-1
			}
			states := [][]float32{random(rng, 0, heads*n*n).data, nil, random(rng, 0, heads*n*n).data}
			s64 := make([][]float64, len(states))
			for i := range s64 {
				s64[i] = make([]float64, heads*n*n)
				for j := range states[i] {
					s64[i][j] = float64(states[i][j])
				}
			}
			y, normed := New(rows, heads*n), New(rows, heads*n)
			out := &HeadNorm{Gain: random(rng, 0, heads*n), Bias: random(rng, 0, heads*n), Eps: 1e-3, Gate: random(rng, 0, rows, heads*n)}
			before := make([][]float32, len(states))
			for i := range states {
				before[i] = slices.Clone(states[i])
			}
			WKV5(normed, r, k, v, w, u, out, spans, func(i int) []float32 { return before[i] })
			WKV5(y, r, k, v, w, u, nil, spans, func(i int) []float32 { return states[i] })

			for i := range states {
				for h := range heads {
					s := s64[i][h*n*n:][:n*n]
					for row := spans[i]; row < spans[i+1]; row++ {
						want := make([]float64, n)
						rr, kk, vv := r.Row(row)[h*n:], k.Row(row)[h*n:], v.Row(row)[h*n:]
						for a := range n {
							for b := range n {
								kv := float64(kk[a]) * float64(vv[b])
								want[b] += float64(rr[a]) * (s[a*n+b] + float64(u[h])*kv)
								s[a*n+b] = float64(w[h])*s[a*n+b] + kv
							}
						}
						// y sums n products with a state of at most 1/(1−w) products, up to 1e4 here
						for b := range n {
							if got := float64(y.Row(row)[h*n+b]); !(math.Abs(got-want[b]) <= 1e-4*max(1, math.Abs(want[b]))) {
								t.Fatalf("heads=%d n=%d spans=%v row %d: %g, want %g", heads, n, spans, row, got, want[b])
							}
						}
					}
					if states[i] != nil {
						if !slices.Equal(before[i], states[i]) {
							t.Fatalf("heads=%d n=%d spans=%v: HeadNorm changes the state", heads, n, spans)
						}
						for j, want := range s {
							if got := float64(states[i][h*n*n+j]); !(math.Abs(got-want) <= 1e-4*max(1, math.Abs(want))) {
								t.Fatalf("heads=%d n=%d spans=%v: state[%d] = %g, want %g", heads, n, spans, j, got, want)
							}
						}
					}
				}
			}
			GroupNorm(y, y, heads, out.Gain, out.Bias, out.Eps)
			Mul(y, y, out.Gate)
			if !slices.Equal(y.data, normed.data) {
				t.Fatalf("heads=%d n=%d spans=%v: HeadNorm isn't GroupNorm and Mul", heads, n, spans)
			}
		}
	})
}

func TestNorms(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(15, 16))
		for range 50 {
			rows, groups := 1+rng.IntN(20), 1+rng.IntN(4)
			n := groups * (1 + rng.IntN(70))
			x, gain, bias := random(rng, rng.IntN(2)*3, rows, n), random(rng, 0, n), random(rng, 0, n)
			switch rng.IntN(3) {
			case 0:
				bias = nil
			case 1:
				gain, bias = nil, nil
			}
			y, z := New(rows, n), New(rows, n)
			GroupNorm(y, x, groups, gain, bias, 1e-3)
			RMSNorm(z, x, 1e-3)
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
							want[i] *= float64(gain.data[g*size+i])
						}
						if bias != nil {
							want[i] += float64(bias.data[g*size+i])
						}
					}
					closeTo(t, "GroupNorm", y.Row(r)[g*size:], want)
				}
				for i, v := range x.Row(r) {
					want := float64(v) / (math.Sqrt(squares/float64(n)) + 1e-3)
					closeTo(t, "RMSNorm", z.Row(r)[i:], []float64{want})
				}
			}
		}
	})
}

func noRow(int) []float32 { return nil }

func TestShapesThatDontFitPanic(t *testing.T) {
	a, b, w := New(2, 3), New(2, 4), FromBits(BF16, make([]uint16, 12), 4, 3)
	for name, f := range map[string]func(){
		"Linear":          func() { Linear(Product{Dst: a, X: a, W: w}) },
		"Linear bias":     func() { Linear(Product{Dst: b, X: a, W: w, Bias: New(3)}) },
		"Linear gate":     func() { Linear(Product{Dst: b, X: a, W: w, Gate: a}) },
		"NewWeight":       func() { NewWeight(F32, make([]byte, 8), 3) },
		"weight's type":   func() { NewWeight(Int32, make([]byte, 8), 2) },
		"weight's Rows":   func() { w.Rows(1, 5) },
		"MatMul":          func() { MatMul(a, a, b) },
		"Add":             func() { Add(a, a, b) },
		"Mix":             func() { Mix(a, a, a, New(2)) },
		"TokenShift":      func() { TokenShift(a, []int{0, 2}, noRow, Mixed{Dst: New(2, 3), Mix: New(2)}) },
		"TokenShift dst":  func() { TokenShift(a, []int{0, 2}, noRow, Mixed{Dst: b, Mix: New(3)}) },
		"Mixture":         func() { Mixture(a, New(2, 6), New(2, 1)) },
		"FoldedAttention": func() { FoldedAttention(a, a, a, b, 1, 4, 1, []int{0, 2}) },
		"heads":           func() { FoldedAttention(New(2, 3), a, a, a, 2, 4, 1, []int{0, 2}) },
		"HeadAttention":   func() { HeadAttention(New(2, 4), New(2, 12), 1, 4, 1, []int{0, 2}, false) },
		"CausalAttention": func() {
			CausalAttention(New(2, 3), a, a, a, nil, HeadColumns{PerGroup: 1}, 1, []int{0, 2}, func(int) *KVCache { return &KVCache{K: New(1, 2, 2), V: New(1, 2, 2), Window: 2} })
		},
		"GroupNorm": func() { GroupNorm(a, a, 2, nil, nil, 1) },
		"Rows":      func() { a.Rows(1, 3) },
		"Cols":      func() { a.Cols(-1, 2) },
		"Reshape":   func() { a.Cols(0, 2).Reshape(4) },
		"FromSlice": func() { FromSlice(make([]float32, 5), 2, 3) },
		"New":       func() { New(-1) },
		"overflow":  func() { New(math.MaxInt/2, 3) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestString(t *testing.T) {
	for _, c := range []struct {
		t    fmt.Stringer
		want string
	}{
		{FromSlice([]float32{1, 2, 3, 4, 5, 6}, 3, 2), "[[1 2] [3 4] [5 6]]"},
		{FromSlice([]float32{1, 2, 3, 4, 5, 6}, 3, 2).Cols(1, 2), "[[2] [4] [6]]"},
		{FromBits(BF16, []uint16{0x3f80, 0xc000}, 2), "[1 -2]"},
		{New(2, 2, 2), "[[[0 0] [0 0]] [[0 0] [0 0]]]"},
		{New(20, 30), "f32[20 30]"},
	} {
		if got := c.t.String(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestScratchReusesMemory(t *testing.T) {
	var s Scratch
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
	x, y := FromSlice([]float32{1, 2}, 1, 2), New(1, 3)
	w := FromSlice([]float32{1, 0, 0, 1, 1, 1}, 3, 2) // [out, in], as PyTorch stores it
	Linear(Product{Dst: y, X: x, W: w.Weight()})
	fmt.Println(y)
	// Output: [[1 2 3]]
}
