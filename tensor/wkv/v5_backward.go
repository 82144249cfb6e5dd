package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Gradients are where a recurrence's backward pass leaves the gradients of what isn't a row of its
// operands.
type Gradients struct {
	LogDecay []float64 // [H], written by V5Backward: of ln w; see V6Backward for its own
	Bonus    []float64 // [H], written by V5Backward: of u

	// Initial gives the state that sequence i begins with, nil for zeros; DInitial where its gradient
	// is written, both [H, N, N]. A nil function stands for nil everywhere.
	Initial, DInitial func(i int) []float32
}

// V5Backward computes the gradients of V5 from that of its output, dy, before any HeadNorm: dr, dk and
// dv are written, all [R, H·N] as the operands are. Nothing is stored of the forward pass: each head
// runs once more over the states between chunks, then back over the chunks as products of matrices.
func V5Backward(dr, dk, dv, dy, r, k, v *tensor.Tensor, w, u []float32, spans []int, g *Gradients) {
	t := backwardTasks.Get()
	t.set("V5Backward", len(w), dy, r, k, v)
	t.setOut("V5Backward", dy, dr, dk, dv)
	t.decay, t.bonus, t.head = w, u, v5HeadBackward
	t.run(spans, g, 2)
	for h := range w {
		g.LogDecay[h], g.Bonus[h] = 0, 0
		for i := range len(spans) - 1 { // in order
			g.LogDecay[h] += t.scalars[2*(i*t.heads+h)]
			g.Bonus[h] += t.scalars[2*(i*t.heads+h)+1]
		}
	}
	t.put()
}

var backwardTasks = freelist.New[backwardTask]()

// backwardTask is the heads of a batch of sequences; a piece is one head of one sequence.
type backwardTask struct {
	wkvTask
	head    func(t *backwardTask, buf *backwardBuffer, h, from, to int, initial, dinitial []float32, scalars []float64)
	out     [6]task.Matrix
	dstates [][]float32
	scalars []float64 // each of them for each piece
	each    int
	logs    bool // V6Backward: the gradients of ln w are wanted
}

// setOut takes what is written, of the shape of like.
func (t *backwardTask) setOut(op string, like *tensor.Tensor, out ...*tensor.Tensor) {
	for i, x := range out {
		tensor.SameShape(op, like, x)
		t.out[i] = x.Matrix()
	}
}

// run goes back over all heads of the sequences, with so many scalars for each piece.
func (t *backwardTask) run(spans []int, g *Gradients, each int) {
	t.spans = append(t.spans[:0], spans...)
	t.states, t.dstates = t.states[:0], t.dstates[:0]
	for i := range len(spans) - 1 {
		var s, d []float32
		if g.Initial != nil {
			s = g.Initial(i)
		}
		if g.DInitial != nil {
			d = g.DInitial(i)
		}
		t.states, t.dstates = append(t.states, s), append(t.dstates, d)
	}
	pieces := len(t.states) * t.heads
	t.each = each
	if cap(t.scalars) < each*pieces {
		t.scalars = make([]float64, each*pieces)
	}
	t.scalars = t.scalars[:each*pieces]
	task.Spread(pieces, 16*spans[len(spans)-1]*t.heads*t.n*t.n, t)
}

// put keeps the task, without what it was about.
func (t *backwardTask) put() {
	clear(t.states)
	clear(t.dstates)
	t.decay, t.bonus, t.y, t.in, t.out, t.logs = nil, nil, task.Matrix{}, [6]task.Matrix{}, [6]task.Matrix{}, false
	backwardTasks.Put(t)
}

// Run computes one head of one sequence.
func (t *backwardTask) Run(piece int) {
	seq, h := piece/t.heads, piece%t.heads
	size := t.n * t.n
	var initial, dinitial []float32
	if s := t.states[seq]; s != nil {
		initial = s[h*size:][:size]
	}
	if d := t.dstates[seq]; d != nil {
		dinitial = d[h*size:][:size]
	}
	scalars := t.scalars[t.each*piece:][:t.each]
	clear(scalars)
	buf := backwardBuffers.Get()
	buf.used = 0
	t.head(t, buf, h, t.spans[seq], t.spans[seq+1], initial, dinitial, scalars)
	backwardBuffers.Put(buf)
}

// backwardBuffer is the scratch of one piece, handed out from its start.
type backwardBuffer struct {
	data []float32
	used int
}

var backwardBuffers = freelist.New[backwardBuffer]()

// reserve makes room for n numbers. It must come before any take.
func (b *backwardBuffer) reserve(n int) { b.data = freelist.Grown(b.data, n) }

// take returns n numbers of any content.
func (b *backwardBuffer) take(n int) []float32 {
	s := b.data[b.used:][:n:n]
	b.used += n
	return s
}

// v5HeadBackward is the backward pass of v5Head.
func v5HeadBackward(t *backwardTask, buf *backwardBuffer, h, from, to int, initial, dinitial []float32, scalars []float64) {
	n, size := t.n, t.n*t.n
	if to == from {
		clear(dinitial)
		return
	}
	chunks := (to - from + wkvChunk - 1) / wkvChunk
	c := min(wkvChunk, to-from)
	buf.reserve(chunks*size + 2*size + 3*c*c + 3*c*n + 5*(c+1))
	b := v5Backward{t: t, h: h, states: buf.take(chunks * size), ds: buf.take(size), st: buf.take(size),
		a: buf.take(c * c), p: buf.take(c * c), da: buf.take(c * c),
		x1: buf.take(c * n), x2: buf.take(c * n), x3: buf.take(n * c),
		pow: buf.take(c + 1), left: buf.take(2*c + 1), ages: buf.take(2*c + 1)}
	p := 1.0
	clear(b.left)
	clear(b.ages)
	for i := range b.pow {
		b.pow[i], b.left[c-i], b.ages[i] = float32(p), float32(p), float32(c-i)
		p *= float64(t.decay[h])
	}
	b.most = c

	// The states that chunks begin with; nil stands for zeros.
	hasState := initial != nil
	for i := range chunks - 1 {
		s, next := b.states[i*size:][:size], b.states[(i+1)*size:][:size]
		if i == 0 {
			clear(s)
			copy(s, initial)
		}
		b.advance(next, s, from+i*wkvChunk, wkvChunk)
	}
	if chunks == 1 && hasState {
		copy(b.states, initial)
	}
	clear(b.ds)
	for i := chunks - 1; i >= 0; i-- {
		var s []float32
		if i > 0 || hasState {
			s = b.states[i*size:][:size]
		}
		at := from + i*wkvChunk
		b.chunk(s, at, min(at+wkvChunk, to)-at, i < chunks-1, i > 0 || dinitial != nil, scalars)
	}
	copy(dinitial, b.ds)
}

// v5Backward is the work of one head.
type v5Backward struct {
	t          *backwardTask
	h          int
	states, ds []float32 // ds is the gradient of the state after the chunk
	st         []float32 // [n, n]
	a, p, da   []float32 // [c, c]
	x1, x2, x3 []float32 // [c, n]
	most       int       // rows of the longest chunk, c
	pow, left  []float32 // w⁰ … w^c, and w^c … w⁰ 0 … 0
	ages       []float32 // c … 0 0 … 0
}

// operand returns the head's part of a matrix from a row on, and the distance of the rows.
func (b *v5Backward) operand(m *task.Matrix, row int) ([]float32, int) {
	return m.Data[row*m.Stride+b.h*b.t.n:], m.Stride
}

// advance computes the state after c rows: next = w^c·s + (w^{c−1−i} k_i)ᵀ·v.
func (b *v5Backward) advance(next, s []float32, at, c int) {
	n := b.t.n
	k, ld := b.operand(&b.t.in[1], at)
	v, ldv := b.operand(&b.t.in[2], at)
	kernel.Transpose(b.x3, c, k, ld, c, n)
	for i := range n {
		kernel.Mul(b.x3[i*c:][:c], b.x3[i*c:][:c], b.left[b.most+1-c:][:c])
	}
	kernel.Scale(next, b.pow[c], s)
	kernel.GemmNN(next, n, b.x3, c, v, ldv, n, n, c, true)
}

// chunk goes back over c rows that begin with the state s, see v5Chunk for its names:
//
//	dA = (dy·vᵀ) ⊙ D;  dr = dA·k + w^t dy·Sᵀ;  dk = dAᵀ·r + w^{c−1−s} v·dS'ᵀ
//	dv = (A ⊙ D)ᵀ·dy + w^{c−1−s} k·dS';  dS = w^c dS' + (w^t r)ᵀ·dy
//
// after says whether dS' isn't zero, before whether dS is wanted.
func (b *v5Backward) chunk(s []float32, at, c int, after, before bool, scalars []float64) {
	t, n := b.t, b.t.n
	u := t.bonus[b.h]
	r, ldr := b.operand(&t.in[0], at)
	k, ldk := b.operand(&t.in[1], at)
	v, ldv := b.operand(&t.in[2], at)
	dy, ldy := b.operand(&t.y, at)
	dr, ldDr := b.operand(&t.out[0], at)
	dk, ldDk := b.operand(&t.out[1], at)
	dv, ldDv := b.operand(&t.out[2], at)
	pow := b.pow

	a, p, da := b.a[:c*c], b.p[:c*c], b.da[:c*c]
	kernel.Transpose(b.x3, c, k, ldk, c, n)
	kernel.GemmNN(a, c, r, ldr, b.x3, c, c, c, n, false)
	kernel.Transpose(b.x3, c, v, ldv, c, n)
	kernel.GemmNN(da, c, dy, ldy, b.x3, c, c, c, n, false)
	var logDecay, bonus float64
	for i := range c {
		ai, pi, di := a[i*c:][:c], p[i*c:][:c], da[i*c:][:c]
		now, dNow := ai[i], di[i]
		d := b.left[b.most+1-i:][:c] // w^{i−1} … w⁰ 0 … 0
		kernel.Mul(di, di, d)
		kernel.Mul(pi, ai, d)
		kernel.Mul(ai, ai, di)                                       // of which the decays' gradient is made
		logDecay += float64(kernel.Dot(ai, b.ages[b.most+1-i:][:c])) // Σ_j (i−1−j)
		bonus += float64(now) * float64(dNow)
		pi[i], di[i] = now*u, dNow*u
	}
	kernel.GemmNN(dr, ldDr, da, c, k, ldk, c, n, c, false)
	kernel.GemmTN(dk, ldDk, da, c, r, ldr, c, n, c, false)
	kernel.GemmTN(dv, ldDv, p, c, dy, ldy, c, n, c, false)

	if s != nil { // what the state before gave
		kernel.Transpose(b.st, n, s, n, n, n)
		kernel.GemmNN(b.x1, n, dy, ldy, b.st, n, c, n, n, false)
		for i := range c {
			x := b.x1[i*n:][:n]
			logDecay += float64(i) * float64(pow[i]) * float64(kernel.Dot(x, r[i*ldr:][:n]))
			kernel.Axpy(dr[i*ldDr:][:n], pow[i], x)
		}
	}
	if after { // what the state after got
		kernel.GemmNN(b.x1, n, k, ldk, b.ds, n, c, n, n, false)
		kernel.Transpose(b.st, n, b.ds, n, n, n)
		kernel.GemmNN(b.x2, n, v, ldv, b.st, n, c, n, n, false)
		for i := range c {
			d, x := pow[c-1-i], b.x2[i*n:][:n]
			logDecay += float64(c-1-i) * float64(d) * float64(kernel.Dot(x, k[i*ldk:][:n]))
			kernel.Axpy(dk[i*ldDk:][:n], d, x)
			kernel.Axpy(dv[i*ldDv:][:n], d, b.x1[i*n:][:n])
		}
		if s != nil {
			logDecay += float64(c) * float64(pow[c]) * float64(kernel.Dot(s, b.ds))
		}
	}
	if before {
		kernel.Transpose(b.x3, c, r, ldr, c, n)
		for i := range n {
			kernel.Mul(b.x3[i*c:][:c], b.x3[i*c:][:c], pow[:c])
		}
		kernel.Scale(b.ds, pow[c], b.ds)
		kernel.GemmNN(b.ds, n, b.x3, c, dy, ldy, n, n, c, true)
	}
	scalars[0] += logDecay
	scalars[1] += bonus
}
