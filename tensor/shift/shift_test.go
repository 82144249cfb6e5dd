package shift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
)

func TestTokens(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(21, 22))
		for range 40 {
			c, spans := 1+rng.IntN(70), tensortest.RandomSpans(rng, 0, 30)
			rows := spans[len(spans)-1]
			x := tensortest.Random(rng, rng.IntN(2)*3, rows, c)
			outs := make([]Mixed, 1+rng.IntN(maxMixed))
			for i := range outs {
				outs[i] = Mixed{Dst: tensor.New(rows, c), Mix: tensortest.Random(rng, 0, c)}
				if rng.IntN(4) == 0 {
					outs[i].Mix = nil
				}
			}
			var last, before [][]float32
			for range len(spans) - 1 {
				l := tensortest.Random(rng, 0, c).Data()
				if rng.IntN(3) == 0 {
					l = nil
				}
				last, before = append(last, l), append(before, slices.Clone(l))
			}
			Tokens(x, spans, func(i int) []float32 { return last[i] }, outs...)
			for i := range len(spans) - 1 {
				prev := make([]float32, c)
				copy(prev, before[i])
				for r := spans[i]; r < spans[i+1]; r++ {
					for _, o := range outs {
						for e, v := range x.Row(r) { // two roundings of numbers up to 2, and one of their sum
							want := float64(prev[e])
							if o.Mix != nil {
								want = float64(v) + (float64(prev[e])-float64(v))*float64(o.Mix.Data()[e])
							}
							if got := float64(o.Dst.Row(r)[e]); math.Abs(got-want) > 8*tensortest.Eps32 {
								t.Fatalf("c=%d spans=%v row %d: %g, want %g", c, spans, r, got, want)
							}
						}
					}
					prev = x.Row(r)
				}
				if last[i] != nil && !slices.Equal(last[i], prev) {
					t.Fatalf("c=%d spans=%v: sequence %d ends with %v, want %v", c, spans, i, last[i], prev)
				}
			}
		}
	})
}

func TestShapesThatDontFitPanic(t *testing.T) {
	a, noRow := tensor.New(2, 3), func(int) []float32 { return nil }
	tensortest.Panics(t, "Mix", func() { Tokens(a, []int{0, 2}, noRow, Mixed{Dst: tensor.New(2, 3), Mix: tensor.New(2)}) })
	tensortest.Panics(t, "Dst", func() { Tokens(a, []int{0, 2}, noRow, Mixed{Dst: tensor.New(2, 4), Mix: tensor.New(3)}) })
}
