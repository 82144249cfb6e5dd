package nn

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix7Tape is what TimeMix7.Backward needs of a Record.
type TimeMix7Tape struct {
	Tuning StateTuning // set by the caller

	x, r, k0, k, v0, v, s, w, a, kappa, b, g, y, n *tensor.Tensor // [R, C], by the names of wkv.Mix7; n is what the gate multiplies
	m                                              *tensor.Tensor // [R, C], sigmoid of the value mix
	w1, a1, g1, v1                                 *tensor.Tensor // [R, D], the narrow middles
	gradients                                      wkv.Gradients
}

// Record is Forward, keeping in t and mem what Backward needs; x must stay as it is until then. Derive
// isn't needed.
func (m *TimeMix7) Record(dst, x *tensor.Tensor, vFirst *tensor.Tensor, t *TimeMix7Tape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	for _, p := range [...]**tensor.Tensor{&t.r, &t.k0, &t.k, &t.v0, &t.s, &t.w, &t.a, &t.kappa, &t.b, &t.g, &t.y, &t.n} {
		*p = mem.New(rows, c)
	}
	t.x = x
	var mixed [6]*tensor.Tensor // r, w, k, v, a, g
	for i := range mixed {
		mixed[i] = s.New(rows, c)
	}
	m.mix(&mixed, x, ctx.Spans)
	tensor.Linear(m.Receptance.turned(t.r, mixed[0]), m.Key.turned(t.k0, mixed[2]), m.Value.turned(t.v0, mixed[3]))
	t.w1 = m.Decay.record(t.s, mixed[1], tensor.Tanh, tensor.Sigmoid, mem)
	t.a1 = m.Rate.record(t.a, mixed[4], tensor.Identity, tensor.Sigmoid, mem)
	t.g1 = m.Gate.record(t.g, mixed[5], tensor.Sigmoid, tensor.Identity, mem)
	if m.ValueMix.W1 == nil {
		t.v, t.m = t.v0, nil
		vFirst.CopyFrom(t.v)
	} else {
		t.v, t.m = mem.New(rows, c), mem.New(rows, c)
		t.v1 = m.ValueMix.record(t.m, mixed[3], tensor.Identity, tensor.Sigmoid, mem)
	}
	o := mixed[0]
	mix := wkv.Mix7Forward{
		Heads: m.Heads, Scale: decayScale, R: t.r, A: t.a, S: t.s, W: t.w, K0: t.k0, K: t.k, V0: t.v0, V: t.v, VFirst: vFirst, M: t.m,
		Kappa: t.kappa, B: t.b, Y: t.y, N: t.n, Out: o, KK: m.KK, KA: m.KA, RK: m.RK, Norm: m.LnX.byHead(t.g),
	}
	mix.Run(nil, ctx.Spans, rowsOf(t.Tuning.begin(ctx.Spans.Len(), mem)))
	op := m.Output.turned(dst, o)
	op.Add = ctx.Add
	tensor.Linear(op)
}

// decayScale is what the exponent of a decay is at most.
var decayScale = float32(-math.Exp(-0.5))

func (m *TimeMix7) mix(mixed *[6]*tensor.Tensor, x *tensor.Tensor, spans Spans) {
	shift.Tokens(x, spans, none,
		shift.Mixed{Dst: mixed[0], Mix: m.MixR}, shift.Mixed{Dst: mixed[1], Mix: m.MixW}, shift.Mixed{Dst: mixed[2], Mix: m.MixK},
		shift.Mixed{Dst: mixed[3], Mix: m.MixV}, shift.Mixed{Dst: mixed[4], Mix: m.MixA}, shift.Mixed{Dst: mixed[5], Mix: m.MixG})
}

// record computes dst = outer(inner(x·W1)·W2 + Bias) from the weights as they are, and returns the
// narrow middle.
func (l LowRank) record(dst, x *tensor.Tensor, inner, outer tensor.Act, mem *tensor.Tape) *tensor.Tensor {
	middle := mem.New(x.Dim(0), l.W1.Dim(1))
	tensor.GradInput(middle, x, l.W1, false)
	if inner != tensor.Identity {
		tensor.Apply(inner, middle, middle)
	}
	tensor.GradInput(dst, middle, l.W2, false)
	if l.Bias != nil {
		tensor.AddVector(dst, dst, l.Bias)
	}
	if outer != tensor.Identity {
		tensor.Apply(outer, dst, dst)
	}
	return middle
}

// backward computes the gradients from that of what goes into the outer function, dy: dx is written.
func (l LowRank) backward(dx, dy, x, middle *tensor.Tensor, inner tensor.Act, grad *LowRank, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	d := s.New(middle.Shape()...)
	tensor.Linear(tensor.Product{Dst: d, X: dy, W: l.W2, Turned: true})
	if inner != tensor.Identity {
		tensor.ApplyBackward(inner, d, d, middle)
	}
	if grad != nil {
		tensor.GradWeight(grad.W2, middle, dy)
		tensor.GradWeight(grad.W1, x, d)
	}
	tensor.Linear(tensor.Product{Dst: dx, X: d, W: l.W1, Turned: true})
}

// Backward computes the gradients of the pass that t recorded. dvFirst [R, C] is the gradient of the
// first block's v, which all other blocks add to.
func (m *TimeMix7) Backward(dx, dy, vFirst, dvFirst *tensor.Tensor, t *TimeMix7Tape, grad *TimeMix7, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := dy.Dim(0), dy.Dim(1)
	g := grad
	var lr [4]*LowRank
	var lin [4]*Linear
	var norm *GroupNorm
	if g == nil {
		g = &TimeMix7{}
	} else {
		lr = [4]*LowRank{&g.Decay, &g.Rate, &g.Gate, &g.ValueMix}
		lin = [4]*Linear{&g.Receptance, &g.Key, &g.Value, &g.Output}
		norm = &g.LnX
	}
	dn, dg, dwkv := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	o := dwkv
	tensor.Mul(o, t.n, t.g)
	m.Output.Backward(dn, dy, o, lin[3], false)
	tensor.Mul(dg, dn, t.n)
	tensor.Mul(dn, dn, t.g)
	m.LnX.Backward(dwkv, dn, t.y, norm, false)

	dr, dw, dk, dv := s.New(rows, c), s.New(rows, c), s.New(rows, c), s.New(rows, c)
	dKappa, db, da := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	finish := t.Tuning.gradients(&t.gradients, ctx)
	wkv.V7Backward(dr, dw, dk, dv, dKappa, db, dwkv, t.r, t.w, t.k, t.v, t.kappa, t.b, m.Heads, ctx.Spans, &t.gradients)
	finish()
	mix := wkv.Mix7{Heads: m.Heads, Scale: decayScale, R: t.r, K0: t.k0, K: t.k, V0: t.v0, V: t.v, Kappa: t.kappa, A: t.a, S: t.s, M: t.m, VFirst: vFirst,
		KK: m.KK, KA: m.KA, RK: m.RK, DKK: g.KK, DKA: g.KA, DRK: g.RK, DA0: g.Rate.Bias, DS0: g.Decay.Bias, DM0: g.ValueMix.Bias,
		DOut: dn, DR: dr, DK: dk, DV: dv, DW: dw, DKappa: dKappa, DB: db, DA: da, DS: dw, DM: dwkv, DVFirst: dvFirst}
	mix.Backward()

	var mixed [6]*tensor.Tensor // r, w, k, v, a, g
	for i := range mixed {
		mixed[i] = s.New(rows, c)
	}
	m.mix(&mixed, t.x, ctx.Spans)
	d := dn // done with
	m.Decay.backward(d, dw, mixed[1], t.w1, tensor.Tanh, lr[0], s)
	mixed[1], d = d, mixed[1]
	m.Rate.backward(d, da, mixed[4], t.a1, tensor.Identity, lr[1], s)
	mixed[4], d = d, mixed[4]
	m.Gate.backward(d, dg, mixed[5], t.g1, tensor.Sigmoid, lr[2], s)
	mixed[5], d = d, mixed[5]
	if t.m != nil {
		m.ValueMix.backward(d, dwkv, mixed[3], t.v1, tensor.Identity, lr[3], s)
	}
	dmr, dmk, dmv := dKappa, db, da // done with
	tensor.LinearBackward(m.Receptance.gradient(dmr, dr, mixed[0], lin[0], false), m.Key.gradient(dmk, dk, mixed[2], lin[1], false), m.Value.gradient(dmv, dv, mixed[3], lin[2], false))
	if t.m != nil {
		tensor.Add(dmv, dmv, d)
	}
	shift.TokensBackward(dx, t.x, ctx.Spans, ctx.Add,
		shift.Gradient{D: dmr, Mix: m.MixR, DMix: g.MixR}, shift.Gradient{D: mixed[1], Mix: m.MixW, DMix: g.MixW}, shift.Gradient{D: dmk, Mix: m.MixK, DMix: g.MixK},
		shift.Gradient{D: dmv, Mix: m.MixV, DMix: g.MixV}, shift.Gradient{D: mixed[4], Mix: m.MixA, DMix: g.MixA}, shift.Gradient{D: mixed[5], Mix: m.MixG, DMix: g.MixG})
}
