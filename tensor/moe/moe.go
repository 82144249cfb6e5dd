// Package moe has the sum of a mixture of experts.
package moe

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
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
	t := meansTasks.Get()
	t.dst, t.x = dst.Matrix(), x.Matrix()
	t.spans = append(t.spans[:0], spans...)
	t.blocks = (t.x.Cols + meansCols - 1) / meansCols
	task.Spread((len(spans)-1)*t.blocks, t.x.Rows*t.x.Cols, t)
	*t = meansTask{spans: t.spans}
	meansTasks.Put(t)
}

// meansCols is the columns of a piece: their sums stay in L1, and enough of a row is read at a time.
const meansCols = 128

var meansTasks = freelist.New[meansTask]()

type meansTask struct {
	dst, x task.Matrix
	spans  []int
	blocks int // pieces of a sequence
}

// Run computes some columns of one sequence.
func (t *meansTask) Run(piece int) {
	seq, c := piece/t.blocks, piece%t.blocks*meansCols
	n := min(meansCols, t.x.Cols-c)
	var sums [meansCols]float64
	for r := t.spans[seq]; r < t.spans[seq+1]; r++ {
		for i, v := range t.x.Data[r*t.x.Stride+c:][:n] {
			sums[i] += float64(v)
		}
	}
	rows := float64(t.spans[seq+1] - t.spans[seq])
	for i, d := 0, t.dst.Row(seq)[c:][:n]; i < n; i++ {
		d[i] = float32(sums[i] / rows)
	}
}
