package tensor

import (
	"math"

	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// GroupNormBackward computes the gradients of GroupNorm from that of its output, dy, and its input
// x: dx is added to if add is set, else written; dgain and dbias [C] are added to, unless they are
// nil. dx may be dy.
func GroupNormBackward(dx, dy, x *Tensor, groups int, gain *Tensor, eps float32, dgain, dbias *Tensor, add bool) {
	SameShape("GroupNormBackward", dx, dy, x)
	n := x.cols()
	t := task.Sums{Op: normBackwardRow, N: n, Tmp: 4, Groups: groups, X: eps}
	if add {
		t.Op = normBackwardAddRow
	}
	t.In[0], t.In[1], t.Out[0] = x.Matrix(), dy.Matrix(), dx.Matrix()
	t.Vec[0] = Vector("GroupNormBackward", gain, n)
	t.Sum[0], t.Sum[1] = Vector("GroupNormBackward", dgain, n), Vector("GroupNormBackward", dbias, n)
	task.OverRowSums(&t)
}

func normBackwardRow(t *task.Sums, r int, sums, tmp []float32) { normBackward(t, r, sums, tmp, false) }

func normBackwardAddRow(t *task.Sums, r int, sums, tmp []float32) {
	normBackward(t, r, sums, tmp, true)
}

func normBackward(t *task.Sums, r int, sums, tmp []float32, add bool) {
	n := t.N
	hat, rstd := tmp[:n], tmp[n:][:t.Groups]
	kernel.Normalize(hat, t.In[0].Row(r), nil, nil, rstd, t.Groups, t.X)
	kernel.NormGrad(t.Out[0].Row(r), t.Wanted(sums, 0), t.Wanted(sums, 1), t.In[1].Row(r), hat, t.Vec[0], rstd, tmp[2*n:4*n], add)
}

// RMSNormBackward computes the gradient of RMSNorm's input x from that of its output: dx is added to
// if add is set, else written. dx may be dy. At a row of zeros the norm counts as constant, as in
// PyTorch.
func RMSNormBackward(dx, dy, x *Tensor, eps float32, add bool) {
	SameShape("RMSNormBackward", dx, dy, x)
	op := rmsBackwardRow
	if add {
		op = rmsBackwardAddRow
	}
	task.OverRows(task.Rows{Op: op, Dst: dx.Matrix(), A: dy.Matrix(), B: x.Matrix(), X: eps})
}

func rmsBackwardRow(t *task.Rows, r int) {
	a, b := rmsFactors(t, r)
	dx, dy, x := t.Dst.Row(r), t.A.Row(r), t.B.Row(r)
	for i, v := range dy {
		dx[i] = a*v - b*x[i]
	}
}

func rmsBackwardAddRow(t *task.Rows, r int) {
	a, b := rmsFactors(t, r)
	dx := t.Dst.Row(r)
	kernel.Axpy(dx, a, t.A.Row(r))
	kernel.Axpy(dx, -b, t.B.Row(r))
}

// rmsFactors returns what dy and x are multiplied by.
func rmsFactors(t *task.Rows, r int) (a, b float32) {
	dy, x := t.A.Row(r), t.B.Row(r)
	rms := math.Sqrt(float64(kernel.SumSquares(x, 0)) / float64(t.N))
	scale := 1 / (rms + float64(t.X))
	if rms == 0 {
		return float32(scale), 0
	}
	return float32(scale), float32(float64(kernel.Dot(dy, x)) * scale * scale / (rms * float64(t.N)))
}
