package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
)

// V7Backward computes the gradients of V7 from that of its output, dy: dr, dk, dv, da and db are
// written, and in dw that of ln w, all [R, H·N] as the operands are. Of g only the states are used.
// Nothing is stored of the forward pass: each head runs once more over the states between chunks, then
// back over the chunks as products of matrices.
func V7Backward(dr, dw, dk, dv, da, db, dy, r, w, k, v, a, b *tensor.Tensor, heads int, spans []int, g *Gradients) {
	t := backwardTasks.Get()
	t.set("V7Backward", heads, dy, r, k, v, w, a, b)
	t.setOut("V7Backward", dy, dr, dk, dv, dw, da, db)
	for _, m := range t.out {
		if m.Stride != t.out[0].Stride {
			panic("wkv: V7Backward: gradients at different row distances")
		}
	}
	t.head = v7HeadBackward
	t.run(spans, g, 0)
	t.put()
}

// v7Chunk is the rows of a chunk. Decays are at least exp(−e^−½) = 0.545 a row, so that what is
// divided by their product grows at most by 2·10⁴ and loses no digits.
const v7Chunk = 16

// v7Backward is the work of one head. In a chunk that begins with the state S, with P_t the product
// of the decays w_1 … w_t,
//
//	r̃_t = P_t r_t;  ã_t = −P_{t−1} a_t;  k̃_t = k_t/P_t;  b̃_t = b_t/P_t
//	z = ã·Sᵀ + tril₋₁(ã·k̃ᵀ)·v + tril₋₁(ã·b̃ᵀ)·z         row t is −S_{t−1}·a_t
//	y = r̃·Sᵀ + tril(r̃·k̃ᵀ)·v + tril(r̃·b̃ᵀ)·z
//	S' = (S + vᵀ·k̃ + zᵀ·b̃)·diag(P)
//
// where tril₋₁ is what lies below the diagonal. r̃ and ã are one matrix, and so are k̃ and b̃, v and z: then M
// is tril and tril₋₁ of all their products at once, and y and what z is made of are
//
//	[r̃; ã]·Sᵀ + M·[v; z]
type v7Backward struct {
	n           int
	states, ds  []float32 // what chunks begin with; the gradient of the state after a chunk, then of that before
	chunks      []float32 // kept of each chunk, see at
	kept        int       // numbers of a chunk
	chunk       *kernel.Chunk7
	vz, m       []float32 // [2c, n]; M [2c, 2c]
	mask        []float32 // [2c, 2c], 1 where M isn't 0
	dm          []float32 // [2c, 2c], the gradient of M
	dyx, dvx    []float32 // [2c, n], dy and the gradient x of what z is made of; dv and x
	planes      []float32 // [4c, n], gradients of r̃, ã, k̃ and b̃
	turned      []float32 // [n, 2c]
	st          []float32 // [n, n]
	log         []float32 // [n], gradient of ln P at the last row
	rows        int
	masked      int  // the rows that the mask is for
	firstIsZero bool // the first chunk begins with zeros
}

// at makes chunk i, of so many rows, the present one.
func (p *v7Backward) at(i, rows int) {
	kept, n := p.chunks[i*p.kept:][:p.kept], p.n
	take := func(size int) []float32 {
		s := kept[:size]
		kept = kept[size:]
		return s
	}
	p.rows = rows
	p.chunk.Rows, p.chunk.N = rows, n
	p.chunk.Pow, p.chunk.Planes = take((rows+1)*n), take(4*rows*n)
	p.vz, p.m = take(2*rows*n), take(4*rows*rows)
	if rows != p.masked {
		p.setMask()
	}
}

// ra and kb are [r̃; ã] and [k̃; b̃].
func (p *v7Backward) ra() []float32 { return p.chunk.Planes[:2*p.rows*p.n] }
func (p *v7Backward) kb() []float32 { return p.chunk.Planes[2*p.rows*p.n:] }

// state is what chunk i begins with, nil for zeros.
func (p *v7Backward) state(i int) []float32 {
	if i == 0 && p.firstIsZero {
		return nil
	}
	size := p.n * p.n
	return p.states[i*size:][:size]
}

var chunks7 = freelist.New[kernel.Chunk7]()

// v7HeadBackward goes back over one head of one sequence.
func v7HeadBackward(t *backwardTask, buf *backwardBuffer, h, from, to int, initial, dinitial []float32, _ []float64) {
	n, size, c := t.n, t.n*t.n, min(v7Chunk, to-from)
	if c == 0 {
		clear(dinitial)
		return
	}
	chunks := (to - from + c - 1) / c
	kept := (c+1)*n + 6*c*n + 4*c*c
	buf.reserve(chunks*(size+kept) + 2*size + 8*c*c + 10*c*n + n)
	p := v7Backward{n: n, states: buf.take(chunks * size), ds: buf.take(size), chunks: buf.take(chunks * kept), kept: kept, chunk: chunks7.Get(),
		mask: buf.take(4 * c * c), dm: buf.take(4 * c * c), dyx: buf.take(2 * c * n), dvx: buf.take(2 * c * n),
		planes: buf.take(4 * c * n), turned: buf.take(2 * n * c), st: buf.take(size), log: buf.take(n), firstIsZero: initial == nil}
	copy(p.states, initial)
	for i := range chunks {
		at := from + i*c
		p.at(i, min(c, to-at))
		p.forward(t, i, h*n, at, i+1 < chunks)
	}
	clear(p.ds)
	for i := chunks - 1; i >= 0; i-- {
		at := from + i*c
		p.at(i, min(c, to-at))
		p.back(t, i, h*n, at, i+1 < chunks, i > 0 || dinitial != nil)
	}
	copy(dinitial, p.ds)
	*p.chunk = kernel.Chunk7{}
	chunks7.Put(p.chunk)
}

// setMask makes the mask of M for so many rows: the diagonal and what is below it for r̃, what is below for ã.
func (p *v7Backward) setMask() {
	c := p.rows
	p.masked = c
	clear(p.mask[:4*c*c])
	for i := range c {
		for _, half := range [...]int{0, c} {
			now, before := p.mask[2*c*i+half:], p.mask[2*c*(c+i)+half:]
			for j := range i + 1 {
				now[j] = 1
			}
			for j := range i {
				before[j] = 1
			}
		}
	}
}

// forward makes what is kept of chunk i, whose first row is at, and the state after it if that is wanted.
func (p *v7Backward) forward(t *backwardTask, i, col, at int, after bool) {
	n, c, ld := p.n, p.rows, t.in[0].Stride
	in := func(j int) []float32 { return t.in[j].Data[at*ld+col:] }
	p.chunk.Prepare(in(0), in(3), in(1), in(4), in(5), ld)
	kernel.Transpose(p.turned, 2*c, p.kb(), n, 2*c, n)
	kernel.GemmNN(p.m, 2*c, p.ra(), n, p.turned, 2*c, 2*c, 2*c, n, false)
	kernel.Mul(p.m, p.m, p.mask[:4*c*c])

	v, z := p.vz[:c*n], p.vz[c*n:]
	for j := range c {
		copy(v[j*n:][:n], in(2)[j*ld:])
	}
	s := p.state(i)
	if s != nil {
		kernel.Transpose(p.st, n, s, n, n, n)
		kernel.GemmNN(z, n, p.ra()[c*n:], n, p.st, n, c, n, n, false)
	}
	kernel.GemmNN(z, n, p.m[2*c*c:], 2*c, v, n, c, n, c, s != nil)
	kernel.Solve7(z, p.m[2*c*c+c:], 2*c, c, n, false)
	if !after {
		return
	}
	next := p.states[(i+1)*n*n:][:n*n]
	if s != nil {
		copy(next, s)
	}
	kernel.GemmTN(next, n, p.vz, n, p.kb(), n, n, n, 2*c, s != nil)
	last := p.chunk.Pow[c*n:][:n]
	for j := 0; j < n*n; j += n {
		kernel.Mul(next[j:][:n], next[j:][:n], last)
	}
}

// back goes back over chunk i: p.ds is the gradient of the state after it, zero unless after is set, then of that
// before if that is wanted.
//
//	[dv; x] = [k̃; b̃]·dsᵀ + Mᵀ·[dy; x]       with ds = dS'·diag(P) and x the gradient of what z is made of
//	dM = [dy; x]·[v; z]ᵀ below the diagonals
//	d[r̃; ã] = [dy; x]·S + dM·[k̃; b̃];   d[k̃; b̃] = [v; z]·ds + dMᵀ·[r̃; ã];   dS = ds + [dy; x]ᵀ·[r̃; ã]
func (p *v7Backward) back(t *backwardTask, i, col, at int, after, before bool) {
	n, c := p.n, p.rows
	dy, ldy := t.y.Data[at*t.y.Stride+col:], t.y.Stride
	s := p.state(i)
	clear(p.log)
	if after { // and by the state after it the gradient of ln P
		kernel.Decay7(p.ds, p.state(i+1), p.chunk.Pow[c*n:][:n], p.log)
		kernel.Transpose(p.st, n, p.ds, n, n, n)
		kernel.GemmNN(p.dvx, n, p.kb(), n, p.st, n, 2*c, n, n, false)
	}
	kernel.GemmTN(p.dvx, n, p.m, 2*c, dy, ldy, 2*c, n, c, after)
	x := p.dvx[c*n:][:c*n]
	kernel.Solve7(x, p.m[2*c*c+c:], 2*c, c, n, true)
	kernel.GemmTN(p.dvx, n, p.m[2*c*c:], 2*c, x, n, c, n, c, true)
	dv := &t.out[2]
	for j := range c {
		copy(p.dyx[j*n:][:n], dy[j*ldy:])
		copy(dv.Data[(at+j)*dv.Stride+col:][:n], p.dvx[j*n:])
	}
	copy(p.dyx[c*n:], x)

	kernel.Transpose(p.turned, 2*c, p.vz, n, 2*c, n)
	kernel.GemmNN(p.dm, 2*c, p.dyx, n, p.turned, 2*c, 2*c, 2*c, n, false)
	kernel.Mul(p.dm[:4*c*c], p.dm[:4*c*c], p.mask[:4*c*c])
	dra, dkb := p.planes[:2*c*n], p.planes[2*c*n:][:2*c*n]
	if s != nil {
		kernel.GemmNN(dra, n, p.dyx, n, s, n, 2*c, n, n, false)
	}
	kernel.GemmNN(dra, n, p.dm, 2*c, p.kb(), n, 2*c, n, 2*c, s != nil)
	if after {
		kernel.GemmNN(dkb, n, p.vz, n, p.ds, n, 2*c, n, n, false)
	}
	kernel.GemmTN(dkb, n, p.dm, 2*c, p.ra(), n, 2*c, n, 2*c, after)
	if before {
		kernel.GemmTN(p.ds, n, p.dyx, n, p.ra(), n, n, n, 2*c, after)
	}
	ld := dv.Stride
	out := func(j int) []float32 { return t.out[j].Data[at*ld+col:] }
	p.chunk.Finish(out(0), out(3), out(1), out(4), out(5), p.planes[:4*c*n], p.log, ld)
}
