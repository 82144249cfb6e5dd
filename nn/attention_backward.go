package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/attention"
)

// AttentionTape is what the Backward of an attention needs of a Record: of SlidingWindowAttention or
// GroupedQueryAttention.
type AttentionTape struct {
	x, z, y   *tensor.Tensor // z is the first product's output, y the second's input
	softmaxes *tensor.Tensor // if the attention is causal, see attention.CausalWhole
}

// Record is Forward, or ForwardCausal if causal is set, keeping in t and mem what Backward needs; x must
// stay as it is until then.
func (a *SlidingWindowAttention) Record(dst, x *tensor.Tensor, causal bool, t *AttentionTape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	t.x, t.z, t.y = x, mem.New(rows, 3*c), mem.New(rows, c)
	tensor.Linear(tensor.Product{Dst: t.z, X: x, W: a.QKV, Turned: true})
	q, k, v := s.Cols(t.z, 0, c), s.Cols(t.z, c, 2*c), s.Cols(t.z, 2*c, 3*c)
	if causal {
		t.softmaxes = mem.New(2*a.Heads, rows)
		attention.CausalWhole(t.y, t.softmaxes, q, k, v, nil, a.Heads, a.Window, attention.HeadColumns{PerGroup: a.Heads}, invSqrt(c/a.Heads), ctx.Spans)
	} else {
		attention.Folded(nil, t.y, q, k, v, a.Heads, a.Window, invSqrt(c/a.Heads), ctx.Spans)
	}
	tensor.Linear(tensor.Product{Dst: dst, X: t.y, W: a.Proj, Add: ctx.Add, Turned: true})
}

// Backward computes the gradients of the pass that t recorded.
func (a *SlidingWindowAttention) Backward(dx, dy *tensor.Tensor, causal bool, t *AttentionTape, grad *SlidingWindowAttention, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := dy.Dim(0), dy.Dim(1)
	d, dz := s.New(rows, c), s.New(rows, 3*c)
	var qkv, proj *tensor.Weight
	if grad != nil {
		qkv, proj = grad.QKV, grad.Proj
	}
	tensor.LinearBackward(tensor.Gradient{DX: d, DY: dy, X: t.y, W: a.Proj, DW: proj})
	q, k, v := s.Cols(t.z, 0, c), s.Cols(t.z, c, 2*c), s.Cols(t.z, 2*c, 3*c)
	dq, dk, dv := s.Cols(dz, 0, c), s.Cols(dz, c, 2*c), s.Cols(dz, 2*c, 3*c)
	if causal {
		attention.CausalBackward(dq, dk, dv, nil, d, t.softmaxes, q, k, v, nil, a.Heads, a.Window, attention.HeadColumns{PerGroup: a.Heads}, invSqrt(c/a.Heads), ctx.Spans)
	} else {
		attention.FoldedBackward(dq, dk, dv, d, q, k, v, a.Heads, a.Window, invSqrt(c/a.Heads), ctx.Spans)
	}
	tensor.LinearBackward(tensor.Gradient{DX: dx, DY: dz, X: t.x, W: a.QKV, DW: qkv, Add: ctx.Add})
}

// Record is Forward, or ForwardCausal if causal is set, keeping in t and mem what Backward needs; x must
// stay as it is until then.
func (a *GroupedQueryAttention) Record(dst, x *tensor.Tensor, causal bool, t *AttentionTape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	t.x, t.z, t.y = x, mem.New(rows, 4*c), mem.New(rows, c)
	tensor.Linear(tensor.Product{Dst: t.z, X: x, W: a.QKVW, Turned: true})
	if causal {
		z := a.parts(t.z, c, s)
		t.softmaxes = mem.New(2*groups*a.Heads, rows)
		attention.CausalWhole(t.y, t.softmaxes, z[0], z[1], z[2], z[3], groups*a.Heads, rows, attention.HeadColumns{PerGroup: a.Heads, Stride: c}, a.scale(c), ctx.Spans)
	} else {
		attention.Heads(nil, t.y, t.z, a.Heads, groups, a.scale(c), ctx.Spans, false)
	}
	tensor.Linear(tensor.Product{Dst: dst, X: t.y, W: a.Out, Add: ctx.Add, Turned: true})
}

// parts returns q, k, v and the gate of the first group in z [R, 4C]; the others' lie a group further
// on.
func (a *GroupedQueryAttention) parts(z *tensor.Tensor, c int, s *tensor.Scratch) (parts [4]*tensor.Tensor) {
	for j := range parts {
		parts[j] = s.Cols(z, j*c/groups, (groups-1)*c+(j+1)*c/groups)
	}
	return parts
}

// Backward computes the gradients of the pass that t recorded.
func (a *GroupedQueryAttention) Backward(dx, dy *tensor.Tensor, causal bool, t *AttentionTape, grad *GroupedQueryAttention, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := dy.Dim(0), dy.Dim(1)
	d, dz := s.New(rows, c), s.New(rows, 4*c)
	var qkvw, out *tensor.Weight
	if grad != nil {
		qkvw, out = grad.QKVW, grad.Out
	}
	tensor.LinearBackward(tensor.Gradient{DX: d, DY: dy, X: t.y, W: a.Out, DW: out})
	if causal {
		z, g := a.parts(t.z, c, s), a.parts(dz, c, s)
		attention.CausalBackward(g[0], g[1], g[2], g[3], d, t.softmaxes, z[0], z[1], z[2], z[3], groups*a.Heads, rows, attention.HeadColumns{PerGroup: a.Heads, Stride: c}, a.scale(c), ctx.Spans)
	} else {
		attention.HeadsBackward(dz, d, t.z, a.Heads, a.scale(c), ctx.Spans)
	}
	tensor.LinearBackward(tensor.Gradient{DX: dx, DY: dz, X: t.x, W: a.QKVW, DW: qkvw, Add: ctx.Add})
}
