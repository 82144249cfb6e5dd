package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix5 is the time mix of RWKV-5 "Eagle" (Peng et al., arXiv:2404.05892):
//
//	r, k, v = Receptance·mix(x, MixR), Key·mix(x, MixK), Value·mix(x, MixV)
//	g = silu(Gate·mix(x, MixG)), or 1 in version 5.0
//	y = S·r + (Σ_head r ⊙ u ⊙ k) v;   S ← S·diag(w) + v kᵀ       per head
//	Output·(LnX(y) ⊙ g)
//
// where mix(x, m) = x + (x' − x) ⊙ m, x' is the row before x, w is Decay and u is Bonus. Versions before
// 5.2 have one decay and one bonus for all channels of a head.
type TimeMix5 struct {
	Heads                          int
	MixK, MixV, MixR, MixG         *tensor.Tensor // [C]; MixG is nil without a gate
	Decay, Bonus                   *tensor.Tensor // [A], Decay from 0 to 1
	Receptance, Key, Value, Output Linear         // [A, C] but Output, which is [C, A]
	Gate                           Linear         // [A, C], or none
	LnX                            GroupNorm      // over each head's N = A/H values
}

// Forward computes the layer; see Context. It needs states.
func (m *TimeMix5) Forward(dst, x *tensor.Tensor, states func(i int) *TimeMixState, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c, a := x.Dim(0), x.Dim(1), m.Decay.Len()
	xk, xv, xr := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	r, k, v, y := s.New(rows, a), s.New(rows, a), s.New(rows, a), s.New(rows, a)

	mixes := [4]shift.Mixed{{Dst: xk, Mix: m.MixK}, {Dst: xv, Mix: m.MixV}, {Dst: xr, Mix: m.MixR}}
	products := [4]tensor.Product{m.Receptance.Product(r, xr), m.Key.Product(k, xk), m.Value.Product(v, xv)}
	norm := m.LnX.byHead(nil)
	n := 3
	if m.Gate.Weight != nil {
		xg := s.New(rows, c)
		norm.Gate = s.New(rows, a)
		mixes[3], products[3] = shift.Mixed{Dst: xg, Mix: m.MixG}, m.Gate.Product(norm.Gate, xg)
		products[3].Act = tensor.SiLU
		n = 4
	}
	shift.Tokens(x, ctx.Spans, func(i int) []float32 { return states(i).Shift }, mixes[:n]...)
	var q tensor.Sequence
	q.Linear(products[:n]...)
	wkv.V6(&q, y, r, m.Decay, k, v, m.Bonus.Data(), m.Heads, &norm, ctx.Spans, func(i int) []float32 { return states(i).WKV })
	op := m.Output.Product(dst, y)
	op.Add = ctx.Add
	q.Linear(op)
	q.Run()
}
