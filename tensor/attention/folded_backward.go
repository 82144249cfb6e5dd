package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// FoldedBackward computes the gradients of Folded from that of its output, dy: dq, dk and dv are
// written, all [R, H·d], maybe with gaps. It goes back through the same re-reading; padding gets no
// gradient, but its share of each softmax stays.
func FoldedBackward(dq, dk, dv, dy, q, k, v *tensor.Tensor, heads, width int, scale float32, spans []int) {
	for _, x := range [...]*tensor.Tensor{dq, dk, dv, q, k, v} {
		tensor.SameShape("FoldedBackward", dy, x)
	}
	if heads <= 0 || dy.Dim(-1)%heads != 0 {
		panic("attention: FoldedBackward: " + task.FormatShape(dy.Shape()...) + " in heads of " + task.FormatShape(heads))
	}
	t := foldedBackwardTasks.Get()
	t.dy, t.q, t.k, t.v, t.dq, t.dk, t.dv = dy.Matrix(), q.Matrix(), k.Matrix(), v.Matrix(), dq.Matrix(), dk.Matrix(), dv.Matrix()
	t.heads, t.d, t.width, t.scale = heads, dy.Dim(-1)/heads, width, scale
	t.spans = append(t.spans[:0], spans...)
	work := 0
	for i := range len(spans) - 1 {
		n := spans[i+1] - spans[i]
		work += 8 * n * min(n, width) * dy.Dim(-1)
	}
	task.Spread((len(spans)-1)*heads, work, t)
	*t = foldedBackwardTask{spans: t.spans}
	foldedBackwardTasks.Put(t)
}

var foldedBackwardTasks = freelist.New[foldedBackwardTask]()

type foldedBackwardTask struct {
	dy, q, k, v, dq, dk, dv task.Matrix
	heads, d, width         int
	scale                   float32
	spans                   []int
}

// Run computes one head of one sequence.
func (t *foldedBackwardTask) Run(piece int) {
	h, seq := piece%t.heads, piece/t.heads
	first, n := t.spans[seq], t.spans[seq+1]-t.spans[seq]
	if n == 0 {
		return
	}
	fold := (n + t.width - 1) / t.width // positions in a row
	rows := (n + fold - 1) / fold       // that aren't all zeros
	d := fold * t.d
	buf := backwardBuffers.Get()
	read := func(b *[]float32, m *task.Matrix) []float32 {
		*b = freelist.Grown(*b, rows*d)
		gather((*b)[:rows*d], m.Data[first*m.Stride+h*t.d:], m.Stride, n, t.d)
		return (*b)[:rows*d]
	}
	q, k, v, dy := read(&buf.q, &t.q), read(&buf.k, &t.k), read(&buf.v, &t.v), read(&buf.dy, &t.dy)
	kernel.Scale(q, t.scale, q)
	buf.dq, buf.dk, buf.dv = freelist.Grown(buf.dq, rows*d), freelist.Grown(buf.dk, rows*d), freelist.Grown(buf.dv, rows*d)
	clear(buf.dk[:rows*d])
	clear(buf.dv[:rows*d])
	buf.p, buf.dp = freelist.Grown(buf.p, rows*rows), freelist.Grown(buf.dp, rows*rows)
	kernel.GemmNT(buf.p, rows, q, d, k, d, rows, rows, d, false)
	for i := range rows {
		s := buf.p[i*rows:][:rows]
		kernel.Scale(s, task.ExpRow(s, t.width-rows), s)
	}
	buf.softmax(dy, v, rows, rows, d)
	kernel.GemmNN(buf.dq, d, buf.dp, rows, k, d, rows, d, rows, false)
	kernel.Scale(buf.dq[:rows*d], t.scale, buf.dq[:rows*d])
	buf.keys(buf.dk, buf.dv, q, dy, rows, rows, d)
	for _, m := range [...]struct {
		to *task.Matrix
		x  []float32
	}{{&t.dq, buf.dq}, {&t.dk, buf.dk}, {&t.dv, buf.dv}} {
		scatter(m.to.Data[first*m.to.Stride+h*t.d:], m.to.Stride, m.x, n, t.d)
	}
	backwardBuffers.Put(buf)
}
