package nn

import "microrwkv/tensor"

// Linear is y = x·Weightᵀ + Bias, with the weight stored as PyTorch does.
type Linear struct {
	Weight *tensor.Weight // [out, in]
	Bias   *tensor.Tensor // [out], or nil for none
}

// Forward computes the layer for x [R, in] into dst [R, out], which must not overlap x.
func (l Linear) Forward(dst, x *tensor.Tensor) { tensor.Linear(l.Product(dst, x)) }

// Product returns the layer's work as an operand of tensor.Linear, which takes several layers at
// once and does activation, gate and residual on the way.
func (l Linear) Product(dst, x *tensor.Tensor) tensor.Product {
	return tensor.Product{Dst: dst, X: x, W: l.Weight, Bias: l.Bias}
}

// Embedding is a table of vectors by id.
type Embedding struct {
	Weight *tensor.Weight // [V, C]
}

// Forward writes the vector of ids[i] to row i of dst [len(ids), C]. Ids must be in [0, V).
func (e Embedding) Forward(dst *tensor.Tensor, ids []int) {
	for i, id := range ids {
		e.Weight.RowTo(dst.Row(i), id)
	}
}
