package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/moe"
)

// MoE is MicroRWKV's mixture of experts: linear experts without an activation, of which the
// first len(Experts) are always used, however the gate ranks them:
//
//	s = softmax(Gate·x)
//	h_j = Experts[j]·x
//	y = FC·(Σ_j s_j h_j)
type MoE struct {
	Gate    Linear   // [E, C]
	Experts []Linear // A ≤ E of [S, C]
	FC      Linear   // [C, S]
}

// Forward computes the layer; see Context. If aux is not nil, aux[i] becomes the auxiliary loss of
// sequence i:
//
//	0.01 · mean over j and S of (mean over the sequence's rows of h_j)²
func (m *MoE) Forward(dst, x *tensor.Tensor, aux []float64, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, size := x.Dim(0), m.FC.Weight.Dim(1)
	gate, h := s.New(rows, m.Gate.Weight.Dim(0)), s.New(rows, len(m.Experts)*size) // [R, E], [R, A·S]
	sum := s.New(rows, size)

	// sic: a softmax over all E experts, the sum over the first A of them, no top-k; published
	// logits need it
	var q tensor.Sequence
	batch := [8]tensor.Product{m.Gate.Product(gate, x)}
	n := 1
	for j, e := range m.Experts {
		if n == len(batch) {
			q.Linear(batch[:]...)
			n = 0
		}
		batch[n] = e.Product(s.Cols(h, j*size, (j+1)*size), x)
		n++
	}
	q.Linear(batch[:n]...)
	moe.Sum(&q, sum, h, gate)
	fc := m.FC.Product(dst, sum)
	fc.Add = ctx.Add
	q.Linear(fc)
	q.Run()

	for i := range aux {
		aux[i] = auxLoss(s.Rows(h, ctx.Spans[i], ctx.Spans[i+1]))
	}
}

// auxShare is what the mean square of the experts' means counts in the auxiliary loss.
const auxShare = 0.01

// auxLoss is auxShare times the mean square of the columns' means.
func auxLoss(h *tensor.Tensor) float64 {
	rows, cols := h.Dim(0), h.Dim(1)
	mean := make([]float64, cols)
	for r := range rows {
		for c, v := range h.Row(r) {
			mean[c] += float64(v)
		}
	}
	var sum float64
	for _, m := range mean {
		m /= float64(rows)
		sum += m * m
	}
	return auxShare * sum / float64(cols)
}
