package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
)

// ChannelMixTape is what the Backward of ChannelMix and ChannelMix7 needs of a Record.
type ChannelMixTape struct {
	x, k, v, r *tensor.Tensor // k is Value's input [R, F], v its output, r the gate; RWKV-7 has no v and r
}

// Record is Forward, keeping in t and mem what Backward needs; x must stay as it is until then.
func (m *ChannelMix) Record(dst, x *tensor.Tensor, t *ChannelMixTape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	t.x, t.k, t.v, t.r = x, mem.New(rows, m.Key.Weight.Dim(0)), mem.New(rows, c), mem.New(rows, c)
	xk, xr := s.New(rows, c), s.New(rows, c)
	m.mix(xk, xr, x, ctx.Spans)
	kp, rp := m.Key.turned(t.k, xk), m.Receptance.turned(t.r, xr)
	kp.Act, rp.Act = tensor.SquareReLU, tensor.Sigmoid
	tensor.Linear(kp, rp)
	tensor.Linear(m.Value.turned(t.v, t.k))
	if ctx.Add {
		tensor.AddMul(dst, t.v, t.r)
	} else {
		tensor.Mul(dst, t.v, t.r)
	}
}

func (m *ChannelMix) mix(xk, xr, x *tensor.Tensor, spans Spans) {
	shift.Tokens(x, spans, none, shift.Mixed{Dst: xk, Mix: m.MixK}, shift.Mixed{Dst: xr, Mix: m.MixR})
}

// Backward computes the gradients of the pass that t recorded.
func (m *ChannelMix) Backward(dx, dy *tensor.Tensor, t *ChannelMixTape, grad *ChannelMix, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := dy.Dim(0), dy.Dim(1)
	g := grad
	var key, value, receptance *Linear
	if g == nil {
		g = &ChannelMix{}
	} else {
		key, value, receptance = &g.Key, &g.Value, &g.Receptance
	}
	dv, dr, dk := s.New(rows, c), s.New(rows, c), s.New(t.k.Shape()...)
	tensor.GateBackward(dv, dr, dy, t.v, t.r)
	m.Value.Backward(dk, dv, t.k, value, false)
	tensor.ApplyBackward(tensor.SquareReLU, dk, dk, t.k)
	xk, xr, dxk, dxr := s.New(rows, c), s.New(rows, c), s.New(rows, c), dv // dv is done with
	if grad != nil {
		m.mix(xk, xr, t.x, ctx.Spans)
	}
	tensor.LinearBackward(m.Key.gradient(dxk, dk, xk, key, false), m.Receptance.gradient(dxr, dr, xr, receptance, false))
	shift.TokensBackward(dx, t.x, ctx.Spans, ctx.Add, shift.Gradient{D: dxk, Mix: m.MixK, DMix: g.MixK}, shift.Gradient{D: dxr, Mix: m.MixR, DMix: g.MixR})
}

// Record is Forward, keeping in t and mem what Backward needs; x must stay as it is until then.
func (m *ChannelMix7) Record(dst, x *tensor.Tensor, t *ChannelMixTape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	t.x, t.k = x, mem.New(x.Dim(0), m.Key.Weight.Dim(0))
	xk := s.New(x.Shape()...)
	shift.Tokens(x, ctx.Spans, none, shift.Mixed{Dst: xk, Mix: m.MixK})
	kp := m.Key.turned(t.k, xk)
	kp.Act = tensor.SquareReLU
	tensor.Linear(kp)
	vp := m.Value.turned(dst, t.k)
	vp.Add = ctx.Add
	tensor.Linear(vp)
}

// Backward computes the gradients of the pass that t recorded.
func (m *ChannelMix7) Backward(dx, dy *tensor.Tensor, t *ChannelMixTape, grad *ChannelMix7, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	g := grad
	var key, value *Linear
	if g == nil {
		g = &ChannelMix7{}
	} else {
		key, value = &g.Key, &g.Value
	}
	dk, xk, dxk := s.New(t.k.Shape()...), s.New(dy.Shape()...), s.New(dy.Shape()...)
	m.Value.Backward(dk, dy, t.k, value, false)
	tensor.ApplyBackward(tensor.SquareReLU, dk, dk, t.k)
	if grad != nil {
		shift.Tokens(t.x, ctx.Spans, none, shift.Mixed{Dst: xk, Mix: m.MixK})
	}
	m.Key.Backward(dxk, dk, xk, key, false)
	shift.TokensBackward(dx, t.x, ctx.Spans, ctx.Add, shift.Gradient{D: dxk, Mix: m.MixK, DMix: g.MixK})
}
