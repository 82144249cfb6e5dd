package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix6Tape is what TimeMix6.Backward needs of a Record.
type TimeMix6Tape struct {
	Tuning StateTuning // set by the caller

	x                    *tensor.Tensor // [R, C]
	z                    *tensor.Tensor // [R, 5·D], the mixes' narrow middles w, k, v, r, g, by tanh
	r, k, v, g, e, w, w1 *tensor.Tensor // [R, A]; g is silu's argument, w = exp(−e); w1 [R, E] is the decay's middle
	y, o                 *tensor.Tensor // [R, A]: the WKV's output and Output's input
	sums                 []float64
	gradients            wkv.Gradients
	w2, dw2              [5]*tensor.Weight // [D, C] each, of W2 and its gradient
	w2Of, dw2Of          *tensor.Weight    // those of which w2 and dw2 are the parts
	ones                 *tensor.Tensor    // [C]
	before, xx           *tensor.Tensor    // [R, C], for the time of a call
}

// parts returns W2_j of a weight [5, D, C], which are kept in list as long as it is the same weight.
func parts(list *[5]*tensor.Weight, of **tensor.Weight, w *tensor.Weight) {
	if *of == w {
		return
	}
	*of = w
	d := w.Dim(1)
	rows := w.Reshape(5*d, w.Dim(2))
	for j := range list {
		list[j] = rows.Rows(j*d, (j+1)*d)
	}
}

// Record is Forward, keeping in t and mem what Backward needs; x must stay as it is until then. Derive
// isn't needed.
func (m *TimeMix6) Record(dst, x *tensor.Tensor, t *TimeMix6Tape, mem *tensor.Tape, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, a := x.Dim(0), m.Bonus.Len()
	for _, p := range [...]**tensor.Tensor{&t.r, &t.k, &t.v, &t.g, &t.e, &t.w, &t.y, &t.o} {
		*p = mem.New(rows, a)
	}
	t.x, t.z = x, mem.New(rows, m.W1.Dim(1))
	m.neighbours(t, ctx)
	tensor.GradInput(t.z, t.xx, m.W1, false)
	tensor.Apply(tensor.Tanh, t.z, t.z)
	var amounts [5]*tensor.Tensor // w, k, v, r, g
	m.amounts(&amounts, t, s)
	mixed := amounts
	for j, amount := range amounts {
		tensor.MixTensor(mixed[j], x, t.before, amount)
	}
	tensor.Linear(m.Receptance.turned(t.r, mixed[3]), m.Key.turned(t.k, mixed[1]), m.Value.turned(t.v, mixed[2]), m.Gate.turned(t.g, mixed[4]))
	narrow := [1]narrowPass{m.Decay.pass(mixed[0], tensor.Tanh, tensor.Identity)}
	narrow[0].dst = t.e
	recordNarrow(narrow[:], mem)
	t.w1 = narrow[0].middle
	wkv.ExpScaled(nil, t.e, t.e, 1)
	wkv.ExpScaled(nil, t.w, t.e, -1)
	wkv.V6(nil, t.y, t.r, t.w, t.k, t.v, m.Bonus.Data(), m.Heads, nil, ctx.Spans, rowsOf(t.Tuning.begin(ctx.Spans.Len(), mem)))
	wkv.GatedNorm(t.o, t.y, t.g, m.Heads, m.LnX.byHead(nil))
	op := m.Output.turned(dst, t.o)
	op.Add = ctx.Add
	tensor.Linear(op)
}

// neighbours makes the rows before those of x, and xx, of which the mixes are made.
func (m *TimeMix6) neighbours(t *TimeMix6Tape, ctx Context) {
	t.before, t.xx = ctx.Scratch.New(t.x.Shape()...), ctx.Scratch.New(t.x.Shape()...)
	shift.Tokens(t.x, ctx.Spans, none, shift.Mixed{Dst: t.before}, shift.Mixed{Dst: t.xx, Mix: m.MixX})
}

// amounts computes how much of the row before is mixed in: Mix_j + z_j·W2_j.
func (m *TimeMix6) amounts(to *[5]*tensor.Tensor, t *TimeMix6Tape, s *tensor.Scratch) {
	parts(&t.w2, &t.w2Of, m.W2)
	d := m.W2.Dim(1)
	var products [5]tensor.Gradient
	for j := range to {
		to[j] = s.New(t.x.Shape()...)
		products[j] = tensor.Gradient{DX: to[j], DY: s.Cols(t.z, j*d, (j+1)*d), W: t.w2[j]}
	}
	tensor.LinearBackward(products[:]...) // z_j·W2_j, no gradient
	for j, mix := range [5]*tensor.Tensor{m.MixW, m.MixK, m.MixV, m.MixR, m.MixG} {
		tensor.AddVector(to[j], to[j], mix)
	}
}

// Backward computes the gradients of the pass that t recorded.
func (m *TimeMix6) Backward(dx, dy *tensor.Tensor, t *TimeMix6Tape, grad *TimeMix6, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c, a := dy.Dim(0), dy.Dim(1), m.Bonus.Len()
	g := grad
	var decay *LowRank
	var lin [5]*Linear // key, value, receptance, gate, output
	if g == nil {
		g = &TimeMix6{}
	} else {
		decay = &g.Decay
		lin = [5]*Linear{&g.Key, &g.Value, &g.Receptance, &g.Gate, &g.Output}
	}
	dg, dwkv := s.New(rows, a), s.New(rows, a)
	m.Output.Backward(dg, dy, t.o, lin[4], false)
	wkv.GatedNormBackward(dwkv, dg, dg, t.y, t.g, m.Heads, m.LnX.byHead(nil), g.LnX.Gain, g.LnX.Bias)

	dr, dw, dk, dv := s.New(rows, a), s.New(rows, a), s.New(rows, a), s.New(rows, a)
	t.gradients.Bonus = nil
	if grad != nil {
		if len(t.sums) != a {
			t.sums = make([]float64, a)
		}
		t.gradients.Bonus = t.sums
	}
	finish := t.Tuning.gradients(&t.gradients, ctx)
	wkv.V6Backward(dr, dw, dk, dv, dwkv, t.r, t.w, t.k, t.v, m.Bonus.Data(), m.Heads, ctx.Spans, &t.gradients)
	finish()
	if grad != nil {
		addSums(g.Bonus, t.gradients.Bonus)
	}
	wkv.DecayBackward(dw, t.e, g.Decay.Bias)

	m.neighbours(t, ctx)
	var amounts, mixed, dMixed [5]*tensor.Tensor // w, k, v, r, g
	m.amounts(&amounts, t, s)
	for j := range dMixed {
		dMixed[j] = s.New(rows, c)
		if grad != nil {
			mixed[j] = s.New(rows, c)
			tensor.MixTensor(mixed[j], t.x, t.before, amounts[j])
		}
	}
	narrow := [1]narrowPass{m.Decay.pass(mixed[0], tensor.Tanh, tensor.Identity)}
	narrow[0].back(dMixed[0], dw, t.w1, decay)
	backNarrow(narrow[:], s)
	tensor.LinearBackward(m.Key.gradient(dMixed[1], dk, mixed[1], lin[0], false), m.Value.gradient(dMixed[2], dv, mixed[2], lin[1], false),
		m.Receptance.gradient(dMixed[3], dr, mixed[3], lin[2], false), m.Gate.gradient(dMixed[4], dg, mixed[4], lin[3], false))
	m.mixBackward(dx, &amounts, &dMixed, t, grad, g, ctx)
}

// mixBackward goes back from the gradients of the five mixed rows to that of x, which is written or, with
// ctx.Add, added to. Of the rows m = x + (x' − x) ⊙ amount,
//
//	d amount = dm ⊙ (x' − x);  dx_t = Σ_j dm_t ⊙ (1 − amount_t) + dm_{t+1} ⊙ amount_{t+1}
//
// and amount = Mix_j + tanh(xx·W1)_j·W2_j. What it is given it uses up.
func (m *TimeMix6) mixBackward(dx *tensor.Tensor, amounts, dMixed *[5]*tensor.Tensor, t *TimeMix6Tape, grad, g *TimeMix6, ctx Context) {
	s := ctx.Scratch
	rows, c, d := t.x.Dim(0), t.x.Dim(1), m.W2.Dim(1)
	own, before, dz := s.New(rows, c), s.New(rows, c), s.New(t.z.Shape()...)
	var mixes [5]shift.TensorGradient
	for j, to := range [5]*tensor.Tensor{g.MixW, g.MixK, g.MixV, g.MixR, g.MixG} {
		mixes[j] = shift.TensorGradient{D: dMixed[j], Mix: amounts[j], DSum: to}
	}
	shift.TensorsBackward(own, before, t.x, ctx.Spans, mixes[:]...)
	dAmounts := dMixed
	var products [5]tensor.Product
	for j, da := range dAmounts {
		products[j] = tensor.Product{Dst: s.Cols(dz, j*d, (j+1)*d), X: da, W: t.w2[j], Turned: true}
	}
	tensor.Linear(products[:]...)
	if grad != nil {
		parts(&t.dw2, &t.dw2Of, g.W2)
		var weights [5]tensor.Gradient
		for j, da := range dAmounts {
			weights[j] = tensor.Gradient{DW: t.dw2[j], DY: s.Cols(t.z, j*d, (j+1)*d), X: da}
		}
		tensor.LinearBackward(weights[:]...)
	}
	tensor.ApplyBackward(tensor.Tanh, dz, dz, t.z)
	if grad != nil {
		tensor.GradWeight(g.W1, t.xx, dz)
	}
	dxx := amounts[0]
	tensor.Linear(tensor.Product{Dst: dxx, X: dz, W: m.W1, Turned: true})
	if t.ones == nil || t.ones.Len() != c {
		t.ones = tensor.New(c)
		for i := range t.ones.Data() {
			t.ones.Data()[i] = 1
		}
	}
	shift.TokensBackward(dx, t.x, ctx.Spans, ctx.Add, shift.Gradient{D: dxx, Mix: m.MixX, DMix: g.MixX}, shift.Gradient{D: before, Mix: t.ones})
	tensor.Add(dx, dx, own)
}
