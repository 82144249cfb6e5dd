package shift

import (
	"sort"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// TensorGradient is a blend with the row before, of amounts that differ from row to row, m_t = x_t +
// (x_{t−1} − x_t) ⊙ Mix_t, whose gradients TensorsBackward passes on.
type TensorGradient struct {
	D    *tensor.Tensor // [R, C], of the blend; then that of Mix
	Mix  *tensor.Tensor // [R, C]
	DSum *tensor.Tensor // [C], to which the sum of the rows of Mix's gradient is added; nil if it isn't wanted
}

// maxTensors is how many blends one call of TensorsBackward takes.
const maxTensors = 5

// TensorsBackward computes the gradients of blends of x [R, C] in sequences that begin at their first row:
// D ← D ⊙ (x_{t−1} − x_t) of each, and of all
//
//	before = Σ D ⊙ Mix;   own = Σ D − before
//
// both [R, C]: row t of own is a part of x_t's gradient, row t of before that of x_{t−1}'s.
func TensorsBackward(own, before, x *tensor.Tensor, spans []int, grads ...TensorGradient) {
	if len(grads) > maxTensors {
		panic("shift: TensorsBackward: too many blends")
	}
	tensor.SameShape("TensorsBackward", x, own, before)
	n := x.Dim(-1)
	t := task.Sums{Op: tensorsRow, N: n, Tmp: 2, Groups: len(grads), Begins: spans, Sums: len(grads)}
	t.In[0], t.Out[0], t.Out[1] = x.Matrix(), own.Matrix(), before.Matrix()
	for i, g := range grads {
		tensor.SameShape("TensorsBackward", x, g.D, g.Mix)
		t.Out[2+i], t.In[1+i] = g.D.Matrix(), g.Mix.Matrix()
		t.Sum[i] = tensor.Vector("TensorsBackward", g.DSum, n)
	}
	task.OverRowSums(&t)
}

func tensorsRow(t *task.Sums, r int, sums, tmp []float32) {
	seq := sort.SearchInts(t.Begins, r+1) - 1 // the last one that begins at or before r
	diff, part := tmp[:t.N], tmp[t.N:2*t.N]
	kernel.Scale(diff, -1, t.In[0].Row(r))
	if r > t.Begins[seq] {
		kernel.Add(diff, diff, t.In[0].Row(r-1))
	}
	own, before := t.Out[0].Row(r), t.Out[1].Row(r)
	clear(own)
	clear(before)
	for g := range t.Groups {
		d, s := t.Out[2+g].Row(r), sums[g*t.N:][:t.N]
		kernel.Mul(part, d, t.In[1+g].Row(r))
		kernel.Add(before, before, part)
		kernel.Add(own, own, d)
		kernel.Mul(d, d, diff)
		kernel.Add(s, s, d)
	}
	kernel.Axpy(own, -1, before)
}
