package moe

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
)

func TestSum(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(23, 24))
		for range 40 {
			rows, size, n := 1+rng.IntN(20), 1+rng.IntN(50), 1+rng.IntN(4)
			experts := n + rng.IntN(3)
			x, logits, dst := tensortest.Random(rng, 0, rows, n*size), tensortest.Random(rng, 0, rows, experts), tensor.New(rows, size)
			p := make([][]float64, rows)
			for r := range p {
				p[r] = tensortest.Softmax64(tensortest.Wide(logits.Row(r)), 0)
			}
			Sum(nil, dst, x, logits)
			for r := range rows {
				want := make([]float64, size)
				for j := range n {
					for e := range want {
						want[e] += p[r][j] * float64(x.Row(r)[j*size+e])
					}
				}
				tensortest.CloseTo(t, fmt.Sprintf("rows=%d size=%d n=%d of %d", rows, size, n, experts), dst.Row(r), want)
			}
		}
	})
}

func TestShapesThatDontFitPanic(t *testing.T) {
	tensortest.Panics(t, "logits", func() { Sum(nil, tensor.New(2, 3), tensor.New(2, 6), tensor.New(2, 1)) })
}
