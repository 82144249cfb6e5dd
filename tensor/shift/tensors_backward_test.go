package shift

import (
	"math"
	"math/rand/v2"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
)

// TensorsBackward against its formulas, for sequences of any lengths, none included.
func TestTensorsBackward(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		for range 10 {
			c, blends := 1+rng.IntN(70), 1+rng.IntN(maxTensors)
			spans := []int{0, rng.IntN(3), 0, 0}
			spans[2] = spans[1] + rng.IntN(40)
			spans[3] = spans[2] + 1 + rng.IntN(50)
			rows := spans[3]
			x, own, before := tensortest.Random(rng, 1, rows, c), tensor.New(rows, c), tensor.New(rows, c)
			var grads []TensorGradient
			var d [][]float64
			for range blends {
				g := TensorGradient{D: tensortest.Random(rng, 0, rows, c), Mix: tensortest.Random(rng, 2, rows, c), DSum: tensor.New(c)}
				g.DSum.Data()[0] = 3
				grads, d = append(grads, g), append(d, tensortest.Wide(g.D.Data()))
			}
			TensorsBackward(own, before, x, spans, grads...)
			near := func(what string, got float32, want float64) {
				t.Helper()
				if !(math.Abs(float64(got)-want) <= 1e-5*(1+float64(rows))) {
					t.Fatalf("spans=%v: %s is %v, want %v", spans, what, got, want)
				}
			}
			sums := make([][]float64, blends)
			for g := range sums {
				sums[g] = make([]float64, c)
				sums[g][0] = 3
			}
			for i := range len(spans) - 1 {
				for r := spans[i]; r < spans[i+1]; r++ {
					for j := range c {
						diff := -float64(x.Row(r)[j])
						if r > spans[i] {
							diff += float64(x.Row(r - 1)[j])
						}
						var wantOwn, wantBefore float64
						for g := range grads {
							dg, mix := d[g][r*c+j], float64(grads[g].Mix.Row(r)[j])
							wantOwn, wantBefore = wantOwn+dg*(1-mix), wantBefore+dg*mix
							near("an amount's gradient", grads[g].D.Row(r)[j], dg*diff)
							sums[g][j] += dg * diff
						}
						near("own", own.Row(r)[j], wantOwn)
						near("before", before.Row(r)[j], wantBefore)
					}
				}
			}
			for g := range grads {
				for j := range c {
					near("a sum", grads[g].DSum.Data()[j], sums[g][j])
				}
			}
		}
	})
}
