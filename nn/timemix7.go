package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix7 is the time mix of RWKV-7 "Goose" (Peng et al., arXiv:2503.14456), with m_j =
// mix(x, Mix_j):
//
//	r, k, v = Receptance·m_r, Key·m_k, Value·m_v
//	w = exp(−e^−½ · sigmoid(Decay(m_w)))     with tanh inside of Decay
//	a = sigmoid(Rate(m_a));  g = GateRank(m_g) with sigmoid inside
//	κ = k ⊙ KK, each head divided by its norm;  k ← k ⊙ (1 + (a−1) ⊙ KA)
//	v ← v + (v_first − v) ⊙ sigmoid(Value0(m_v)), but in the first block v_first = v
//	S ← S·diag(w) − (S κ)(κ ⊙ a)ᵀ + v kᵀ;  y = S r     per head
//	Output·((LnX(y) + (Σ_head r ⊙ k ⊙ RK) v) ⊙ g)
type TimeMix7 struct {
	Heads                              int
	MixR, MixW, MixK, MixV, MixA, MixG *tensor.Tensor // [C]
	Decay, Rate, ValueMix, Gate        LowRank        // ValueMix is empty in the first block
	KK, KA, RK                         *tensor.Tensor // [C]
	Receptance, Key, Value, Output     Linear         // [C, C]
	LnX                                GroupNorm      // over each head's N values
}

// LowRank is a product through a narrow middle, y = f(x·W1)·W2 + Bias, with the weights as RWKV's
// checkpoints have them.
type LowRank struct {
	W1, W2   *tensor.Weight // [C, D], [D, C]
	Bias     *tensor.Tensor // [C], or nil for none
	Down, Up *tensor.Weight // [D, C], [C, D]: W1ᵀ and W2ᵀ, which Derive makes for the kernels
}

// Derive makes Down and Up of W1 and W2. It must run when those have changed.
func (l *LowRank) Derive() { l.Down, l.Up = l.W1.Transpose(), l.W2.Transpose() }

// Derive makes what the low-rank products derive from their weights.
func (m *TimeMix7) Derive() {
	for _, l := range [...]*LowRank{&m.Decay, &m.Rate, &m.ValueMix, &m.Gate} {
		if l.W1 != nil { // the first block mixes no values
			l.Derive()
		}
	}
}

// Forward computes the layer; see Context. vFirst [R, C] is the first block's v: written by the layer
// without a ValueMix, read by the others.
func (m *TimeMix7) Forward(dst, x *tensor.Tensor, vFirst *tensor.Tensor, states func(i int) *TimeMixState, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	xr, xw, xk := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	xv, xa, xg := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	shift.Tokens(x, ctx.Spans, func(i int) []float32 { return states(i).Shift },
		shift.Mixed{Dst: xr, Mix: m.MixR}, shift.Mixed{Dst: xw, Mix: m.MixW}, shift.Mixed{Dst: xk, Mix: m.MixK},
		shift.Mixed{Dst: xv, Mix: m.MixV}, shift.Mixed{Dst: xa, Mix: m.MixA}, shift.Mixed{Dst: xg, Mix: m.MixG})

	// All products with x in one go, then the second halves of the narrow ones in another: they
	// are too small to be worth a start of their own.
	r, k, v := s.New(rows, c), s.New(rows, c), s.New(rows, c)
	w1, a1, g1 := m.Decay.middle(rows, s), m.Rate.middle(rows, s), m.Gate.middle(rows, s)
	products := [...]tensor.Product{
		m.Receptance.Product(r, xr), m.Key.Product(k, xk), m.Value.Product(v, xv),
		{Dst: w1, X: xw, W: m.Decay.Down, Act: tensor.Tanh},
		{Dst: a1, X: xa, W: m.Rate.Down},
		{Dst: g1, X: xg, W: m.Gate.Down, Act: tensor.Sigmoid},
		{}, // of the value mix
	}
	w, a, g := xw, xa, xg // their inputs are done with
	seconds := [...]tensor.Product{
		{Dst: w, X: w1, W: m.Decay.Up, Bias: m.Decay.Bias, Act: tensor.Sigmoid},
		{Dst: a, X: a1, W: m.Rate.Up, Bias: m.Rate.Bias, Act: tensor.Sigmoid},
		{Dst: g, X: g1, W: m.Gate.Up},
		{},
	}
	y := s.New(rows, c)
	var q tensor.Sequence
	mix := wkv.Mix7Forward{
		Heads: m.Heads, Scale: decayScale, R: r, A: a, S: w, W: w, K0: k, K: k, V0: v, V: v, Kappa: xk, B: xv, Y: y, N: y, Out: y, // xk, xv are done with
		KK: m.KK, KA: m.KA, RK: m.RK, Norm: m.LnX.byHead(g),
	}
	if m.ValueMix.Down == nil {
		q.Linear(products[:6]...)
		q.Linear(seconds[:3]...)
		q.Run()
		vFirst.CopyFrom(v)
	} else {
		v1 := m.ValueMix.middle(rows, s)
		products[6] = tensor.Product{Dst: v1, X: xv, W: m.ValueMix.Down}
		seconds[3] = tensor.Product{Dst: xr, X: v1, W: m.ValueMix.Up, Bias: m.ValueMix.Bias, Act: tensor.Sigmoid}
		q.Linear(products[:]...)
		q.Linear(seconds[:]...)
		mix.VFirst, mix.M = vFirst, xr
	}
	mix.Run(&q, ctx.Spans, func(i int) []float32 { return states(i).WKV })
	op := m.Output.Product(dst, y)
	op.Add = ctx.Add
	q.Linear(op)
	q.Run()
}

// middle returns room for the narrow middle [R, D].
func (l LowRank) middle(rows int, s *tensor.Scratch) *tensor.Tensor {
	return s.New(rows, l.Down.Dim(0))
}

// ChannelMix7 is the feed-forward half of an RWKV-7 block:
//
//	y = Value·relu(Key·mix(x, MixK))²
type ChannelMix7 struct {
	MixK  *tensor.Tensor // [C]
	Key   Linear         // [F, C]
	Value Linear         // [C, F]
}

// Forward computes the layer; see Context.
func (m *ChannelMix7) Forward(dst, x *tensor.Tensor, states func(i int) *ChannelMixState, ctx Context) {
	m.ForwardGated(dst, x, nil, states, ctx)
}

// ForwardGated is Forward with the inner channels multiplied by gate [R, F], see DeepEmbed; nil is 1.
func (m *ChannelMix7) ForwardGated(dst, x, gate *tensor.Tensor, states func(i int) *ChannelMixState, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	xk, k := s.New(rows, c), s.New(rows, m.Key.Weight.Dim(0))
	shift.Tokens(x, ctx.Spans, func(i int) []float32 { return states(i).Shift }, shift.Mixed{Dst: xk, Mix: m.MixK})
	kp := m.Key.Product(k, xk)
	kp.Act, kp.Gate = tensor.SquareReLU, gate
	var q tensor.Sequence
	q.Linear(kp)
	vp := m.Value.Product(dst, k)
	vp.Add = ctx.Add
	q.Linear(vp)
	q.Run()
}
