package wkv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
)

// v6Loss is Σ dy ⊙ y of V6's definition, in float64, over sequences that begin with s0.
func v6Loss(r, w, k, v, u, s0, dy []float64, heads, n int, spans []int) (loss float64) {
	c := heads * n
	for i := range len(spans) - 1 {
		for h := range heads {
			s := slices.Clone(s0[(i*heads+h)*n*n:][:n*n])
			for row := spans[i]; row < spans[i+1]; row++ {
				at := row*c + h*n
				for b := range n {
					var y float64
					for a := range n {
						kv := k[at+a] * v[at+b]
						y += r[at+a] * (s[b*n+a] + u[h*n+a]*kv)
						s[b*n+a] = w[at+a]*s[b*n+a] + kv
					}
					loss += dy[at+b] * y
				}
			}
		}
	}
	return loss
}

// V6Backward against central differences of the definition in float64, along random directions of each
// operand: decays of all sizes, a w of its own for each row and one for all, every kernel, one and more
// threads with the same bits.
func TestV6Backward(t *testing.T) {
	defer tensor.SetThreads(0)
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(23, 24))
		for round := range 24 {
			heads, n := 1+rng.IntN(3), 1+rng.IntN(20)
			c, vector := heads*n, round%2 == 1
			first := rng.IntN(12)
			second := first + rng.IntN(150)
			spans := []int{0, first, second, second, second + 1 + rng.IntN(70)}
			rows, seqs := spans[4], 4
			m := map[string]*tensor.Tensor{}
			for _, name := range []string{"r", "k", "v", "dy"} {
				m[name] = tensortest.Random(rng, 0, rows, c)
			}
			m["u"], m["s"] = tensortest.Random(rng, 0, c), tensortest.Random(rng, 0, seqs, heads*n*n)
			e := tensor.New(rows, c) // ln(−ln w)
			if vector {
				e = tensor.New(c)
			}
			w := tensor.New(e.Shape()...)
			for i := range e.Data() {
				x := 2*rng.NormFloat64() - 1
				if rng.IntN(20) == 0 {
					x = 9 // nothing is left
				}
				e.Data()[i] = float32(x)
				w.Data()[i] = float32(math.Exp(-math.Exp(x)))
			}
			m["e"] = e
			got := map[string][]float64{}
			for threads := 1; threads <= 3; threads++ {
				tensor.SetThreads(threads)
				dr, dk, dv, dw, ds := tensor.New(rows, c), tensor.New(rows, c), tensor.New(rows, c), tensor.New(rows, c), tensor.New(seqs, heads*n*n)
				g := Gradients{Bonus: make([]float64, c), Initial: m["s"].Row, DInitial: ds.Row}
				wide := tensortest.Wide
				if vector {
					g.LogDecay, dw = make([]float64, c), nil
				}
				V6Backward(dr, dw, dk, dv, m["dy"], m["r"], w, m["k"], m["v"], m["u"].Data(), heads, spans, &g)
				now := map[string][]float64{"r": wide(dr.Data()), "k": wide(dk.Data()), "v": wide(dv.Data()), "u": g.Bonus, "s": wide(ds.Data())}
				if vector {
					now["e"] = g.LogDecay
					for i, x := range e.Data() {
						now["e"][i] *= -math.Exp(float64(x))
					}
				} else {
					s := tensor.New(rows, c)
					ExpScaled(nil, s, e, 1)
					sum, before := tensor.New(c), tensortest.Wide(dw.Data())
					DecayBackward(dw, s, sum)
					now["e"] = wide(dw.Data())
					for j := range c {
						var want, size float64
						for i := range rows {
							want += now["e"][i*c+j]
							size += math.Abs(now["e"][i*c+j])
							if before[i*c+j] == 0 && now["e"][i*c+j] != 0 {
								t.Fatal("a gradient out of nothing")
							}
						}
						if math.Abs(float64(sum.Data()[j])-want) > 1e-5*size {
							t.Fatalf("sum %v, want %v", sum.Data()[j], want)
						}
					}
				}
				for name, x := range now {
					if threads > 1 && !slices.Equal(x, got[name]) {
						t.Fatalf("d%s has other bits on %d threads", name, threads)
					}
				}
				got = now
			}
			x := map[string][]float64{}
			for name, v := range m {
				x[name] = tensortest.Wide(v.Data())
			}
			loss := func() float64 {
				ww := make([]float64, rows*c)
				for i := range ww {
					j := i
					if vector {
						j = i % c
					}
					ww[i] = math.Exp(-math.Exp(x["e"][j]))
				}
				return v6Loss(x["r"], ww, x["k"], x["v"], x["u"], x["s"], x["dy"], heads, n, spans)
			}
			for _, name := range []string{"r", "k", "v", "u", "s", "e"} {
				const step = 1e-6
				d := make([]float64, len(x[name]))
				var have, norm float64
				for i := range d {
					d[i] = rng.NormFloat64()
					have += d[i] * got[name][i]
					norm += got[name][i] * got[name][i]
				}
				move := func(by float64) {
					for i := range d {
						x[name][i] += by * d[i]
					}
				}
				move(step)
				want := loss()
				move(-2 * step)
				want = (want - loss()) / (2 * step)
				move(step)
				// the differences round at 1e-16/step of a loss of some thousands; float32 at 1e-7 of each term
				if bound := 2e-5*math.Sqrt(norm) + 1e-5*math.Sqrt(float64(rows)); !(math.Abs(have-want) <= bound) {
					t.Errorf("heads=%d n=%d spans=%v vector=%v: d%s: %.7g along a direction, the differences say %.7g (± %.2g)", heads, n, spans, vector, name, have, want, bound)
				}
			}
		}
	})
}

// Decays that forget within a token: no gradient becomes NaN or Inf, and what is forgotten has none.
func TestV6BackwardForgets(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		const n, rows = 64, 200
		one, w := tensor.New(rows, n), tensor.New(rows, n)
		for i := range one.Data() {
			one.Data()[i], w.Data()[i] = 1, 1e-3
		}
		clear(w.Row(100))
		dr, dw, dk, dv, d0 := tensor.New(rows, n), tensor.New(rows, n), tensor.New(rows, n), tensor.New(rows, n), tensor.New(n, n)
		g := Gradients{DInitial: func(int) []float32 { return d0.Data() }}
		V6Backward(dr, dw, dk, dv, one, one, w, one, one, make([]float32, n), 1, []int{0, rows}, &g)
		for _, x := range []*tensor.Tensor{dr, dw, dk, dv, d0} {
			for i, v := range x.Data() {
				if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
					t.Fatalf("number %d is %v", i, v)
				}
			}
		}
		for j := range n {
			if dw.Row(100)[j] != 0 {
				t.Fatalf("a decay of 0 has the gradient %v", dw.Row(100)[j])
			}
			// w Σ dS ⊙ S with dS = S = 64/(1−w) over 64 rows of dy and v, both 1
			if want := 1e-3 * n / (0.999 * 0.999); math.Abs(float64(dw.Row(50)[j])-want) > 1e-4 {
				t.Fatalf("d ln w is %v, want %v", dw.Row(50)[j], want)
			}
		}
	})
}

// BenchmarkV6Backward is the heads of a model of 0.4B.
func BenchmarkV6Backward(b *testing.B) {
	for _, rows := range []int{64, 512} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			const heads, c = 16, 1024
			r, k, v, dy, w := tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensor.New(rows, c)
			for i := range w.Data() {
				w.Data()[i] = 0.9
			}
			dr, dw, dk, dv := tensor.New(rows, c), tensor.New(rows, c), tensor.New(rows, c), tensor.New(rows, c)
			u, g := make([]float32, c), Gradients{}
			b.ReportAllocs()
			for b.Loop() {
				V6Backward(dr, dw, dk, dv, dy, r, w, k, v, u, heads, []int{0, rows}, &g)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows*heads), "ns/row")
		})
	}
}
