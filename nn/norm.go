package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/wkv"
)

// LayerNorm normalizes each row to mean 0 and variance 1, then scales and shifts it (Ba et al.,
// arXiv:1607.06450):
//
//	y = (x − mean) / √(var + Eps) ⊙ Gain + Bias
//
// with the variance over C, as PyTorch computes it.
type LayerNorm struct {
	Gain *tensor.Tensor // [C]
	Bias *tensor.Tensor // [C], or nil for none
	Eps  float32
}

// Forward computes dst from x, both [R, C]; dst may be x.
func (n LayerNorm) Forward(dst, x *tensor.Tensor) {
	tensor.LayerNorm(dst, x, n.Gain, n.Bias, n.Eps)
}

// GroupNorm is LayerNorm over each of Groups equal parts of a row alone (Wu and He,
// arXiv:1803.08494).
type GroupNorm struct {
	Groups     int
	Gain, Bias *tensor.Tensor // [C]
	Eps        float32
}

// Forward computes dst from x, both [R, C]; dst may be x.
func (n GroupNorm) Forward(dst, x *tensor.Tensor) {
	tensor.GroupNorm(dst, x, n.Groups, n.Gain, n.Bias, n.Eps)
}

// byHead is the norm as an operation over heads takes it, with the gate [R, C] that multiplies what is normalized,
// or nil.
func (n GroupNorm) byHead(gate *tensor.Tensor) wkv.HeadNorm {
	return wkv.HeadNorm{Gain: n.Gain, Bias: n.Bias, Eps: n.Eps, Gate: gate}
}

// RMSNorm scales each row by its root mean square, without a gain (Zhang and Sennrich,
// arXiv:1910.07467):
//
//	y = x / (‖x‖₂·C^−½ + Eps)
type RMSNorm struct {
	Eps float32 // beside the norm, not under its root
}

// Forward computes dst from x, both [R, C]; dst may be x.
func (n RMSNorm) Forward(dst, x *tensor.Tensor) { tensor.RMSNorm(dst, x, n.Eps) }
