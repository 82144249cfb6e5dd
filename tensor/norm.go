package tensor

import (
	"math"

	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// LayerNorm normalizes each row of x to mean 0 and variance 1 (Ba et al., arXiv:1607.06450),
//
//	dst = (x − mean) / √(var + eps) ⊙ gain + bias
//
// with the variance over n, not n−1. dst and x are [T, C], gain and bias [C]; a nil gain is 1, a
// nil bias 0. dst may be x.
func LayerNorm(dst, x, gain, bias *Tensor, eps float32) {
	GroupNorm(dst, x, 1, gain, bias, eps)
}

// GroupNorm is LayerNorm over each of groups equal parts of a row alone (Wu and He,
// arXiv:1803.08494); gain and bias still have the row's length.
func GroupNorm(dst, x *Tensor, groups int, gain, bias *Tensor, eps float32) {
	SameShape("GroupNorm", dst, x)
	n := dst.cols()
	if groups <= 0 || n%groups != 0 {
		panic("tensor: GroupNorm: rows of " + task.FormatShape(n) + " in groups of " + task.FormatShape(groups))
	}
	task.OverRows(task.Rows{Op: normRow, Dst: dst.Matrix(), A: x.Matrix(),
		C: Vector("GroupNorm", gain, n), D: Vector("GroupNorm", bias, n), X: eps, Groups: groups})
}

func normRow(t *task.Rows, r int) {
	kernel.Normalize(t.Dst.Row(r), t.A.Row(r), t.C, t.D, nil, t.Groups, t.X)
}

// RMSNorm scales each row x [C] to
//
//	dst = x / (‖x‖₂·C^−½ + eps)
//
// with eps beside the norm, not under the root. dst may be x.
func RMSNorm(dst, x *Tensor, eps float32) {
	SameShape("RMSNorm", dst, x)
	task.OverRows(task.Rows{Op: rmsRow, Dst: dst.Matrix(), A: x.Matrix(), X: eps})
}

func rmsRow(t *task.Rows, r int) {
	x := t.A.Row(r)
	rms := math.Sqrt(float64(kernel.SumSquares(x, 0)) / float64(t.N))
	kernel.Scale(t.Dst.Row(r), float32(1/(rms+float64(t.X))), x)
}
