package wkv

import (
	"math"

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

// NormalizeHeads divides each of heads equal parts of a row of x by its Euclidean norm, or by
// least if the norm is smaller; dst may be x.
func NormalizeHeads(dst, x *tensor.Tensor, heads int, least float32) {
	tensor.SameShape("NormalizeHeads", dst, x)
	checkHeads("NormalizeHeads", dst, heads)
	task.OverRows(task.Rows{Op: func(t *task.Rows, r int) {
		d, x := t.Dst.Row(r), t.A.Row(r)
		size := t.N / t.Groups
		for i := 0; i < t.N; i += size {
			norm := math.Sqrt(float64(kernel.SumSquares(x[i:][:size], 0)))
			kernel.Scale(d[i:][:size], float32(1/max(norm, float64(t.X))), x[i:][:size])
		}
	}, Dst: dst.Matrix(), A: x.Matrix(), X: least, Groups: heads})
}

// AddHeadDots computes dst += (a·b) v with one dot product for each of heads equal parts of a row,
// all of one shape; dst must not be an operand.
func AddHeadDots(dst, a, b, v *tensor.Tensor, heads int) {
	for _, t := range [...]*tensor.Tensor{dst, a, b, v} {
		tensor.SameShape("AddHeadDots", dst, t)
	}
	checkHeads("AddHeadDots", dst, heads)
	task.OverRows(task.Rows{Op: func(t *task.Rows, r int) {
		d, a, b, v := t.Dst.Row(r), t.A.Row(r), t.B.Row(r), t.E.Row(r)
		size := t.N / t.Groups
		for i := 0; i < t.N; i += size {
			kernel.Axpy(d[i:][:size], kernel.Dot(a[i:][:size], b[i:][:size]), v[i:][:size])
		}
	}, Dst: dst.Matrix(), A: a.Matrix(), B: b.Matrix(), E: v.Matrix(), Groups: heads})
}

// checkHeads panics unless rows can be cut into heads equal parts.
func checkHeads(op string, t *tensor.Tensor, heads int) {
	if heads <= 0 || t.Dim(-1)%heads != 0 {
		panic("wkv: " + op + ": " + task.FormatShape(t.Shape()...) + " in heads of " + task.FormatShape(heads))
	}
}
