// Package attention has the attentions of MicroRWKV's layers: softmax(scale · q·kᵀ)·v by the rules of
// the published model, [Folded] and [Heads], and by the causal ones, [Causal].
package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// attentionRows is the queries that share one reading of the keys.
const attentionRows = 64

// attentionBuffer is the scratch of one piece of an attention.
type attentionBuffer struct{ q, k, v, scores, out []float32 }

var attentionBuffers = freelist.New[attentionBuffer]()

// Folded computes attention in heads, for each sequence alone, by the rule of the published
// MicroRWKV. q, k, v and dst are [R, H·d], q, k and v maybe with gaps; sequence i has rows spans[i]
// to spans[i+1]. For each head the positions of a sequence are padded with zeros to a multiple of
// width, then re-read in row-major order as width rows of as many positions each, and
//
//	dst = softmax(scale · q·kᵀ)·v
//
// over those rows, re-read as positions. Padding takes part: its rows of zeros add to the softmax's
// denominator, which is how they are computed. dst must not overlap the operands. It is computed
// as a step of in.
func Folded(in *tensor.Sequence, dst, q, k, v *tensor.Tensor, heads, width int, scale float32, spans []int) {
	for _, t := range [...]*tensor.Tensor{dst, q, k, v} {
		tensor.SameShape("Folded", dst, t)
	}
	if heads <= 0 || dst.Dim(-1)%heads != 0 {
		panic("attention: Folded: " + task.FormatShape(dst.Shape()...) + " in heads of " + task.FormatShape(heads))
	}
	t := foldedTasks.Get()
	t.dst, t.q, t.k, t.v = dst.Matrix(), q.Matrix(), k.Matrix(), v.Matrix()
	t.heads, t.d, t.width, t.scale = heads, dst.Dim(-1)/heads, width, scale
	t.spans = append(t.spans[:0], spans...)
	// A head's rows are cut only if there are few heads: each block gathers all keys.
	t.blocks = min((4*task.Threads()+heads-1)/heads, (width+attentionRows-1)/attentionRows)
	work := 0
	for i := range len(spans) - 1 {
		n := spans[i+1] - spans[i]
		work += 4 * n * min(n, width) * dst.Dim(-1)
	}
	in.Add((len(spans)-1)*heads*t.blocks, work, t)
}

// End gives the task back.
func (t *foldedTask) End() {
	t.dst, t.q, t.k, t.v = task.Matrix{}, task.Matrix{}, task.Matrix{}, task.Matrix{}
	foldedTasks.Put(t)
}

var foldedTasks = freelist.New[foldedTask]()

type foldedTask struct {
	dst, q, k, v    task.Matrix
	heads, d, width int
	blocks          int // of a head's rows
	scale           float32
	spans           []int
}

// Run computes a block of rows of one head of one sequence.
func (t *foldedTask) Run(piece int) {
	block, h, seq := piece%t.blocks, piece/t.blocks%t.heads, piece/t.blocks/t.heads
	first, n := t.spans[seq], t.spans[seq+1]-t.spans[seq]
	if n == 0 {
		return
	}
	fold := (n + t.width - 1) / t.width // positions in a row
	rows := (n + fold - 1) / fold       // that aren't all zeros
	buf := attentionBuffers.Get()
	d := fold * t.d
	k, ldk := t.k.Data[first*t.k.Stride+h*t.d:], t.k.Stride
	v, ldv := t.v.Data[first*t.v.Stride+h*t.d:], t.v.Stride
	if fold > 1 {
		buf.k, buf.v = freelist.Grown(buf.k, rows*d), freelist.Grown(buf.v, rows*d)
		gather(buf.k[:rows*d], k, ldk, n, t.d)
		gather(buf.v[:rows*d], v, ldv, n, t.d)
		k, v, ldk, ldv = buf.k, buf.v, d, d
	}
	for r0 := block * attentionRows; r0 < rows; r0 += t.blocks * attentionRows {
		r1 := min(r0+attentionRows, rows)
		m, from, to := r1-r0, r0*fold, min(r1*fold, n) // rows and their positions
		buf.q, buf.scores, buf.out = freelist.Grown(buf.q, m*d), freelist.Grown(buf.scores, m*rows), freelist.Grown(buf.out, m*d)
		q, scores, out := buf.q[:m*d], buf.scores[:m*rows], buf.out[:m*d]
		gather(q, t.q.Data[(first+from)*t.q.Stride+h*t.d:], t.q.Stride, to-from, t.d)
		kernel.Scale(q, t.scale, q)
		kernel.GemmNT(scores, rows, q, d, k, ldk, m, rows, d, false)
		for i := range m {
			s := scores[i*rows:][:rows]
			kernel.Scale(s, task.ExpRow(s, t.width-rows), s)
		}
		kernel.GemmNN(out, d, scores, rows, v, ldv, m, d, rows, false)
		for p := from; p < to; p++ {
			copy(t.dst.Data[(first+p)*t.dst.Stride+h*t.d:][:t.d], out[(p-from)*t.d:])
		}
	}
	attentionBuffers.Put(buf)
}

// gather copies n rows of d values, ld apart, next to each other, and fills the rest with zeros.
func gather(dst, x []float32, ld, n, d int) {
	for i := range n {
		copy(dst[i*d:][:d], x[i*ld:])
	}
	clear(dst[n*d:])
}
