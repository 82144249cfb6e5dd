package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix4 is the time mix of RWKV-4 (Peng et al., arXiv:2305.13048):
//
//	r, k, v = Receptance·mix(x, MixR), Key·mix(x, MixK), Value·mix(x, MixV)
//	y_t = (Σ_{s<t} e^{(t−1−s) w + k_s} v_s + e^{u+k_t} v_t) / (Σ_{s<t} e^{(t−1−s) w + k_s} + e^{u+k_t})
//	Output·(sigmoid(r) ⊙ y)
//
// where mix(x, m) = x + (x' − x) ⊙ m, x' is the row before x, w < 0 is Decay and u is Bonus, a number
// each for every channel. A TimeMixState's WKV is [3, A], see wkv.V4.
type TimeMix4 struct {
	MixK, MixV, MixR               *tensor.Tensor // [C]
	Decay, Bonus                   *tensor.Tensor // [A]
	Receptance, Key, Value, Output Linear         // [A, C] but Output, which is [C, A]
}

// Forward computes the layer; see Context. It needs states.
func (m *TimeMix4) Forward(dst, x *tensor.Tensor, states func(i int) *TimeMixState, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c, a := x.Dim(0), x.Dim(1), m.Decay.Len()
	xk, xv, xr := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	r, k, v, y := s.New(rows, a), s.New(rows, a), s.New(rows, a), s.New(rows, a)

	shift.Tokens(x, ctx.Spans, func(i int) []float32 { return states(i).Shift },
		shift.Mixed{Dst: xk, Mix: m.MixK}, shift.Mixed{Dst: xv, Mix: m.MixV}, shift.Mixed{Dst: xr, Mix: m.MixR})
	rp := m.Receptance.Product(r, xr)
	rp.Act = tensor.Sigmoid
	var q tensor.Sequence
	q.Linear(rp, m.Key.Product(k, xk), m.Value.Product(v, xv))
	wkv.V4(&q, y, k, v, m.Decay.Data(), m.Bonus.Data(), ctx.Spans, func(i int) []float32 { return states(i).WKV })
	q.Mul(y, y, r)
	op := m.Output.Product(dst, y)
	op.Add = ctx.Add
	q.Linear(op)
	q.Run()
}
