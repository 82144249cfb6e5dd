package nn

import "microrwkv/tensor"

// Training. Beside its Forward a layer has Record, which computes the same and keeps what the backward
// pass needs in a tape that the caller owns, and Backward, which turns the gradient of the layer's
// output, dy, into that of its input, dx, and adds to the gradients of its parameters. Those are in a
// layer of the same type: each of its tensors is the gradient of the parameter in that field; a nil
// layer is for parameters that aren't trained. Weights must be of type F32. In Record and Backward every
// sequence begins at its first row. Context.Add is for dx in Backward; dx may be dy.

// turned is Product for the many rows of training.
func (l Linear) turned(dst, x *tensor.Tensor) tensor.Product {
	p := l.Product(dst, x)
	p.Turned = true
	return p
}

// Backward computes the layer's gradients from dy [R, out] and its input x [R, in]. A nil dx isn't
// computed; it must not overlap dy. add is for dx.
func (l Linear) Backward(dx, dy, x *tensor.Tensor, grad *Linear, add bool) {
	tensor.LinearBackward(l.gradient(dx, dy, x, grad, add))
}

// gradient returns the layer's gradients as an operand of tensor.LinearBackward.
func (l Linear) gradient(dx, dy, x *tensor.Tensor, grad *Linear, add bool) tensor.Gradient {
	g := tensor.Gradient{DX: dx, DY: dy, X: x, W: l.Weight, Add: add}
	if grad != nil {
		g.DW, g.DB = grad.Weight, grad.Bias
	}
	return g
}

// Backward adds to the gradient of the table, in the order of ids.
func (e Embedding) Backward(dy *tensor.Tensor, ids []int, grad *Embedding) {
	tensor.ScatterAdd(grad.Weight, dy, ids)
}

// Backward computes the gradients from dy and the input x.
func (n LayerNorm) Backward(dx, dy, x *tensor.Tensor, grad *LayerNorm, add bool) {
	var gain, bias *tensor.Tensor
	if grad != nil {
		gain, bias = grad.Gain, grad.Bias
	}
	tensor.GroupNormBackward(dx, dy, x, 1, n.Gain, n.Eps, gain, bias, add)
}

// Backward computes the gradients from dy and the input x.
func (n GroupNorm) Backward(dx, dy, x *tensor.Tensor, grad *GroupNorm, add bool) {
	var gain, bias *tensor.Tensor
	if grad != nil {
		gain, bias = grad.Gain, grad.Bias
	}
	tensor.GroupNormBackward(dx, dy, x, n.Groups, n.Gain, n.Eps, gain, bias, add)
}

// Backward computes the gradient from dy and the input x.
func (n RMSNorm) Backward(dx, dy, x *tensor.Tensor, add bool) {
	tensor.RMSNormBackward(dx, dy, x, n.Eps, add)
}

// StateTuning is the initial state of a time mix, [H, N, N], that every sequence begins with, and its
// gradient, which Backward adds to. The zero value is for sequences that begin with zeros.
type StateTuning struct{ State, Grad []float32 }

// begin returns the states for a forward pass over n sequences, which end up in mem; nil for zeros.
func (s *StateTuning) begin(n int, mem *tensor.Tape) *tensor.Tensor {
	if s.State == nil {
		return nil
	}
	t := mem.New(n, len(s.State))
	for i := range n {
		copy(t.Row(i), s.State)
	}
	return t
}

// none is the last row before a sequence's first.
func none(int) []float32 { return nil }

// rowsOf returns a function that gives the rows of t, or nil of a nil t.
func rowsOf(t *tensor.Tensor) func(i int) []float32 {
	if t == nil {
		return none
	}
	return t.Row
}
