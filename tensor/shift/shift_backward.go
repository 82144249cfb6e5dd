package shift

import (
	"sort"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Gradient is one blend whose gradients TokensBackward passes on.
type Gradient struct {
	D    *tensor.Tensor // [R, C], of the blend
	Mix  *tensor.Tensor // [C]
	DMix *tensor.Tensor // [C], which is added to; nil if it isn't wanted
}

// TokensBackward computes the gradients of Tokens for sequences that begin at their first row, from
// those of all its blends of x [R, C]:
//
//	dx_t = Σ (1 − Mix) ⊙ D_t + Mix ⊙ D_{t+1}     D_{t+1} only of the same sequence
//	dMix += Σ_t D_t ⊙ (x_{t−1} − x_t)
//
// dx is added to if add is set, else written.
func TokensBackward(dx, x *tensor.Tensor, spans []int, add bool, grads ...Gradient) {
	if len(grads) > maxMixed {
		panic("shift: TokensBackward: too many blends")
	}
	tensor.SameShape("TokensBackward", dx, x)
	n := x.Dim(-1)
	t := task.Sums{Block: backwardRows, N: n, Tmp: 2, Groups: len(grads), Begins: spans}
	if add {
		t.X = 1
	}
	t.In[7], t.Out[0], t.Rows = x.Matrix(), dx.Matrix(), x.Dim(0)
	for i, g := range grads {
		tensor.SameShape("TokensBackward", x, g.D)
		t.In[i], t.Vec[i] = g.D.Matrix(), tensor.Vector("TokensBackward", g.Mix, n)
		t.Sum[i] = tensor.Vector("TokensBackward", g.DMix, n)
	}
	t.Sums = len(grads)
	task.OverRowSums(&t)
}

// backwardRows goes back over rows from to to, a sequence at a time and blend by blend.
func backwardRows(t *task.Sums, from, to int, sums, tmp []float32) {
	x, dx := &t.In[7], &t.Out[0]
	seq := sort.SearchInts(t.Begins, from+1) - 1 // the last one that begins at or before from
	for ; from < to; seq++ {
		end := min(to, t.Begins[seq+1])
		if end == from {
			continue
		}
		before, ends := from-1, kernel.MixEnds(0)
		if from == t.Begins[seq] {
			before, ends = from, kernel.FirstRow
		}
		if end == t.Begins[seq+1] {
			ends |= kernel.LastRow
		}
		for g := range t.Groups {
			e, d := ends, &t.In[g]
			if g > 0 || t.X != 0 {
				e |= kernel.AddToDX
			}
			kernel.MixGradRows(dx.Data[from*dx.Stride:], dx.Stride, sums[g*t.N:][:t.N], d.Data[from*d.Stride:], d.Stride,
				x.Data[before*x.Stride:], x.Stride, t.Vec[g], tmp[:2*t.N], end-from, e)
		}
		from = end
	}
}
