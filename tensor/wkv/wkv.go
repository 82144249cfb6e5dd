// Package wkv has the recurrences of RWKV's time mixes: [V4] for RWKV-4, [V5] for x051a, [V6] for RWKV-5
// and RWKV-6, [V7] for RWKV-7, and what RWKV-7 does by head around it.
package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// V5 computes the recurrence of RWKV x051a for each head of each sequence (Peng et al.,
// arXiv:2404.05892, with one decay w and one bonus u for a whole head):
//
//	y_t = Σ_{s<t} w^{t−1−s} (r_t·k_s) v_s + u (r_t·k_t) v_t
//
// y, r, k and v are [R, H·N], w and u [H]. Sequence i has rows spans[i] to spans[i+1] and goes on
// from the state that state(i) returns, H matrices [N, N] with a row for each element of k and a
// column for each of v, and updates it; nil is a state of zeros that nobody keeps. y must not
// overlap the operands.
//
// A few rows are computed one by one as S ← w·S + kᵀv, more of them in chunks as products of
// matrices, which gives the same numbers but for rounding. out says what is done with y while it
// is in the cache; nil is nothing. It is computed as a step of q.
func V5(q *tensor.Sequence, y, r, k, v *tensor.Tensor, w, u []float32, out *HeadNorm, spans []int, state func(i int) []float32) {
	t := wkvTasks.Get()
	t.set("V5", len(w), y, r, k, v)
	if len(u) != len(w) {
		panic("wkv: V5: w " + task.FormatShape(len(w)) + ", u " + task.FormatShape(len(u)))
	}
	t.decay, t.bonus, t.head = w, u, v5Head
	t.norm("V5", y, out)
	t.run(q, spans, state)
}

// HeadNorm normalizes each head's values of a row alone, as GroupNorm does, then gates them:
//
//	y = ((y − mean) / √(var + Eps) ⊙ Gain + Bias) ⊙ Gate
type HeadNorm struct {
	Gain, Bias *tensor.Tensor // [H·N]
	Eps        float32
	Gate       *tensor.Tensor // [R, H·N], or nil for 1
}

// V7 computes the recurrence of RWKV-7 for each head of each sequence (Peng et al.,
// arXiv:2503.14456):
//
//	S ← S·diag(w) − (S·a)·bᵀ + v·kᵀ;   y = S·r
//
// y, r, w, k, v, a and b are [R, H·N]; spans and state are as for V5, but S has a row for each
// element of v and a column for each of k. y must not overlap the operands.
func V7(y, r, w, k, v, a, b *tensor.Tensor, heads int, spans []int, state func(i int) []float32) {
	t := wkvTasks.Get()
	t.set("V7", heads, y, r, k, v, w, a, b)
	t.head = v7Head
	t.run(nil, spans, state)
}

var wkvTasks = freelist.New[wkvTask]()

// wkvTask is the heads of a batch of sequences; a piece is one head of one sequence.
type wkvTask struct {
	head         func(t *wkvTask, s []float32, kept bool, col, from, to int) // s is zeros and lost unless it is kept
	y            task.Matrix
	in           [6]task.Matrix // r, k, v, then w of V6 and V7, a and b of V7
	decay, bonus []float32
	gain, bias   []float32 // of HeadNorm, with eps and gate
	eps          float32
	gate         task.Matrix // empty without a gate
	normed       bool        // there is a HeadNorm
	mix7         mix7
	heads, n     int
	spans        []int
	states       [][]float32
}

func (t *wkvTask) set(op string, heads int, y *tensor.Tensor, in ...*tensor.Tensor) {
	for i, x := range in {
		tensor.SameShape(op, y, x)
		t.in[i] = x.Matrix()
		if t.in[i].Stride != t.in[0].Stride {
			panic("wkv: " + op + ": operands at different row distances")
		}
	}
	checkHeads(op, y, heads)
	t.y, t.heads, t.n = y.Matrix(), heads, y.Dim(1)/heads
}

// norm takes what is done with y at last; nil is nothing.
func (t *wkvTask) norm(op string, y *tensor.Tensor, out *HeadNorm) {
	if out == nil {
		return
	}
	t.normed = true
	t.gain, t.bias, t.eps = tensor.Vector(op, out.Gain, y.Dim(-1)), tensor.Vector(op, out.Bias, y.Dim(-1)), out.Eps
	if out.Gate != nil {
		tensor.SameShape("HeadNorm gate", y, out.Gate)
		t.gate = out.Gate.Matrix()
	}
}

// run computes the heads as a step of q.
func (t *wkvTask) run(q *tensor.Sequence, spans []int, state func(i int) []float32) {
	t.spans = append(t.spans[:0], spans...)
	t.states = t.states[:0]
	for i := range len(spans) - 1 {
		s := state(i)
		if s != nil && len(s) != t.heads*t.n*t.n {
			panic("wkv: state of " + task.FormatShape(len(s)) + " elements for heads of " + task.FormatShape(t.heads, t.n, t.n))
		}
		t.states = append(t.states, s)
	}
	// Some passes over the state for each row.
	q.Add(len(t.states)*t.heads, 4*spans[len(spans)-1]*t.heads*t.n*t.n, t)
}

// End gives the task back.
func (t *wkvTask) End() {
	clear(t.states)
	t.decay, t.bonus, t.y, t.in = nil, nil, task.Matrix{}, [6]task.Matrix{}
	t.gain, t.bias, t.gate, t.normed = nil, nil, task.Matrix{}, false
	t.mix7 = mix7{}
	wkvTasks.Put(t)
}

// Run computes one head of one sequence.
func (t *wkvTask) Run(piece int) {
	seq, h := piece/t.heads, piece%t.heads
	size := t.n * t.n
	from, to := t.spans[seq], t.spans[seq+1]
	if s := t.states[seq]; s != nil {
		t.head(t, s[h*size:][:size], true, h*t.n, from, to)
	} else {
		buf := wkvBuffers.Get()
		buf.s = freelist.Grown(buf.s, size)
		clear(buf.s[:size])
		t.head(t, buf.s[:size], false, h*t.n, from, to)
		wkvBuffers.Put(buf)
	}
	if !t.normed {
		return
	}
	c0, c1 := h*t.n, (h+1)*t.n
	for i := from; i < to; i++ {
		y := t.y.Data[i*t.y.Stride:][c0:c1]
		kernel.Normalize(y, y, t.gain[c0:c1], t.bias[c0:c1], nil, 1, t.eps)
		if t.gate.Data != nil {
			kernel.Mul(y, y, t.gate.Data[i*t.gate.Stride:][c0:c1])
		}
	}
}

// wkvBuffer is the scratch of one piece.
type wkvBuffer struct{ s, scores, r, k, v, pow []float32 }

var wkvBuffers = freelist.New[wkvBuffer]()

const (
	wkvChunk = 64 // rows of a chunk: its products cost as much as the state's for N = 64
	wkvSteps = 4  // up to so many rows the recurrence is faster
)

// v5Head computes rows from to to of one head, whose values begin at column col.
func v5Head(t *wkvTask, s []float32, kept bool, col, from, to int) {
	n, ld := t.n, t.in[0].Stride
	h := col / n
	if to-from <= wkvSteps {
		kernel.WKV5(t.y.Data[from*t.y.Stride+col:], t.y.Stride, s, t.in[0].Data[from*ld+col:], t.in[1].Data[from*ld+col:], t.in[2].Data[from*ld+col:], ld, t.decay[h], t.bonus[h], n, to-from)
		return
	}
	buf := wkvBuffers.Get()
	for before := kept; from < to; before = true {
		end := min(from+wkvChunk, to)
		t.v5Chunk(buf, s, col, from, end, before, kept || end < to)
		from = end
	}
	wkvBuffers.Put(buf)
}

// v5Chunk computes rows from to to as
//
//	y = (r·kᵀ ⊙ D)·v + (w^t r)·S      D[t,s] = w^{t−1−s} for s < t, u for s = t, else 0
//	S ← w^c·S + (w^{c−1−s} k)ᵀ·v
//
// with t and s counted from the chunk's start and c rows in it. before says whether S isn't zero, after whether its
// new value is wanted.
func (t *wkvTask) v5Chunk(buf *wkvBuffer, s []float32, col, from, to int, before, after bool) {
	n, c, ld := t.n, to-from, t.in[0].Stride
	w, u := t.decay[col/n], t.bonus[col/n]
	r, k, v := t.in[0].Data[from*ld+col:], t.in[1].Data[from*ld+col:], t.in[2].Data[from*ld+col:]
	y := t.y.Data[from*t.y.Stride+col:]

	buf.pow, buf.scores = freelist.Grown(buf.pow, 3*c+1), freelist.Grown(buf.scores, c*c)
	buf.r, buf.k = freelist.Grown(buf.r, c*n), freelist.Grown(buf.k, n*c)
	pow, left := buf.pow[:c+1], buf.pow[c+1:3*c+1] // w⁰ … w^c, and w^{c−1} … w⁰ 0 … 0
	p := 1.0
	for i := range pow {
		pow[i] = float32(p)
		p *= float64(w)
	}
	for i := range c {
		left[i] = pow[c-1-i]
	}
	clear(left[c:])

	scores, kt := buf.scores[:c*c], buf.k[:n*c]
	kernel.Transpose(kt, c, k, ld, c, n)
	kernel.GemmNN(scores, c, r, ld, kt, c, c, c, n, false)
	for i := range c {
		row := scores[i*c:][:c]
		now := u * row[i]
		kernel.Mul(row, row, left[c-i:][:c])
		row[i] = now
	}
	kernel.GemmNN(y, t.y.Stride, scores, c, v, ld, c, n, c, false)

	if before {
		for i := range c {
			kernel.Scale(buf.r[i*n:][:n], pow[i], r[i*ld:][:n])
		}
		kernel.GemmNN(y, t.y.Stride, buf.r, n, s, n, c, n, n, true)
	}
	if !after {
		return
	}
	for i := range n { // the decay that is left at the chunk's end
		kernel.Mul(kt[i*c:][:c], kt[i*c:][:c], left[:c])
	}
	kernel.Scale(s, pow[c], s)
	kernel.GemmNN(s, n, kt, c, v, ld, n, n, c, true)
}

// v7Head computes rows from to to of one head, whose values begin at column col.
func v7Head(t *wkvTask, s []float32, _ bool, col, from, to int) {
	ld := t.in[0].Stride
	at := from*ld + col
	kernel.WKV7(t.y.Data[from*t.y.Stride+col:], t.y.Stride, s, t.in[0].Data[at:], t.in[3].Data[at:], t.in[1].Data[at:], t.in[2].Data[at:], t.in[4].Data[at:], t.in[5].Data[at:], ld, t.n, to-from)
}
