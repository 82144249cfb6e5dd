package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix5Tape is what TimeMix5.Backward needs of a Record.
type TimeMix5Tape struct {
	Tuning StateTuning // set by the caller

	x, r, k, v, z, y, o *tensor.Tensor // [R, C] and [R, A]; z is silu's argument, nil without a gate, y the WKV's output, o Output's input
	sums                []float64
	gradients           wkv.Gradients
}

// Record is Forward, keeping in t and mem what Backward needs; x must stay as it is until then.
func (m *TimeMix5) Record(dst, x *tensor.Tensor, t *TimeMix5Tape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, a := x.Dim(0), m.Decay.Len()
	t.x, t.r, t.k, t.v, t.y, t.o = x, mem.New(rows, a), mem.New(rows, a), mem.New(rows, a), mem.New(rows, a), mem.New(rows, a)
	if t.z = nil; m.Gate.Weight != nil {
		t.z = mem.New(rows, a)
	}
	mixed := m.mix(x, ctx)
	products := [4]tensor.Product{m.Key.turned(t.k, mixed[0]), m.Value.turned(t.v, mixed[1]), m.Receptance.turned(t.r, mixed[2])}
	n := 3
	if t.z != nil {
		products[3] = m.Gate.turned(t.z, mixed[3])
		n = 4
	}
	tensor.Linear(products[:n]...)
	wkv.V6(nil, t.y, t.r, m.Decay, t.k, t.v, m.Bonus.Data(), m.Heads, nil, ctx.Spans, rowsOf(t.Tuning.begin(ctx.Spans.Len(), mem)))
	if t.z != nil {
		wkv.GatedNorm(t.o, t.y, t.z, m.Heads, m.LnX.byHead(nil))
	} else {
		m.LnX.Forward(t.o, t.y)
	}
	op := m.Output.turned(dst, t.o)
	op.Add = ctx.Add
	tensor.Linear(op)
}

// mix returns the mixed rows of x for k, v, r and g, if there is a gate, in scratch memory.
func (m *TimeMix5) mix(x *tensor.Tensor, ctx Context) (mixed [4]*tensor.Tensor) {
	list := [4]shift.Mixed{{Mix: m.MixK}, {Mix: m.MixV}, {Mix: m.MixR}, {Mix: m.MixG}}
	n := 4
	if m.Gate.Weight == nil {
		n = 3
	}
	for i := range n {
		mixed[i] = ctx.Scratch.New(x.Shape()...)
		list[i].Dst = mixed[i]
	}
	shift.Tokens(x, ctx.Spans, none, list[:n]...)
	return mixed
}

// Backward computes the gradients of the pass that t recorded. To Decay in grad it adds the gradient of
// ln w, which is finite for every w.
func (m *TimeMix5) Backward(dx, dy *tensor.Tensor, t *TimeMix5Tape, grad *TimeMix5, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c, a := dy.Dim(0), dy.Dim(1), m.Decay.Len()
	g := grad
	var lin [5]*Linear // key, value, receptance, gate, output
	var norm *GroupNorm
	if g == nil {
		g = &TimeMix5{}
	} else {
		lin = [5]*Linear{&g.Key, &g.Value, &g.Receptance, &g.Gate, &g.Output}
		norm = &g.LnX
	}
	dz, dwkv := s.New(rows, a), s.New(rows, a)
	m.Output.Backward(dz, dy, t.o, lin[4], false)
	if t.z != nil {
		wkv.GatedNormBackward(dwkv, dz, dz, t.y, t.z, m.Heads, m.LnX.byHead(nil), g.LnX.Gain, g.LnX.Bias)
	} else {
		m.LnX.Backward(dwkv, dz, t.y, norm, false)
	}

	dr, dk, dv := s.New(rows, a), s.New(rows, a), s.New(rows, a)
	t.gradients.LogDecay, t.gradients.Bonus = nil, nil
	if grad != nil {
		if len(t.sums) != 2*a {
			t.sums = make([]float64, 2*a)
		}
		t.gradients.LogDecay, t.gradients.Bonus = t.sums[:a], t.sums[a:]
	}
	finish := t.Tuning.gradients(&t.gradients, ctx)
	wkv.V6Backward(dr, nil, dk, dv, dwkv, t.r, m.Decay, t.k, t.v, m.Bonus.Data(), m.Heads, ctx.Spans, &t.gradients)
	finish()
	if grad != nil {
		addSums(g.Decay, t.gradients.LogDecay)
		addSums(g.Bonus, t.gradients.Bonus)
	}

	n := 3
	if t.z != nil {
		n = 4
	}
	var mixed, dMixed [4]*tensor.Tensor // k, v, r, g
	for i := range n {
		dMixed[i] = s.New(rows, c)
	}
	if grad != nil {
		mixed = m.mix(t.x, ctx)
	}
	layers := [4]*Linear{&m.Key, &m.Value, &m.Receptance, &m.Gate}
	var products [4]tensor.Gradient
	for i, d := range [4]*tensor.Tensor{dk, dv, dr, dz} {
		if i < n {
			products[i] = layers[i].gradient(dMixed[i], d, mixed[i], lin[i], false)
		}
	}
	tensor.LinearBackward(products[:n]...)
	shifts := [4]shift.Gradient{{D: dMixed[0], Mix: m.MixK, DMix: g.MixK}, {D: dMixed[1], Mix: m.MixV, DMix: g.MixV},
		{D: dMixed[2], Mix: m.MixR, DMix: g.MixR}, {D: dMixed[3], Mix: m.MixG, DMix: g.MixG}}
	shift.TokensBackward(dx, t.x, ctx.Spans, ctx.Add, shifts[:n]...)
}

// addSums adds numbers to a gradient.
func addSums(to *tensor.Tensor, sums []float64) {
	for i, x := range sums {
		to.Data()[i] += float32(x)
	}
}
