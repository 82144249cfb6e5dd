package wkv

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
)

// Both forms of the recurrence, with and without a state before, against its definition.
func TestV5(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(11, 12))
		for range 40 {
			heads, n := 1+rng.IntN(3), 1+rng.IntN(40)
			spans := []int{0, rng.IntN(4), 0, 0}
			spans[2] = spans[1] + rng.IntN(150)
			spans[3] = spans[2] + 1 + rng.IntN(9)
			rows := spans[3]
			r, k, v := tensortest.Random(rng, 0, rows, heads*n), tensortest.Random(rng, 0, rows, heads*n), tensortest.Random(rng, 0, rows, heads*n)
			w, u := make([]float32, heads), make([]float32, heads)
			for h := range w {
				w[h], u[h] = rng.Float32(), 2*rng.Float32()-1
			}
			states := [][]float32{tensortest.Random(rng, 0, heads*n*n).Data(), nil, tensortest.Random(rng, 0, heads*n*n).Data()}
			s64 := make([][]float64, len(states))
			for i := range s64 {
				s64[i] = make([]float64, heads*n*n)
				for j := range states[i] {
					s64[i][j] = float64(states[i][j])
				}
			}
			y, normed := tensor.New(rows, heads*n), tensor.New(rows, heads*n)
			out := &HeadNorm{Gain: tensortest.Random(rng, 0, heads*n), Bias: tensortest.Random(rng, 0, heads*n), Eps: 1e-3, Gate: tensortest.Random(rng, 0, rows, heads*n)}
			before := make([][]float32, len(states))
			for i := range states {
				before[i] = slices.Clone(states[i])
			}
			V5(nil, normed, r, k, v, w, u, out, spans, func(i int) []float32 { return before[i] })
			V5(nil, y, r, k, v, w, u, nil, spans, func(i int) []float32 { return states[i] })

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
			tensor.GroupNorm(y, y, heads, out.Gain, out.Bias, out.Eps)
			tensor.Mul(y, y, out.Gate)
			if !slices.Equal(y.Data(), normed.Data()) {
				t.Fatalf("heads=%d n=%d spans=%v: HeadNorm isn't tensor.GroupNorm and tensor.Mul", heads, n, spans)
			}
		}
	})
}

// A chunk's powers of the decay are rounded once each, not at every step: with a single key a result
// is such a power, off by half a unit in the last place.
func TestV5Powers(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		const heads, rows = 40, 64
		w, u := make([]float32, heads), make([]float32, heads)
		r, k, v, y := tensor.New(rows, heads), tensor.New(rows, heads), tensor.New(rows, heads), tensor.New(rows, heads)
		for h := range w {
			w[h] = 1 - float32(h+1)/1000
			k.Row(0)[h] = 1
			for i := range rows {
				r.Row(i)[h], v.Row(i)[h] = 1, 1
			}
		}
		V5(nil, y, r, k, v, w, u, nil, []int{0, rows}, func(int) []float32 { return nil })
		for i := 1; i < rows; i++ {
			for h := range w {
				want := math.Pow(float64(w[h]), float64(i-1))
				if got := float64(y.Row(i)[h]); math.Abs(got-want) > 1.01*tensortest.Eps32*want {
					t.Fatalf("w=%g: power %d is %g, want %g", w[h], i-1, got, want)
				}
			}
		}
	})
}
