// Package moe has the sum of a mixture of experts.
package moe

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Sum computes dst[t] = Σ_j p[t,j] · x[t, j·S … (j+1)·S) for j < n, where p = softmax(logits) over each
// row, with dst [T, S], x [T, n·S] and logits [T, E], E ≥ n, which it overwrites. dst must not overlap
// x.
func Sum(dst, x, logits *tensor.Tensor) {
	size := dst.Dim(-1)
	n := x.Dim(-1) / max(size, 1)
	if x.Dim(-1) != n*size || logits.Dim(-1) < n || x.Matrix().Rows != dst.Matrix().Rows || logits.Matrix().Rows != dst.Matrix().Rows {
		panic("moe: Sum: dst " + task.FormatShape(dst.Shape()...) + ", x " + task.FormatShape(x.Shape()...) + ", logits " + task.FormatShape(logits.Shape()...))
	}
	task.OverRows(task.Rows{Op: sumRow, Dst: dst.Matrix(), A: x.Matrix(), B: logits.Matrix(), Groups: n})
}

func sumRow(t *task.Rows, r int) {
	dst, x, p := t.Dst.Row(r), t.A.Row(r), t.B.Row(r)
	norm := task.ExpRow(p, 0)
	kernel.Scale(dst, norm*p[0], x[:t.N])
	for j := 1; j < t.Groups; j++ {
		kernel.Axpy(dst, norm*p[j], x[j*t.N:][:t.N])
	}
}
