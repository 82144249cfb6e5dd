package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/moe"
)

// MoETape is what MoE.Backward needs of a Record.
type MoETape struct {
	x, p, h, sum, means *tensor.Tensor // p is the gate's softmax, h the experts' outputs, means those of h by sequence
}

// Record is Forward, keeping in t and mem what Backward needs; x must stay as it is until then. aux must
// not be nil.
func (m *MoE) Record(dst, x *tensor.Tensor, aux []float64, t *MoETape, mem *tensor.Tape, ctx Context) {
	rows, size := x.Dim(0), m.FC.Weight.Dim(1)
	t.x, t.p, t.h = x, mem.New(rows, m.Gate.Weight.Dim(0)), mem.New(rows, len(m.Experts)*size)
	t.sum, t.means = mem.New(rows, size), mem.New(ctx.Spans.Len(), len(m.Experts)*size)
	s := ctx.Scratch
	defer s.Release(s.Mark())
	var products [8]tensor.Product
	at := append(products[:0], m.Gate.turned(t.p, x))
	for j, e := range m.Experts {
		at = append(at, e.turned(s.Cols(t.h, j*size, (j+1)*size), x))
	}
	tensor.Linear(at...)
	tensor.Softmax(t.p, t.p)
	moe.WeightedSum(t.sum, t.h, t.p)
	fc := m.FC.turned(dst, t.sum)
	fc.Add = ctx.Add
	tensor.Linear(fc)
	moe.ColumnMeans(t.means, t.h, ctx.Spans)
	for i := range aux {
		var sum float64
		for _, v := range t.means.Row(i) {
			sum += float64(v) * float64(v)
		}
		aux[i] = auxShare * sum / float64(t.means.Dim(1))
	}
}

// Backward computes the gradients of the pass that t recorded. auxScale is what a sequence's auxiliary
// loss counts in the loss.
func (m *MoE) Backward(dx, dy *tensor.Tensor, auxScale float64, t *MoETape, grad *MoE, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	size := m.FC.Weight.Dim(1)
	dsum, dh, dp, daux := s.New(t.sum.Shape()...), s.New(t.h.Shape()...), s.New(t.p.Shape()...), s.New(t.means.Shape()...)
	var fc, gate *Linear
	if grad != nil {
		fc, gate = &grad.FC, &grad.Gate
	}
	m.FC.Backward(dsum, dy, t.sum, fc, false)
	for i := range ctx.Spans.Len() {
		rows := float64(ctx.Spans[i+1] - ctx.Spans[i])
		scale := auxScale * auxShare * 2 / (float64(t.means.Dim(1)) * rows)
		for j, v := range t.means.Row(i) {
			daux.Row(i)[j] = float32(scale * float64(v))
		}
	}
	moe.SumBackward(dh, dp, dsum, t.h, t.p, ctx.Spans, daux)
	var batch [8]tensor.Gradient
	n, add := 0, ctx.Add
	for j, e := range m.Experts {
		var g *Linear
		if grad != nil {
			g = &grad.Experts[j]
		}
		if n == len(batch)-1 { // the gate comes last
			tensor.LinearBackward(batch[:n]...)
			n = 0
		}
		batch[n] = e.gradient(dx, s.Cols(dh, j*size, (j+1)*size), t.x, g, add)
		n, add = n+1, true
	}
	batch[n] = m.Gate.gradient(dx, dp, t.x, gate, add)
	tensor.LinearBackward(batch[:n+1]...)
}
