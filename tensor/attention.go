package tensor

import (
	"math"

	"microrwkv/tensor/internal/kernel"
)

// attentionRows is the queries that share one reading of the keys.
const attentionRows = 64

// attentionBuffer is the scratch of one piece of an attention.
type attentionBuffer struct{ q, k, v, scores, out []float32 }

var attentionBuffers = newFreelist[attentionBuffer]()

func grown(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n+n/2)
	}
	return s[:cap(s)]
}

// expRow computes x = exp(x − max) and returns 1/Σ, the factor that would make it a softmax with
// zeros more scores of zero.
func expRow(x []float32, zeros int) float32 {
	m := kernel.Max(x)
	if zeros > 0 {
		m = max(m, 0)
	}
	sum := kernel.ExpSum(x, x, m)
	if zeros > 0 {
		sum += float32(float64(zeros) * math.Exp(-float64(m)))
	}
	return 1 / sum
}

// FoldedAttention computes attention in heads, for each sequence alone, by the rule of the published
// MicroRWKV. q, k, v and dst are [R, H·d], q, k and v maybe with gaps; sequence i has rows spans[i]
// to spans[i+1]. For each head the positions of a sequence are padded with zeros to a multiple of
// width, then re-read in row-major order as width rows of as many positions each, and
//
//	dst = softmax(scale · q·kᵀ)·v
//
// over those rows, re-read as positions. Padding takes part: its rows of zeros add to the softmax's
// denominator, which is how they are computed. dst must not overlap the operands.
func FoldedAttention(dst, q, k, v *Tensor, heads, width int, scale float32, spans []int) {
	for _, t := range [...]*Tensor{dst, q, k, v} {
		sameShape("FoldedAttention", dst, t)
	}
	checkHeads("FoldedAttention", dst, heads)
	t := foldedTasks.get()
	t.dst, t.q, t.k, t.v = dst.matrix(), q.matrix(), k.matrix(), v.matrix()
	t.heads, t.d, t.width, t.scale = heads, dst.cols()/heads, width, scale
	t.spans = append(t.spans[:0], spans...)
	// A head's rows are cut only if there are few heads: each block gathers all keys.
	t.blocks = min((4*Threads()+heads-1)/heads, (width+attentionRows-1)/attentionRows)
	work := 0
	for i := range len(spans) - 1 {
		n := spans[i+1] - spans[i]
		work += 4 * n * min(n, width) * dst.cols()
	}
	spread((len(spans)-1)*heads*t.blocks, work, t)
	t.dst, t.q, t.k, t.v = matrix{}, matrix{}, matrix{}, matrix{}
	foldedTasks.put(t)
}

var foldedTasks = newFreelist[foldedTask]()

type foldedTask struct {
	dst, q, k, v    matrix
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
	buf := attentionBuffers.get()
	d := fold * t.d
	k, ldk := t.k.f32[first*t.k.stride+h*t.d:], t.k.stride
	v, ldv := t.v.f32[first*t.v.stride+h*t.d:], t.v.stride
	if fold > 1 {
		buf.k, buf.v = grown(buf.k, rows*d), grown(buf.v, rows*d)
		gather(buf.k[:rows*d], k, ldk, n, t.d)
		gather(buf.v[:rows*d], v, ldv, n, t.d)
		k, v, ldk, ldv = buf.k, buf.v, d, d
	}
	for r0 := block * attentionRows; r0 < rows; r0 += t.blocks * attentionRows {
		r1 := min(r0+attentionRows, rows)
		m, from, to := r1-r0, r0*fold, min(r1*fold, n) // rows and their positions
		buf.q, buf.scores, buf.out = grown(buf.q, m*d), grown(buf.scores, m*rows), grown(buf.out, m*d)
		q, scores, out := buf.q[:m*d], buf.scores[:m*rows], buf.out[:m*d]
		gather(q, t.q.f32[(first+from)*t.q.stride+h*t.d:], t.q.stride, to-from, t.d)
		kernel.Scale(q, t.scale, q)
		kernel.GemmNT(scores, rows, q, d, k, ldk, m, rows, d, false)
		for i := range m {
			s := scores[i*rows:][:rows]
			kernel.Scale(s, expRow(s, t.width-rows), s)
		}
		kernel.GemmNN(out, d, scores, rows, v, ldv, m, d, rows, false)
		for p := from; p < to; p++ {
			copy(t.dst.f32[(first+p)*t.dst.stride+h*t.d:][:t.d], out[(p-from)*t.d:])
		}
	}
	attentionBuffers.put(buf)
}

// gather copies n rows of d values, ld apart, next to each other, and fills the rest with zeros.
func gather(dst, x []float32, ld, n, d int) {
	for i := range n {
		copy(dst[i*d:][:d], x[i*ld:])
	}
	clear(dst[n*d:])
}
