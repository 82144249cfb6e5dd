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

// checkNumbers fails unless got is want, each within so much of the larger of 1 and its size.
func checkNumbers(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= tol*max(1, math.Abs(want[i]))) {
			t.Fatalf("%s: number %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

// randomStates returns a state of so many numbers for each of three sequences.
func randomStates(rng *rand.Rand, size int) (states [][]float32, s64 [][]float64) {
	for range 3 {
		s := tensortest.Random(rng, 0, size).Data()
		states, s64 = append(states, s), append(s64, tensortest.Wide(s))
	}
	return states, s64
}

// The recurrence with a decay a channel, in both forms, against its definition: decays of all sizes,
// some of which leave nothing after a few tokens.
func TestV6(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(13, 14))
		for round := range 40 {
			heads, n := 1+rng.IntN(3), 1+rng.IntN(40)
			c := heads * n
			first := rng.IntN(6)
			second := first + rng.IntN(150)
			spans := []int{0, first, second, second + 1 + rng.IntN(20)}
			rows := spans[3]
			r, k, v := tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c)
			u := tensortest.Random(rng, 0, c).Data()
			w := tensor.New(rows, c)
			if round%2 == 1 {
				w = tensor.New(c)
			}
			for i := range w.Data() {
				w.Data()[i] = float32(math.Exp(-math.Exp(4 * rng.NormFloat64())))
			}
			states, s64 := randomStates(rng, heads*n*n)
			y := tensor.New(rows, c)
			V6(nil, y, r, w, k, v, u, heads, nil, spans, func(i int) []float32 { return states[i] })

			for i := range states {
				for h := range heads {
					s := s64[i][h*n*n:][:n*n]
					for row := spans[i]; row < spans[i+1]; row++ {
						rr, kk, vv, ww := r.Row(row)[h*n:], k.Row(row)[h*n:], v.Row(row)[h*n:], w.Data()[h*n:]
						if round%2 == 0 {
							ww = w.Row(row)[h*n:]
						}
						want := make([]float64, n)
						for b := range n {
							for a := range n {
								kv := float64(kk[a]) * float64(vv[b])
								want[b] += float64(rr[a]) * (s[b*n+a] + float64(u[h*n+a])*kv)
								s[b*n+a] = float64(ww[a])*s[b*n+a] + kv
							}
						}
						// sums of up to 40 products with a state of up to 150 products
						checkNumbers(t, "y", y.Row(row)[h*n:][:n], want, 1e-4)
					}
				}
				checkNumbers(t, "state", states[i], s64[i], 1e-4)
			}

			// with a norm and a gate, or a norm alone
			out := &HeadNorm{Gain: tensortest.Random(rng, 0, c), Bias: tensortest.Random(rng, 0, c), Eps: 1e-3}
			if round%3 > 0 {
				out.Gate = tensortest.Random(rng, 0, rows, c)
			}
			plain, normed := tensor.New(rows, c), tensor.New(rows, c)
			zeros := func(int) []float32 { return nil }
			V6(nil, plain, r, w, k, v, u, heads, nil, spans, zeros)
			V6(nil, normed, r, w, k, v, u, heads, out, spans, zeros)
			tensor.GroupNorm(plain, plain, heads, out.Gain, out.Bias, out.Eps)
			if out.Gate != nil {
				tensor.Mul(plain, plain, out.Gate)
			}
			if !slices.Equal(plain.Data(), normed.Data()) {
				t.Fatal("HeadNorm isn't tensor.GroupNorm and tensor.Mul")
			}
		}
	})
}

// Decays of RWKV-6 that forget within a token, and keys that make quotients of their products
// overflow: nothing becomes NaN or Inf.
func TestV6Forgets(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		const n, rows = 64, 300
		one, w := tensor.New(rows, n), tensor.New(rows, n)
		for i := range one.Data() {
			one.Data()[i], w.Data()[i] = 1, 1e-3
		}
		for i := range n {
			w.Row(100)[i] = 0
		}
		y, u := tensor.New(rows, n), make([]float32, n)
		V6(nil, y, one, w, one, one, u, 1, nil, []int{0, rows}, func(int) []float32 { return nil })
		s := 0.0
		for i := range rows {
			if got := float64(y.Row(i)[3]); !(math.Abs(got-n*s) <= 1e-4) { // sums of 64 numbers near 1
				t.Fatalf("row %d: %g, want %g", i, got, n*s)
			}
			s = s*float64(w.Row(i)[3]) + 1
		}
	})
}

// The recurrence of RWKV-4 against its definition without a running maximum, in float64, which
// holds what keys of ±100 make of it.
func TestV4(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(15, 16))
		for range 20 {
			c := 1 + rng.IntN(150)
			first := rng.IntN(4)
			second := first + rng.IntN(60)
			spans := []int{0, first, second, second + 1 + rng.IntN(9)}
			rows := spans[3]
			k, v, y := tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensor.New(rows, c)
			for i := range k.Data() {
				k.Data()[i] = 200*rng.Float32() - 100
			}
			w, u := make([]float32, c), tensortest.Random(rng, 0, c).Data()
			for i := range w {
				w[i] = -float32(math.Exp(3*rng.Float64() - 2))
			}
			states := make([][]float32, 3)
			for i := range states {
				states[i] = make([]float32, 3*c)
				for j := range c {
					states[i][2*c+j] = V4Start
				}
			}
			V4(nil, y, k, v, w, u, spans, func(i int) []float32 { return states[i] })
			for i, s := range states {
				for j := range c {
					var a, b float64
					for row := spans[i]; row < spans[i+1]; row++ {
						kj, vj := float64(k.Row(row)[j]), float64(v.Row(row)[j])
						e := math.Exp(kj + float64(u[j]))
						want := (a + e*vj) / (b + e)
						// p is at most 100 and rounded up to 60 times, by 4e-6
						if got := float64(y.Row(row)[j]); !(math.Abs(got-want) <= 3e-4) {
							t.Fatalf("c=%d spans=%v row %d channel %d: %g, want %g", c, spans, row, j, got, want)
						}
						decay := math.Exp(float64(w[j]))
						a, b = decay*a+math.Exp(kj)*vj, decay*b+math.Exp(kj)
					}
					if spans[i] < spans[i+1] {
						scale := math.Exp(float64(s[2*c+j]))
						checkNumbers(t, "state", []float32{s[j], s[c+j]}, []float64{a / scale, b / scale}, 3e-4)
					}
				}
			}
		}
	})
}

// BenchmarkV4 is the channels of a model of 0.4B, for a token and for a prompt.
func BenchmarkV4(b *testing.B) {
	for _, rows := range []int{1, 256} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			const c = 1024
			k, v, y := tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensor.New(rows, c)
			w, u, s := make([]float32, c), make([]float32, c), make([]float32, 3*c)
			for i := range w {
				w[i] = -0.5
			}
			for b.Loop() {
				V4(nil, y, k, v, w, u, []int{0, rows}, func(int) []float32 { return s })
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows*c), "ns/channel")
		})
	}
}

// BenchmarkV6 is the heads of a model of 0.4B, for a token and for a prompt.
func BenchmarkV6(b *testing.B) {
	for _, rows := range []int{1, 256} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			const heads, c = 16, 1024
			r, k, v, y := tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensortest.Random(rng, 0, rows, c), tensor.New(rows, c)
			w, u, s := tensor.New(rows, c), make([]float32, c), make([]float32, c*c/heads)
			for i := range w.Data() {
				w.Data()[i] = 0.9
			}
			for b.Loop() {
				V6(nil, y, r, w, k, v, u, heads, nil, []int{0, rows}, func(int) []float32 { return s })
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows*heads), "ns/row")
		})
	}
}
