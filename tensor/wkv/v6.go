package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// V6 computes the recurrence of RWKV-5 and RWKV-6 for each head of each sequence (Peng et al.,
// arXiv:2404.05892): every channel of the keys has a decay of its own, and a bonus u for its newest
// token.
//
//	y_t = S·r_t + (Σ_head r_t ⊙ u ⊙ k_t) v_t;   S ← S·diag(w_t) + v_t·k_tᵀ
//
// y, r, k and v are [R, H·N], u is [H·N]. w has numbers from 0 to 1: [R, H·N] if they differ from token
// to token, as in RWKV-6, or [H·N] if they don't, as in RWKV-5, whose earlier versions have one number
// for all channels of a head. Sequence i has rows spans[i] to spans[i+1] and goes on from the state
// that state(i) returns, H matrices [N, N] with a row for each element of v and a column for each of
// k, and updates it; nil is a state of zeros that nobody keeps. y must not overlap the operands. out is
// as for V5.
//
// A few rows are computed one by one, more of them in chunks as products of matrices, which gives the
// same numbers but for rounding. It is computed as a step of q.
func V6(q *tensor.Sequence, y, r, w, k, v *tensor.Tensor, u []float32, heads int, out *HeadNorm, spans []int, state func(i int) []float32) {
	t := wkvTasks.Get()
	t.set("V6", heads, y, r, k, v)
	t.setDecays("V6", y, w, u)
	t.head = v6Head
	t.norm("V6", y, out)
	t.run(q, spans, state)
}

// setDecays takes w and u.
func (t *wkvTask) setDecays(op string, y, w *tensor.Tensor, u []float32) {
	c := y.Dim(1)
	decay := w.Matrix()
	if len(w.Shape()) == 1 {
		decay.Stride = 0 // every row is the same one
	} else {
		tensor.SameShape(op, y, w)
	}
	if w.Dim(-1) != c || len(u) != c {
		panic("wkv: " + op + ": w " + task.FormatShape(w.Shape()...) + ", u " + task.FormatShape(len(u)) + " for rows of " + task.FormatShape(c))
	}
	t.in[3], t.bonus = decay, u
}

// v6Head computes rows from to to of one head, whose values begin at column col.
func v6Head(t *wkvTask, s []float32, _ bool, col, from, to int) {
	buf := wkvBuffers.Get()
	for from < to {
		end := min(from+wkvChunk, to)
		if end-from <= wkvSteps {
			t.v6Steps(buf, s, col, from, end)
		} else {
			t.v6Chunk(buf, s, col, from, end)
		}
		from = end
	}
	wkvBuffers.Put(buf)
}

// operand returns the head's part of row i of an operand.
func (t *wkvTask) operand(which, i, col int) []float32 {
	return t.in[which].Data[i*t.in[which].Stride+col:][:t.n]
}

// v6Steps computes rows from to to one by one.
func (t *wkvTask) v6Steps(buf *wkvBuffer, s []float32, col, from, to int) {
	n, u := t.n, t.bonus[col:][:t.n]
	buf.r, buf.k, buf.v = freelist.Grown(buf.r, n), freelist.Grown(buf.k, n), freelist.Grown(buf.v, n)
	zeros := buf.k[:n]
	clear(zeros)
	for i := from; i < to; i++ {
		y := t.y.Data[i*t.y.Stride+col:][:n]
		r, k, v, w := t.operand(0, i, col), t.operand(1, i, col), t.operand(2, i, col), t.operand(3, i, col)
		kernel.GemmNT(y, n, r, n, s, n, 1, n, n, false)
		kernel.Mul(buf.r[:n], r, u)
		kernel.Axpy(y, kernel.Dot(buf.r[:n], k), v)
		// S's step is RWKV-7's with nothing taken out; what that makes of its new S isn't of use.
		kernel.WKV7(buf.v, n, s, zeros, w, k, v, zeros, zeros, n, n, 1)
	}
}

// v6Block is the rows of a chunk's smallest blocks.
const v6Block = 8

// v6Chunk computes rows from to to, with t and s counted from the first of them and c rows, as
//
//	y = A·v + (r ⊙ P)·Sᵀ      A[t,s] = Σ_n r_t ⊙ k_s ⊙ w_{s+1} ⊙ … ⊙ w_{t−1} for s < t, with u for s = t
//	S ← S·diag(w_0 ⊙ … ⊙ w_{c−1}) + vᵀ·(k ⊙ Q)
//	P_t = w_0 ⊙ … ⊙ w_{t−1};   Q_s = w_{s+1} ⊙ … ⊙ w_{c−1}
//
// The products of decays in A are never quotients of others, which would overflow where a channel
// forgets fast. Blocks of some rows hold r ⊙ P and k ⊙ Q as if each block were the chunk. Of two
// neighbours, the later block's r ⊙ P and the earlier one's k ⊙ Q meet where one ends and the other
// begins: their product is A between them. Then the two become one block, until the chunk is one.
func (t *wkvTask) v6Chunk(buf *wkvBuffer, s []float32, col, from, to int) {
	n, c, ld := t.n, to-from, t.in[0].Stride
	buf.scores, buf.pow = freelist.Grown(buf.scores, c*c), freelist.Grown(buf.pow, (c+v6Block-1)/v6Block*n)
	buf.r, buf.k, buf.v = freelist.Grown(buf.r, c*n), freelist.Grown(buf.k, c*n), freelist.Grown(buf.v, c*n)
	scores, pow, r, k := buf.scores[:c*c], buf.pow, buf.r, buf.k
	clear(scores)
	for at := 0; at < c; at += v6Block {
		t.v6Corner(buf, col, from, at, min(at+v6Block, c), c)
	}
	for size := v6Block; size < c; size *= 2 {
		for at := 0; at+size < c; at += 2 * size {
			mid, end := at+size, min(at+2*size, c)
			kernel.GemmNT(scores[mid*c+at:], c, r[mid*n:], n, k[at*n:], n, end-mid, size, n, false)
			before, after := pow[at/v6Block*n:][:n], pow[mid/v6Block*n:][:n]
			for i := mid; i < end; i++ {
				kernel.Mul(r[i*n:][:n], r[i*n:][:n], before)
			}
			for i := at; i < mid; i++ {
				kernel.Mul(k[i*n:][:n], k[i*n:][:n], after)
			}
			kernel.Mul(before, before, after)
		}
	}

	v := t.in[2].Data[from*ld+col:]
	y := t.y.Data[from*t.y.Stride+col:]
	kernel.GemmNT(y, t.y.Stride, r, n, s, n, c, n, n, false)
	kernel.GemmNN(y, t.y.Stride, scores, c, v, ld, c, n, c, true)
	for i := range n {
		kernel.Mul(s[i*n:][:n], s[i*n:][:n], pow[:n])
	}
	for i := range c {
		for j, x := range v[i*ld:][:n] {
			buf.v[j*c+i] = x
		}
	}
	kernel.GemmNN(s, n, buf.v, c, k, n, n, n, c, true)
}

// v6Corner makes the block of rows at to end of a chunk of c rows that begins at row from: its part of
// A, its r ⊙ P and k ⊙ Q in buf.r and buf.k, and the product of its decays in buf.pow.
func (t *wkvTask) v6Corner(buf *wkvBuffer, col, from, at, end, c int) {
	n, u := t.n, t.bonus[col:][:t.n]
	product := buf.pow[at/v6Block*n:][:n]
	for i := at; i < end; i++ {
		rp := buf.r[i*n:][:n]
		r := t.operand(0, from+i, col)
		kernel.Mul(rp, r, u)
		buf.scores[i*c+i] = kernel.Dot(rp, t.operand(1, from+i, col))
		copy(rp, r)
		for j := i - 1; j >= at; j-- {
			buf.scores[i*c+j] = kernel.Dot(rp, t.operand(1, from+j, col))
			kernel.Mul(rp, rp, t.operand(3, from+j, col))
		}
	}
	copy(buf.k[(end-1)*n:][:n], t.operand(1, from+end-1, col))
	copy(product, t.operand(3, from+end-1, col))
	for i := end - 2; i >= at; i-- {
		kernel.Mul(buf.k[i*n:][:n], t.operand(1, from+i, col), product)
		kernel.Mul(product, product, t.operand(3, from+i, col))
	}
}
