package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// V6Backward computes the gradients of V6 from that of its output, dy, before any HeadNorm: dr, dk and dv
// are written, all [R, H·N] as the operands are. dw is where the gradient of ln w is written if every row
// has decays of its own; nil, as it must be for a w of one row, is for decays that nobody trains or whose
// sums over the rows are left in g.LogDecay. The gradient of a ln w whose w is 0 is 0. Of g, LogDecay
// and Bonus have H·N numbers, or are nil if they aren't wanted.
//
// Nothing is stored of the forward pass: each head runs once more over the states between chunks, then
// back over the chunks as products of matrices.
func V6Backward(dr, dw, dk, dv, dy, r, w, k, v *tensor.Tensor, u []float32, heads int, spans []int, g *Gradients) {
	t := backwardTasks.Get()
	t.set("V6Backward", heads, dy, r, k, v)
	t.setOut("V6Backward", dy, dr, dk, dv)
	c := dy.Dim(1)
	t.setDecays("V6Backward", dy, w, u)
	if dw != nil {
		tensor.SameShape("V6Backward", w, dy, dw)
		t.out[3] = dw.Matrix()
	}
	t.head = v6HeadBackward
	t.logs = dw != nil || g.LogDecay != nil
	t.run(spans, g, v6Scalars*t.n)
	for part, to := range [...][]float64{g.LogDecay, g.Bonus} {
		if to == nil {
			continue
		}
		if len(to) != c {
			panic("wkv: V6Backward: sums " + task.FormatShape(len(to)) + " for rows of " + task.FormatShape(c))
		}
		for col := range to {
			h, j := col/t.n, col%t.n
			to[col] = 0
			for i := range len(spans) - 1 { // in order
				to[col] += t.scalars[((i*t.heads+h)*v6Scalars+part)*t.n+j]
			}
		}
	}
	t.put()
}

// v6Scalars is the float64 numbers of a piece by channel: gradients of ln w and of u, and the gradient of
// ln w at the row that is gone back over.
const v6Scalars = 3

// v6Backward is the work of one head, by the names of v6Chunk: A, r ⊙ P and k ⊙ Q are made again block by
// block, with the gradients beside them. Where two blocks meet,
//
//	A = (r ⊙ P)·(k ⊙ Q)ᵀ;  dr += P ⊙ (dA·(k ⊙ Q));  dk += Q ⊙ (dAᵀ·(r ⊙ P))     dA = dy·vᵀ
//
// and over the chunk
//
//	dr += P ⊙ (dy·S);  dk += Q ⊙ (v·dS');  dv = Aᵀ·dy + (k ⊙ Q)·dS'ᵀ
//	dS = dS'·diag(w_0 ⊙ … ⊙ w_{c−1}) + dyᵀ·(r ⊙ P)
//	d ln w_j = Σ_rows dS' ⊙ S' + Σ_{t>j} r_t ⊙ dr_t − Σ_{s≥j} k_s ⊙ dk_s
//
// without the terms of u, which come last.
type v6Backward struct {
	t              *backwardTask
	n, col         int
	states, ds     []float32 // ds is the gradient of the state after the chunk
	a, da          []float32 // [c, c]
	r, k, p, q     []float32 // [c, n]: r ⊙ P, k ⊙ Q, P, Q
	dr, dk, x      []float32 // [c, n]
	product        []float32 // [blocks, n], of the decays of a block
	d, y           []float32 // [n]
	log, bonus, at []float64 // [n]
}

// v6HeadBackward goes back over one head of one sequence.
func v6HeadBackward(t *backwardTask, buf *backwardBuffer, h, from, to int, initial, dinitial []float32, scalars []float64) {
	n, size := t.n, t.n*t.n
	if to == from {
		clear(dinitial)
		return
	}
	chunks := (to - from + wkvChunk - 1) / wkvChunk
	c := min(wkvChunk, to-from)
	blocks := (c + v6Block - 1) / v6Block
	buf.reserve((chunks+1)*size + 2*c*c + 7*c*n + (blocks+2)*n)
	b := v6Backward{t: t, n: n, col: h * n, states: buf.take(chunks * size), ds: buf.take(size),
		a: buf.take(c * c), da: buf.take(c * c),
		r: buf.take(c * n), k: buf.take(c * n), p: buf.take(c * n), q: buf.take(c * n),
		dr: buf.take(c * n), dk: buf.take(c * n), x: buf.take(c * n),
		product: buf.take(blocks * n), d: buf.take(n), y: buf.take(n),
		log: scalars[:n], bonus: scalars[n:][:n], at: scalars[2*n:][:n]}
	clear(b.states[:size]) // then those that chunks begin with
	copy(b.states, initial)
	for i := range chunks - 1 {
		b.advance(b.states[(i+1)*size:][:size], b.states[i*size:][:size], from+i*wkvChunk, wkvChunk)
	}
	clear(b.ds)
	for i := chunks - 1; i >= 0; i-- {
		var after []float32
		if i < chunks-1 {
			after = b.states[(i+1)*size:][:size]
		}
		at := from + i*wkvChunk
		b.chunk(b.states[i*size:][:size], after, at, min(at+wkvChunk, to)-at)
	}
	copy(dinitial, b.ds)
}

// rows returns the head's part of a matrix from a row on, and the distance of the rows.
func (b *v6Backward) rows(m *task.Matrix, row int) ([]float32, int) {
	return m.Data[row*m.Stride+b.col:], m.Stride
}

// advance computes the state after c rows: next = s·diag(w_0 ⊙ … ⊙ w_{c−1}) + vᵀ·(k ⊙ Q).
func (b *v6Backward) advance(next, s []float32, at, c int) {
	n := b.n
	product := b.product[:n]
	for j := range product {
		product[j] = 1
	}
	for i := c - 1; i >= 0; i-- {
		kernel.Mul(b.k[i*n:][:n], b.t.operand(1, at+i, b.col), product)
		kernel.Mul(product, product, b.t.operand(3, at+i, b.col))
	}
	for i := range n {
		kernel.Mul(next[i*n:][:n], s[i*n:][:n], product)
	}
	v, ldv := b.rows(&b.t.in[2], at)
	kernel.GemmTN(next, n, v, ldv, b.k, n, n, n, c, true)
}

// chunk goes back over c rows that begin with the state s. after is the state after them, nil if its
// gradient is zero.
func (b *v6Backward) chunk(s, after []float32, at, c int) {
	t, n := b.t, b.n
	v, ldv := b.rows(&t.in[2], at)
	dy, ldy := b.rows(&t.y, at)
	dv, ldDv := b.rows(&t.out[2], at)
	a, da := b.a[:c*c], b.da[:c*c]
	kernel.GemmNT(da, c, dy, ldy, v, ldv, c, c, n, false)
	clear(a)
	clear(b.dr[:c*n])
	clear(b.dk[:c*n])
	for i := 0; i < c; i += v6Block {
		b.corner(at, i, min(i+v6Block, c), c)
	}
	for size := v6Block; size < c; size *= 2 {
		for first := 0; first+size < c; first += 2 * size {
			b.join(first, first+size, min(first+2*size, c), c)
		}
	}

	kernel.GemmNN(b.x, n, dy, ldy, s, n, c, n, n, false)
	b.add(b.dr, b.p, 0, c)
	kernel.GemmTN(dv, ldDv, a, c, dy, ldy, c, n, c, false)
	clear(b.at)
	if after != nil {
		kernel.GemmNN(b.x, n, v, ldv, b.ds, n, c, n, n, false)
		b.add(b.dk, b.q, 0, c)
		kernel.GemmNT(dv, ldDv, b.k, n, b.ds, n, c, n, n, true)
		if t.logs {
			for i := range n {
				kernel.Mul(b.y, b.ds[i*n:][:n], after[i*n:][:n])
				for j, x := range b.y {
					b.at[j] += float64(x)
				}
			}
		}
	}
	for i := range n {
		kernel.Mul(b.ds[i*n:][:n], b.ds[i*n:][:n], b.product[:n])
	}
	kernel.GemmTN(b.ds, n, dy, ldy, b.r, n, n, n, c, true)
	for i := c - 1; i >= 0; i-- {
		b.finish(at, i, da[i*c+i])
	}
}

// corner makes what a block of rows from i to end of a chunk of c rows that begins at row at has alone.
func (b *v6Backward) corner(at, first, end, c int) {
	t, n, col := b.t, b.n, b.col
	u := t.bonus[col:][:n]
	for i := first; i < end; i++ {
		rp, p, dr := b.r[i*n:][:n], b.p[i*n:][:n], b.dr[i*n:][:n]
		r := t.operand(0, at+i, col)
		kernel.Mul(rp, r, u)
		b.a[i*c+i] = kernel.Dot(rp, t.operand(1, at+i, col))
		copy(rp, r)
		for j := range p {
			p[j] = 1
		}
		for j := i - 1; j >= first; j-- {
			k, w, d := t.operand(1, at+j, col), t.operand(3, at+j, col), b.da[i*c+j]
			b.a[i*c+j] = kernel.Dot(rp, k)
			kernel.Mul(b.d, p, k)
			kernel.Axpy(dr, d, b.d)
			kernel.Axpy(b.dk[j*n:][:n], d, rp)
			kernel.Mul(rp, rp, w)
			kernel.Mul(p, p, w)
		}
	}
	product := b.product[first/v6Block*n:][:n]
	for j := range product {
		product[j] = 1
	}
	for i := end - 1; i >= first; i-- {
		copy(b.q[i*n:][:n], product)
		kernel.Mul(b.k[i*n:][:n], t.operand(1, at+i, col), product)
		kernel.Mul(product, product, t.operand(3, at+i, col))
	}
}

// join makes one block of two neighbours, rows first to mid and mid to end of a chunk of c rows.
func (b *v6Backward) join(first, mid, end, c int) {
	n, early, late := b.n, mid-first, end-mid
	da := b.da[mid*c+first:]
	kernel.GemmNT(b.a[mid*c+first:], c, b.r[mid*n:], n, b.k[first*n:], n, late, early, n, false)
	kernel.GemmNN(b.x, n, da, c, b.k[first*n:], n, late, n, early, false)
	b.add(b.dr, b.p, mid, end)
	kernel.GemmTN(b.x, n, da, c, b.r[mid*n:], n, early, n, late, false)
	b.add(b.dk, b.q, first, mid)
	before, after := b.product[first/v6Block*n:][:n], b.product[mid/v6Block*n:][:n]
	for i := mid; i < end; i++ {
		kernel.Mul(b.r[i*n:][:n], b.r[i*n:][:n], before)
		kernel.Mul(b.p[i*n:][:n], b.p[i*n:][:n], before)
	}
	for i := first; i < mid; i++ {
		kernel.Mul(b.k[i*n:][:n], b.k[i*n:][:n], after)
		kernel.Mul(b.q[i*n:][:n], b.q[i*n:][:n], after)
	}
	kernel.Mul(before, before, after)
}

// add adds factor ⊙ x to rows from to to of d, where x begins at the first of them and is used up.
func (b *v6Backward) add(d, factor []float32, from, to int) {
	x, size := b.x[:(to-from)*b.n], (to-from)*b.n
	kernel.Mul(x, x, factor[from*b.n:][:size])
	kernel.Add(d[from*b.n:][:size], d[from*b.n:][:size], x)
}

// finish writes the gradients of row i of a chunk that begins at row at, the rows after it being done;
// now is that of its own product with its own key.
func (b *v6Backward) finish(at, i int, now float32) {
	t, n, col := b.t, b.n, b.col
	u := t.bonus[col:][:n]
	r, k, w := t.operand(0, at+i, col), t.operand(1, at+i, col), t.operand(3, at+i, col)
	dr, dk := b.dr[i*n:][:n], b.dk[i*n:][:n]
	if t.logs {
		dw := b.y
		for j := range n {
			b.at[j] -= float64(k[j]) * float64(dk[j])
			x := b.at[j]
			if w[j] == 0 { // what is left of the sum is its rounding
				x = 0
			}
			dw[j] = float32(x)
			b.log[j] += x
			b.at[j] += float64(r[j]) * float64(dr[j])
		}
		if t.out[3].Data != nil {
			to, _ := b.rows(&t.out[3], at+i)
			copy(to[:n], dw)
		}
	}
	for j := range n {
		b.bonus[j] += float64(now) * float64(r[j]) * float64(k[j])
	}
	toR, _ := b.rows(&t.out[0], at+i)
	kernel.Mul(b.d, u, k)
	kernel.Axpy(dr, now, b.d)
	copy(toR[:n], dr)
	toK, _ := b.rows(&t.out[1], at+i)
	kernel.Mul(b.d, u, r)
	kernel.Axpy(dk, now, b.d)
	copy(toK[:n], dk)
}

// DecayBackward turns d, the gradient of ln w of decays w = exp(−s) with s = exp(x), into that of x, all
// [R, n]: d ← −s ⊙ d. It adds the sums over the rows to dbias [n] unless that is nil. Where d is 0, s may be Inf.
func DecayBackward(d, s, dbias *tensor.Tensor) {
	tensor.SameShape("DecayBackward", d, s)
	t := task.Sums{Op: func(t *task.Sums, r int, sums, _ []float32) {
		d, s := t.Out[0].Row(r), t.In[0].Row(r)
		for i, x := range d {
			if x != 0 {
				d[i] = -x * s[i]
			}
		}
		if t.Sum[0] != nil {
			kernel.Add(sums, sums, d)
		}
	}, N: d.Dim(-1)}
	t.In[0], t.Out[0] = s.Matrix(), d.Matrix()
	t.Sum[0] = tensor.Vector("DecayBackward", dbias, d.Dim(-1))
	task.OverRowSums(&t)
}
