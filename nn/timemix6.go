package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
	"microrwkv/tensor/wkv"
)

// TimeMix6 is the time mix of RWKV-6 "Finch" (Peng et al., arXiv:2404.05892), in which the token itself
// says how much of the row before it is mixed in, and how fast the state forgets:
//
//	z_w, z_k, z_v, z_r, z_g = tanh(mix(x, MixX)·W1) cut into 5
//	m_j = mix(x, Mix_j + z_j·W2_j)
//	r, k, v = Receptance·m_r, Key·m_k, Value·m_v;  g = silu(Gate·m_g)
//	w = exp(−exp(Decay(m_w)))                      with tanh inside of Decay
//	y = S·r + (Σ_head r ⊙ u ⊙ k) v;   S ← S·diag(w) + v kᵀ       per head
//	Output·(LnX(y) ⊙ g)
//
// where mix(x, m) = x + (x' − x) ⊙ m, x' is the row before x, and u is Bonus.
type TimeMix6 struct {
	Heads                                int
	MixX, MixW, MixK, MixV, MixR, MixG   *tensor.Tensor // [C]
	W1, W2                               *tensor.Weight // [C, 5·D], [5, D, C]
	Decay                                LowRank        // from C to A
	Bonus                                *tensor.Tensor // [A]
	Receptance, Key, Value, Gate, Output Linear         // [A, C] but Output, which is [C, A]
	LnX                                  GroupNorm      // over each head's N = A/H values

	Down *tensor.Weight    // [5·D, C]: W1ᵀ, which Derive makes for the kernels
	Up   [5]*tensor.Weight // [C, D] each: W2_jᵀ, likewise
}

// Derive makes what the low-rank products derive from their weights.
func (m *TimeMix6) Derive() {
	m.Decay.Derive()
	m.Down = m.W1.Transpose()
	d := m.W2.Dim(1)
	w2 := m.W2.Reshape(5*d, m.W2.Dim(2))
	for j := range m.Up {
		m.Up[j] = w2.Rows(j*d, (j+1)*d).Transpose()
	}
}

// Forward computes the layer; see Context. It needs states.
func (m *TimeMix6) Forward(dst, x *tensor.Tensor, states func(i int) *TimeMixState, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c, a, d := x.Dim(0), x.Dim(1), m.Bonus.Len(), m.W2.Dim(1)
	before, xx, z := s.New(rows, c), s.New(rows, c), s.New(rows, 5*d)
	shift.Tokens(x, ctx.Spans, func(i int) []float32 { return states(i).Shift },
		shift.Mixed{Dst: before}, shift.Mixed{Dst: xx, Mix: m.MixX})
	var q tensor.Sequence
	q.Linear(tensor.Product{Dst: z, X: xx, W: m.Down, Act: tensor.Tanh})

	// How much of the row before, then the mixed rows themselves: w, k, v, r, g.
	mixed := [5]*tensor.Tensor{xx, s.New(rows, c), s.New(rows, c), s.New(rows, c), s.New(rows, c)}
	amounts := [5]tensor.Product{}
	for j, mix := range [5]*tensor.Tensor{m.MixW, m.MixK, m.MixV, m.MixR, m.MixG} {
		amounts[j] = tensor.Product{Dst: mixed[j], X: s.Cols(z, j*d, (j+1)*d), W: m.Up[j], Bias: mix}
	}
	q.Linear(amounts[:]...)
	for _, xj := range mixed {
		q.MixTensor(xj, x, before, xj)
	}

	w1, w := s.New(rows, m.Decay.Down.Dim(0)), s.New(rows, a)
	r, k, v, g, y := s.New(rows, a), s.New(rows, a), s.New(rows, a), s.New(rows, a), s.New(rows, a)
	gp := m.Gate.Product(g, mixed[4])
	gp.Act = tensor.SiLU
	q.Linear(m.Receptance.Product(r, mixed[3]), m.Key.Product(k, mixed[1]), m.Value.Product(v, mixed[2]), gp,
		tensor.Product{Dst: w1, X: mixed[0], W: m.Decay.Down, Act: tensor.Tanh})
	q.Linear(tensor.Product{Dst: w, X: w1, W: m.Decay.Up, Bias: m.Decay.Bias})
	wkv.ExpScaled(&q, w, w, 1)
	wkv.ExpScaled(&q, w, w, -1)

	norm := m.LnX.byHead(g)
	wkv.V6(&q, y, r, w, k, v, m.Bonus.Data(), m.Heads, &norm, ctx.Spans, func(i int) []float32 { return states(i).WKV })
	op := m.Output.Product(dst, y)
	op.Add = ctx.Add
	q.Linear(op)
	q.Run()
}
