package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// ExpScaled computes dst = exp(scale·x), both of one shape, as a step of q; dst may be x.
func ExpScaled(q *tensor.Sequence, dst, x *tensor.Tensor, scale float32) {
	tensor.SameShape("ExpScaled", dst, x)
	q.AddRows(task.Rows{Op: func(t *task.Rows, r int) {
		d := t.Dst.Row(r)
		kernel.Scale(d, t.X, t.A.Row(r))
		kernel.Exp(d, d)
	}, Dst: dst.Matrix(), A: x.Matrix(), X: scale})
}

// checkHeads panics unless t is rows that can be cut into heads equal parts.
func checkHeads(op string, t *tensor.Tensor, heads int) {
	if len(t.Shape()) != 2 || heads <= 0 || t.Dim(-1)%heads != 0 {
		panic("wkv: " + op + ": " + task.FormatShape(t.Shape()...) + " in heads of " + task.FormatShape(heads))
	}
}
