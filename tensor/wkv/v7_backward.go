package wkv

import (
	"microrwkv/tensor"
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
//	r̃_t = P_t r_t;  ã_t = P_{t−1} a_t;  k̃_t = k_t/P_t;  b̃_t = b_t/P_t
//	SA = ã·Sᵀ + tril₋₁(ã·k̃ᵀ)·v − tril₋₁(ã·b̃ᵀ)·SA         row t is S_{t−1}·a_t
//	y = r̃·Sᵀ + tril(r̃·k̃ᵀ)·v − tril(r̃·b̃ᵀ)·SA
//	S' = (S + vᵀ·k̃ − SAᵀ·b̃)·diag(P)
//
// where tril₋₁ is what lies below the diagonal.
type v7Backward struct {
	n                    int
	states, s, ds, y     []float32 // s = S + vᵀk̃ − SAᵀb̃, ds is its gradient
	pow                  []float32 // [c+1, n], P_0 … P_c
	r, a, k, b, v, sa, x []float32 // [c, n]
	dr, da, dk, db       []float32 // [c, n]
	tr                   []float32 // [n, c]
	st                   []float32 // [n, n]
	pair, turned         []float32 // [2c, 2c] and [n, 2c]
	ak, ab, rk, rb, m1   []float32 // [c, c]
	log                  []float32 // [n], gradient of ln P at the rows after
}

// v7HeadBackward goes back over one head of one sequence.
func v7HeadBackward(t *backwardTask, buf *backwardBuffer, h, from, to int, initial, dinitial []float32, _ []float64) {
	n, size, c := t.n, t.n*t.n, v7Chunk
	chunks := (to - from + c - 1) / c
	buf.reserve((chunks+3)*size + (c+1)*n + 15*c*n + 9*c*c + 2*n)
	p := v7Backward{n: n, states: buf.take(chunks * size), s: buf.take(size), ds: buf.take(size), y: buf.take(c * n),
		pow: buf.take((c + 1) * n), r: buf.take(c * n), a: buf.take(c * n), st: buf.take(size), pair: buf.take(4 * c * c), turned: buf.take(2 * n * c), k: buf.take(c * n), b: buf.take(c * n), v: buf.take(c * n), sa: buf.take(c * n), x: buf.take(c * n),
		dr: buf.take(c * n), da: buf.take(c * n), dk: buf.take(c * n), db: buf.take(c * n), tr: buf.take(n * c),
		ak: buf.take(c * c), ab: buf.take(c * c), rk: buf.take(c * c), rb: buf.take(c * c), m1: buf.take(c * c),
		log: buf.take(n)}
	ld, col := t.in[0].Stride, h*n
	for i := range chunks { // the states that chunks begin with
		s := p.states[i*size:][:size]
		if i == 0 {
			clear(s)
			copy(s, initial)
			continue
		}
		copy(s, p.states[(i-1)*size:])
		at := (from+(i-1)*c)*ld + col
		kernel.WKV7(p.y, n, s, t.in[0].Data[at:], t.in[3].Data[at:], t.in[1].Data[at:], t.in[2].Data[at:], t.in[4].Data[at:], t.in[5].Data[at:], ld, n, c)
	}
	clear(p.ds)
	for i := chunks - 1; i >= 0; i-- {
		at := from + i*c
		p.chunk(t, p.states[i*size:][:size], col, at, min(at+c, to)-at)
	}
	copy(dinitial, p.ds)
}

// chunk goes back over c rows. p.ds is the gradient of the state after them, then of that before.
func (p *v7Backward) chunk(t *backwardTask, s0 []float32, col, at, c int) {
	n, ld := p.n, t.in[0].Stride
	row := func(i, j int) []float32 { return t.in[i].Data[(at+j)*ld+col:][:n] }
	for j := range n {
		p.pow[j] = 1
	}
	for i := range c {
		before, pow := p.pow[i*n:][:n], p.pow[(i+1)*n:][:n]
		kernel.Mul(pow, before, row(3, i))
		kernel.Mul(p.r[i*n:][:n], row(0, i), pow)
		kernel.Mul(p.a[i*n:][:n], row(4, i), before)
		k, b, kt, bt := row(1, i), row(5, i), p.k[i*n:][:n], p.b[i*n:][:n]
		for j, x := range pow {
			inv := 1 / x
			kt[j], bt[j] = k[j]*inv, b[j]*inv
		}
		copy(p.v[i*n:][:n], row(2, i))
	}
	dy, ldy := t.y.Data[at*t.y.Stride+col:], t.y.Stride

	// The forward pass: SA, and s before the last decays.
	p.products(p.r, n, p.a, n, p.k, p.b, c)
	kernel.Transpose(p.st, n, s0, n, n, n)
	kernel.GemmNN(p.sa, n, p.a, n, p.st, n, c, n, n, false)
	kernel.GemmNN(p.sa, n, p.ak, c, p.v, n, c, n, c, true)
	for i := range c {
		for j := range i {
			kernel.Axpy(p.sa[i*n:][:n], -p.ab[i*c+j], p.sa[j*n:][:n])
		}
	}
	copy(p.s, s0)
	kernel.Transpose(p.tr, c, p.v, n, c, n)
	kernel.GemmNN(p.s, n, p.tr, c, p.k, n, n, n, c, true)
	kernel.Transpose(p.tr, c, p.sa, n, c, n)
	kernel.Scale(p.tr[:n*c], -1, p.tr[:n*c])
	kernel.GemmNN(p.s, n, p.tr, c, p.b, n, n, n, c, true)

	// The gradient of s, and of ln P_c by it.
	last := p.pow[c*n:][:n]
	clear(p.log)
	for i := range n {
		ds, s := p.ds[i*n:][:n], p.s[i*n:][:n]
		kernel.Mul(ds, ds, last)
		for j, d := range ds {
			p.log[j] += d * s[j]
		}
	}

	// dv = tril(r̃k̃ᵀ)ᵀ·dy + k̃·dsᵀ + tril₋₁(ãk̃ᵀ)ᵀ·x and x = (1 + tril₋₁(ãb̃ᵀ))⁻ᵀ·(−tril(r̃b̃ᵀ)ᵀ·dy − b̃·dsᵀ)
	dv, ldv := t.out[2].Data[at*t.out[2].Stride+col:], t.out[2].Stride
	kernel.Transpose(p.m1, c, p.rk, c, c, c)
	kernel.GemmNN(dv, ldv, p.m1, c, dy, ldy, c, n, c, false)
	kernel.Transpose(p.st, n, p.ds, n, n, n)
	kernel.GemmNN(dv, ldv, p.k, n, p.st, n, c, n, n, true)
	kernel.Transpose(p.m1, c, p.rb, c, c, c)
	kernel.GemmNN(p.x, n, p.m1, c, dy, ldy, c, n, c, false)
	kernel.GemmNN(p.x, n, p.b, n, p.st, n, c, n, n, true)
	kernel.Scale(p.x[:c*n], -1, p.x[:c*n])
	for i := c - 1; i >= 0; i-- {
		for j := i + 1; j < c; j++ {
			kernel.Axpy(p.x[i*n:][:n], -p.ab[j*c+i], p.x[j*n:][:n])
		}
	}
	kernel.Transpose(p.m1, c, p.ak, c, c, c)
	kernel.GemmNN(dv, ldv, p.m1, c, p.x, n, c, n, c, true)

	// From here p.sa is −SA, and p.rk, p.rb, p.ak, p.ab are the gradients of those products.
	kernel.Scale(p.sa[:c*n], -1, p.sa[:c*n])
	p.products(dy, ldy, p.x, n, p.v, p.sa, c)
	nn := func(dst, x []float32, ldx int, y []float32, k int, add bool) {
		kernel.GemmNN(dst, n, x, ldx, y, n, c, n, k, add)
	}
	nn(p.dr, dy, ldy, s0, n, false)
	nn(p.dr, p.rk, c, p.k, c, true)
	nn(p.dr, p.rb, c, p.b, c, true)
	nn(p.da, p.x, n, s0, n, false)
	nn(p.da, p.ak, c, p.k, c, true)
	nn(p.da, p.ab, c, p.b, c, true)
	nn(p.dk, p.v, n, p.ds, n, false)
	nn(p.db, p.sa, n, p.ds, n, false)
	for _, m := range [...]struct{ dst, m, x []float32 }{{p.dk, p.rk, p.r}, {p.dk, p.ak, p.a}, {p.db, p.rb, p.r}, {p.db, p.ab, p.a}} {
		kernel.Transpose(p.m1, c, m.m, c, c, c)
		nn(m.dst, p.m1, c, m.x, c, true)
	}

	// dS = ds + dyᵀ·r̃ + xᵀ·ã
	kernel.Transpose(p.tr, c, dy, ldy, c, n)
	kernel.GemmNN(p.ds, n, p.tr, c, p.r, n, n, n, c, true)
	kernel.Transpose(p.tr, c, p.x, n, c, n)
	kernel.GemmNN(p.ds, n, p.tr, c, p.a, n, n, n, c, true)

	// Back to the operands: d ln w_t is the sum of d ln P from t on.
	for i := c - 1; i >= 0; i-- {
		before, pow := p.pow[i*n:][:n], p.pow[(i+1)*n:][:n]
		out := func(j int) []float32 { return t.out[j].Data[(at+i)*t.out[j].Stride+col:][:n] }
		dr, dk, dw, da, db := out(0), out(1), out(3), out(4), out(5)
		r, a, k, b := p.r[i*n:][:n], p.a[i*n:][:n], p.k[i*n:][:n], p.b[i*n:][:n]
		xr, xa, xk, xb := p.dr[i*n:][:n], p.da[i*n:][:n], p.dk[i*n:][:n], p.db[i*n:][:n]
		for j := range n {
			p.log[j] += r[j]*xr[j] - k[j]*xk[j] - b[j]*xb[j]
			dw[j] = p.log[j]
			p.log[j] += a[j] * xa[j] // ã has P_{t−1}
			inv := 1 / pow[j]
			dr[j], dk[j] = xr[j]*pow[j], xk[j]*inv
			da[j], db[j] = xa[j]*before[j], xb[j]*inv
		}
	}
}

// products computes rk = tril(r·kᵀ), rb = tril(r·bᵀ), ak = tril₋₁(a·kᵀ) and ab = tril₋₁(a·bᵀ) of c rows.
func (p *v7Backward) products(r []float32, ldr int, a []float32, lda int, k, b []float32, c int) {
	n := p.n
	kernel.Transpose(p.turned, 2*c, k, n, c, n)
	kernel.Transpose(p.turned[c:], 2*c, b, n, c, n)
	kernel.GemmNN(p.pair, 2*c, r, ldr, p.turned, 2*c, c, 2*c, n, false)
	kernel.GemmNN(p.pair[2*c*c:], 2*c, a, lda, p.turned, 2*c, c, 2*c, n, false)
	for i := range c {
		now, before := p.pair[2*c*i:][:2*c], p.pair[2*c*(c+i):][:2*c]
		for j, m := range [...][]float32{p.rk, p.rb} {
			copy(m[i*c:][:i+1], now[j*c:])
			clear(m[i*c:][i+1 : c])
		}
		for j, m := range [...][]float32{p.ak, p.ab} {
			copy(m[i*c:][:i], before[j*c:])
			clear(m[i*c:][i:c])
		}
	}
}
