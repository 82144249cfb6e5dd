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
	narrow := [4]narrowPass{m.Decay.pass(mixed[1], tensor.Tanh, tensor.Sigmoid), m.Rate.pass(mixed[4], tensor.Identity, tensor.Sigmoid), m.Gate.pass(mixed[5], tensor.Sigmoid, tensor.Identity)}
	narrow[0].dst, narrow[1].dst, narrow[2].dst = t.s, t.a, t.g
	count := 3
	if m.ValueMix.W1 == nil {
		t.v, t.m = t.v0, nil
		vFirst.CopyFrom(t.v)
	} else {
		t.v, t.m = mem.New(rows, c), mem.New(rows, c)
		narrow[3] = m.ValueMix.pass(mixed[3], tensor.Identity, tensor.Sigmoid)
		narrow[3].dst, count = t.m, 4
	}
	recordNarrow(narrow[:count], mem)
	t.w1, t.a1, t.g1, t.v1 = narrow[0].middle, narrow[1].middle, narrow[2].middle, narrow[3].middle
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
	narrow := [4]narrowPass{m.Decay.pass(mixed[1], tensor.Tanh, tensor.Sigmoid), m.Rate.pass(mixed[4], tensor.Identity, tensor.Sigmoid), m.Gate.pass(mixed[5], tensor.Sigmoid, tensor.Identity)}
	narrow[0].back(mixed[1], dw, t.w1, lr[0])
	narrow[1].back(mixed[4], da, t.a1, lr[1])
	narrow[2].back(mixed[5], dg, t.g1, lr[2])
	dmr, dmk, dmv := dKappa, db, dn // done with
	count := 3
	if t.m != nil {
		narrow[3] = m.ValueMix.pass(mixed[3], tensor.Identity, tensor.Sigmoid)
		narrow[3].back(dmv, dwkv, t.v1, lr[3])
		narrow[3].add, count = true, 4
	}
	tensor.LinearBackward(m.Receptance.gradient(dmr, dr, mixed[0], lin[0], false), m.Key.gradient(dmk, dk, mixed[2], lin[1], false), m.Value.gradient(dmv, dv, mixed[3], lin[2], false))
	backNarrow(narrow[:count], s) // and adds to dmv
	shift.TokensBackward(dx, t.x, ctx.Spans, ctx.Add,
		shift.Gradient{D: dmr, Mix: m.MixR, DMix: g.MixR}, shift.Gradient{D: mixed[1], Mix: m.MixW, DMix: g.MixW}, shift.Gradient{D: dmk, Mix: m.MixK, DMix: g.MixK},
		shift.Gradient{D: dmv, Mix: m.MixV, DMix: g.MixV}, shift.Gradient{D: mixed[4], Mix: m.MixA, DMix: g.MixA}, shift.Gradient{D: mixed[5], Mix: m.MixG, DMix: g.MixG})
}
