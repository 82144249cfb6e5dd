// Package moe has the sum of a mixture of experts.
package moe

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Sum computes dst[t] = Σ_j p[t,j] · x[t, j·S … (j+1)·S) for j < n, where p = softmax(logits) over each
// row, with dst [T, S], x [T, n·S] and logits [T, E], E ≥ n, which it overwrites. dst must not overlap
// x. It is computed as a step of q.
func Sum(q *tensor.Sequence, dst, x, logits *tensor.Tensor) {
	size := dst.Dim(-1)
	n := x.Dim(-1) / max(size, 1)
	if x.Dim(-1) != n*size || logits.Dim(-1) < n || x.Matrix().Rows != dst.Matrix().Rows || logits.Matrix().Rows != dst.Matrix().Rows {
		panic("moe: Sum: dst " + task.FormatShape(dst.Shape()...) + ", x " + task.FormatShape(x.Shape()...) + ", logits " + task.FormatShape(logits.Shape()...))
	}
	q.AddRows(task.Rows{Op: sumRow, Dst: dst.Matrix(), A: x.Matrix(), B: logits.Matrix(), Groups: n})
}

func sumRow(t *task.Rows, r int) { weigh(t, r, task.ExpRow(t.B.Row(r), 0)) }

// WeightedSum is Sum with p [T, E] as the softmax itself, which it only reads.
func WeightedSum(dst, x, p *tensor.Tensor) {
	n := x.Dim(-1) / max(dst.Dim(-1), 1)
	task.OverRows(task.Rows{Op: weightedRow, Dst: dst.Matrix(), A: x.Matrix(), B: p.Matrix(), Groups: n})
}

func weightedRow(t *task.Rows, r int) { weigh(t, r, 1) }

// weigh adds up a row's parts of x, weighed by norm·p.
func weigh(t *task.Rows, r int, norm float32) {
	dst, x, p := t.Dst.Row(r), t.A.Row(r), t.B.Row(r)
	kernel.Scale(dst, norm*p[0], x[:t.N])
	for j := 1; j < t.Groups; j++ {
		kernel.Axpy(dst, norm*p[j], x[j*t.N:][:t.N])
	}
}

// ColumnMeans writes the mean of x's rows [R, N] of each sequence to a row of dst [sequences, N], summed
// in float64.
func ColumnMeans(dst, x *tensor.Tensor, spans []int) {
	for i := range len(spans) - 1 { // few rows: a sequence at a time
		t := task.Rows{Op: columnMeans, Dst: dst.Matrix(), A: x.Matrix()}
		t.Dst.Data, t.Dst.Rows = t.Dst.Row(i), 1
		t.A.Data, t.A.Rows = t.A.Data[spans[i]*t.A.Stride:], spans[i+1]-spans[i]
		task.OverRows(t)
	}
}

func columnMeans(t *task.Rows, _ int) {
	dst := t.Dst.Row(0)
	for c := range dst {
		var sum float64
		for r := range t.A.Rows {
			sum += float64(t.A.Data[r*t.A.Stride+c])
		}
		dst[c] = float32(sum / float64(t.A.Rows))
	}
}
