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
	t := task.Sums{Op: backwardRow, N: n, Tmp: 2, Groups: len(grads), Begins: spans}
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

func backwardRow(t *task.Sums, r int, sums, tmp []float32) {
	seq := sort.SearchInts(t.Begins, r+1) - 1 // the last one that begins at or before r
	for t.Begins[seq+1] <= r {
		seq++
	}
	x, dx, diff, zeros := t.In[7].Row(r), t.Out[0].Row(r), tmp[:t.N], tmp[t.N:2*t.N]
	kernel.Scale(diff, -1, x)
	if r > t.Begins[seq] {
		kernel.Add(diff, diff, t.In[7].Row(r-1))
	}
	if t.X == 0 {
		clear(dx)
	}
	last := r+1 == t.Begins[seq+1]
	if last {
		clear(zeros)
	}
	for g := range t.Groups {
		next := zeros
		if !last {
			next = t.In[g].Row(r + 1)
		}
		kernel.MixGrad(dx, sums[g*t.N:][:t.N], t.In[g].Row(r), next, t.Vec[g], diff)
	}
}
