package tensor

import (
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
)

// AdamFactors are what one step of AdamW (Loshchilov and Hutter, arXiv:1711.05101) multiplies with: Clip,
// the gradients; Rest1 = 1 − β1, Beta2 = β2 and Rest2 = 1 − β2; Correct = 1/√(1−β2^t); Keep = 1 − rate·decay
// and Rate = rate/(1−β1^t).
type AdamFactors = kernel.AdamFactors

var adamFactors = freelist.New[AdamFactors]()

// Adam does one step of AdamW for a parameter p with its moments m and v and its gradient g, all of one
// length: with x = Clip·g,
//
//	m ← m + (x−m)·Rest1;  v ← Beta2·v + Rest2·x²;  p ← Keep·p − Rate·m/(Correct·√v + Eps)
//
// in float32. beta1 is β1: up to 0.5 it is used in place of Rest1, from the other end, as PyTorch does.
func Adam(p, m, v, g []float32, beta1 float32, f AdamFactors) {
	h := adamFactors.Get() // not on the stack: the kernels' table lets it escape
	*h = f
	if f.Rest1 >= 0.5 {
		for i, x := range g {
			x *= f.Clip
			m[i] = x - (x-m[i])*beta1
		}
		h.Rest1 = 0
	}
	kernel.Adam(p, m, v, g, h)
	adamFactors.Put(h)
}
