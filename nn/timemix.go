package nn

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix is the attention half of an RWKV x051a block (RWKV-5 with one decay and one bonus for
// each head and a gate; Peng et al., arXiv:2404.05892):
//
//	r, k, v = Receptance·mix(x, MixR), Key·mix(x, MixK), Value·mix(x, MixV)
//	g = silu(Gate·mix(x, MixG))
//	y_t = Σ_{s<t} w^{t−1−s} (r_t·k_s) v_s + u (r_t·k_t) v_t      per head
//	Output·(LnX(y) ⊙ g)
//
// where mix(x, m) = x + (x' − x) ⊙ m, x' is the row before x, w = exp(−exp(TimeDecay)) and u is
// Bonus, a checkpoint's time_faaaa.
type TimeMix struct {
	MixK, MixV, MixR, MixG               *tensor.Tensor // [C]
	TimeDecay, Bonus                     *tensor.Tensor // [H]
	Decay                                []float32      // [H]: w, which Derive makes of TimeDecay
	Receptance, Key, Value, Gate, Output Linear         // [C, C]
	LnX                                  GroupNorm      // over each head's N = C/H values
}

// Derive makes Decay of TimeDecay, rounding as float32 does. It must run when TimeDecay has changed.
func (m *TimeMix) Derive() {
	if len(m.Decay) != m.TimeDecay.Len() {
		m.Decay = make([]float32, m.TimeDecay.Len())
	}
	for i, x := range m.TimeDecay.Data() {
		m.Decay[i] = float32(math.Exp(-float64(float32(math.Exp(float64(x))))))
	}
}

// Forward computes the layer; see Context.
func (m *TimeMix) Forward(dst, x *tensor.Tensor, states func(i int) *TimeMixState, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	xk, xv, xr, xg := s.New(rows, c), s.New(rows, c), s.New(rows, c), s.New(rows, c)
	r, k, v, g := s.New(rows, c), s.New(rows, c), s.New(rows, c), s.New(rows, c)

	shift.Tokens(x, ctx.Spans, func(i int) []float32 {
		if states == nil {
			return nil
		}
		return states(i).Shift
	}, shift.Mixed{Dst: xk, Mix: m.MixK}, shift.Mixed{Dst: xv, Mix: m.MixV}, shift.Mixed{Dst: xr, Mix: m.MixR}, shift.Mixed{Dst: xg, Mix: m.MixG})
	gp := m.Gate.Product(g, xg)
	gp.Act = tensor.SiLU
	var q tensor.Sequence
	q.Linear(m.Receptance.Product(r, xr), m.Key.Product(k, xk), m.Value.Product(v, xv), gp)

	y := xk // its input is done with
	norm := m.LnX.byHead(g)
	wkv.V5(&q, y, r, k, v, m.Decay, m.Bonus.Data(), &norm, ctx.Spans, func(i int) []float32 {
		if states == nil {
			return nil
		}
		return states(i).WKV // rows by key element, columns by value element
	})
	op := m.Output.Product(dst, y)
	op.Add = ctx.Add
	q.Linear(op)
	q.Run()
}
