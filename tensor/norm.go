package tensor

import (
	"math"

	"microrwkv/tensor/internal/kernel"
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
	sameShape("GroupNorm", dst, x)
	n := dst.cols()
	if groups <= 0 || n%groups != 0 {
		panic("tensor: GroupNorm: rows of " + formatShape([]int{n}) + " in groups of " + formatShape([]int{groups}))
	}
	overRows(dst.rows(), n, rowTask{op: normRow, dst: dst.matrix(), a: x.matrix(),
		c: vector("GroupNorm", gain, n), d: vector("GroupNorm", bias, n), x: eps, groups: groups})
}

func normRow(t *rowTask, r int) {
	dst, x := t.dst.row(r, t.n), t.a.row(r, t.n)
	size := t.n / t.groups
	for i := 0; i < t.n; i += size {
		var gain, bias []float32
		if t.c != nil {
			gain = t.c[i:][:size]
		}
		if t.d != nil {
			bias = t.d[i:][:size]
		}
		normalize(dst[i:][:size], x[i:][:size], gain, bias, t.x)
	}
}

func normalize(dst, x, gain, bias []float32, eps float32) {
	n := float32(len(x))
	mean := kernel.Sum(x) / n
	variance := kernel.SumSquares(x, mean) / n
	kernel.Norm(dst, x, mean, float32(1/math.Sqrt(float64(variance+eps))), gain, bias)
}

// RMSNorm scales each row x [C] to
//
//	dst = x / (‖x‖₂·C^−½ + eps)
//
// with eps beside the norm, not under the root. dst may be x.
func RMSNorm(dst, x *Tensor, eps float32) {
	sameShape("RMSNorm", dst, x)
	overRows(dst.rows(), dst.cols(), rowTask{op: rmsRow, dst: dst.matrix(), a: x.matrix(), x: eps})
}

func rmsRow(t *rowTask, r int) {
	x := t.a.row(r, t.n)
	rms := math.Sqrt(float64(kernel.SumSquares(x, 0)) / float64(t.n))
	kernel.Scale(t.dst.row(r, t.n), float32(1/(rms+float64(t.x))), x)
}
