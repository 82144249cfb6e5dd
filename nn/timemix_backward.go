package nn

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMixTape is what TimeMix.Backward needs of a Record.
type TimeMixTape struct {
	Tuning StateTuning // set by the caller

	x, r, k, v, z, y, o *tensor.Tensor // [R, C]; z is silu's argument, y the WKV's output, o Output's input
	scalars             []float64
	gradients           wkv.Gradients
}

// Record is Forward, keeping in t and mem what Backward needs; x must stay as it is until then.
func (m *TimeMix) Record(dst, x *tensor.Tensor, t *TimeMixTape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	t.x, t.r, t.k, t.v = x, mem.New(rows, c), mem.New(rows, c), mem.New(rows, c)
	t.z, t.y, t.o = mem.New(rows, c), mem.New(rows, c), mem.New(rows, c)
	xk, xv, xr, xg := s.New(rows, c), s.New(rows, c), s.New(rows, c), s.New(rows, c)
	m.mix(xk, xv, xr, xg, x, ctx.Spans)
	tensor.Linear(m.Receptance.turned(t.r, xr), m.Key.turned(t.k, xk), m.Value.turned(t.v, xv), m.Gate.turned(t.z, xg))
	wkv.V5(nil, t.y, t.r, t.k, t.v, m.Decay, m.Bonus.Data(), nil, ctx.Spans, rowsOf(t.Tuning.begin(ctx.Spans.Len(), mem)))
	wkv.GatedNorm(t.o, t.y, t.z, m.LnX.Groups, m.LnX.byHead(nil))
	op := m.Output.turned(dst, t.o)
	op.Add = ctx.Add
	tensor.Linear(op)
}

func (m *TimeMix) mix(xk, xv, xr, xg, x *tensor.Tensor, spans Spans) {
	shift.Tokens(x, spans, none, shift.Mixed{Dst: xk, Mix: m.MixK}, shift.Mixed{Dst: xv, Mix: m.MixV}, shift.Mixed{Dst: xr, Mix: m.MixR}, shift.Mixed{Dst: xg, Mix: m.MixG})
}

// Backward computes the gradients of the pass that t recorded.
func (m *TimeMix) Backward(dx, dy *tensor.Tensor, t *TimeMixTape, grad *TimeMix, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := dy.Dim(0), dy.Dim(1)
	g := grad
	if g == nil {
		g = &TimeMix{}
	}
	dz, dwkv := s.New(rows, c), s.New(rows, c)
	m.Output.Backward(dz, dy, t.o, m.linear(grad, &g.Output), false)
	wkv.GatedNormBackward(dwkv, dz, dz, t.y, t.z, m.LnX.Groups, m.LnX.byHead(nil), g.LnX.Gain, g.LnX.Bias)

	dr, dk, dv := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	heads := len(m.Decay)
	if len(t.scalars) != 2*heads {
		t.scalars = make([]float64, 2*heads)
	}
	t.gradients.LogDecay, t.gradients.Bonus = t.scalars[:heads], t.scalars[heads:]
	finish := t.Tuning.gradients(&t.gradients, ctx)
	wkv.V5Backward(dr, dk, dv, dwkv, t.r, t.k, t.v, m.Decay, m.Bonus.Data(), ctx.Spans, &t.gradients)
	finish()
	if grad != nil {
		for h, x := range m.TimeDecay.Data() {
			if d := t.gradients.LogDecay[h]; d != 0 { // or exp(x) may be Inf
				g.TimeDecay.Data()[h] -= float32(d * math.Exp(float64(x))) // ln w = −exp(x)
			}
			g.Bonus.Data()[h] += float32(t.gradients.Bonus[h])
		}
	}

	var mixed, dMixed [4]*tensor.Tensor // k, v, r, g
	for i := range mixed {
		dMixed[i] = s.New(rows, c)
		if grad != nil {
			mixed[i] = s.New(rows, c)
		}
	}
	layers := [4]*Linear{&m.Key, &m.Value, &m.Receptance, &m.Gate}
	grads := [4]*Linear{m.linear(grad, &g.Key), m.linear(grad, &g.Value), m.linear(grad, &g.Receptance), m.linear(grad, &g.Gate)}
	if grad != nil {
		m.mix(mixed[0], mixed[1], mixed[2], mixed[3], t.x, ctx.Spans)
	}
	var products [4]tensor.Gradient
	for i, d := range [4]*tensor.Tensor{dk, dv, dr, dz} {
		products[i] = layers[i].gradient(dMixed[i], d, mixed[i], grads[i], false)
	}
	tensor.LinearBackward(products[:]...)
	shift.TokensBackward(dx, t.x, ctx.Spans, ctx.Add,
		shift.Gradient{D: dMixed[0], Mix: m.MixK, DMix: g.MixK}, shift.Gradient{D: dMixed[1], Mix: m.MixV, DMix: g.MixV},
		shift.Gradient{D: dMixed[2], Mix: m.MixR, DMix: g.MixR}, shift.Gradient{D: dMixed[3], Mix: m.MixG, DMix: g.MixG})
}

// linear returns l, or nil if nothing is trained.
func (m *TimeMix) linear(grad *TimeMix, l *Linear) *Linear {
	if grad == nil {
		return nil
	}
	return l
}

// gradients lets a recurrence's backward pass begin with the initial state and leave its gradients, one
// for each sequence, in scratch memory; finish adds them up in order.
func (s *StateTuning) gradients(g *wkv.Gradients, ctx Context) (finish func()) {
	g.Initial, g.DInitial = nil, nil
	if s.State == nil {
		return func() {}
	}
	each := ctx.Scratch.New(ctx.Spans.Len(), len(s.State))
	g.Initial, g.DInitial = func(int) []float32 { return s.State }, each.Row
	return func() {
		if s.Grad == nil {
			return
		}
		for j := range s.Grad {
			var sum float64
			for i := range each.Dim(0) {
				sum += float64(each.Row(i)[j])
			}
			s.Grad[j] += float32(sum)
		}
	}
}
