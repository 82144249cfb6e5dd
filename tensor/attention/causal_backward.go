package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// CausalBackward computes the gradients of Causal from that of its output, dy [R, H·d], for sequences
// that begin at their first row: dq, dk, dv and dgate are written, with the heads where cols says, as in
// the operands; gate and dgate are nil together. Softmaxes are computed again, block by block, by the sums
// that CausalWhole left.
func CausalBackward(dq, dk, dv, dgate, dy, logSums, q, k, v, gate *tensor.Tensor, heads, window int, cols HeadColumns, scale float32, spans []int) {
	t := causalBackwardTasks.Get()
	pairs := t.set("CausalBackward", dy, logSums, q, k, v, gate, heads, window, cols, scale, spans)
	t.dq, t.dk, t.dv, t.dgate = dq.Matrix(), dk.Matrix(), dv.Matrix(), task.Matrix{}
	for _, x := range [...]*tensor.Tensor{dq, dk, dv} {
		t.check("CausalBackward", dy, x)
	}
	if gate != nil {
		t.dgate = dgate.Matrix()
	}
	task.Spread((len(spans)-1)*heads, 5*pairs*t.d, t)
	*t = causalBackwardTask{wholeSequences: wholeSequences{spans: t.spans}}
	causalBackwardTasks.Put(t)
}

var (
	causalBackwardTasks = freelist.New[causalBackwardTask]()
	backwardBuffers     = freelist.New[backwardBuffer]()
)

// backwardBuffer is the scratch of one piece.
type backwardBuffer struct {
	q, k, v, dq, dk, dv, dy, out, p, dp, tr []float32
	kt, vt, sums                            []float32
}

type causalBackwardTask struct {
	wholeSequences    // y is the gradient
	dq, dk, dv, dgate task.Matrix
}

// Run computes one head of one sequence.
func (t *causalBackwardTask) Run(piece int) {
	seq, h := piece/t.heads, piece%t.heads
	first, n, d, col := t.spans[seq], t.spans[seq+1]-t.spans[seq], t.d, t.cols.at(h, t.d)
	if n == 0 {
		return
	}
	buf := backwardBuffers.Get()
	kt := t.keys(buf, first, n, col)
	buf.vt = freelist.Grown(buf.vt, n*d)
	vt := buf.vt[:n*d]
	at := func(m *task.Matrix, row, col int) []float32 { return m.Data[(first+row)*m.Stride+col:] }
	kernel.Transpose(vt, n, at(&t.v, 0, col), t.v.Stride, n, d)
	for i := range n { // added to below
		clear(at(&t.dk, i, col)[:d])
		clear(at(&t.dv, i, col)[:d])
	}
	for r0 := 0; r0 < n; r0 += attentionRows {
		rows := min(attentionRows, n-r0)
		k0 := max(0, r0-t.window+1) // the first key of the block
		keys := r0 + rows - k0
		buf.out = freelist.Grown(buf.out, rows*d)
		buf.p, buf.dp, buf.tr = freelist.Grown(buf.p, rows*keys), freelist.Grown(buf.dp, rows*keys), freelist.Grown(buf.tr, (rows+kernel.TransposeGap)*keys)
		p, dp := buf.p[:rows*keys], buf.dp[:rows*keys]
		t.softmaxes(p, first, h, col, kt[k0:], n, r0, k0, rows, keys)
		dy, ldy := at(&t.y, r0, h*d), t.y.Stride
		if t.gate.Data != nil {
			buf.dy = freelist.Grown(buf.dy, rows*d)
			kernel.GemmNN(buf.out, d, p, keys, at(&t.v, k0, col), t.v.Stride, rows, d, keys, false)
			for i := range rows {
				out, dout := buf.out[i*d:][:d], buf.dy[i*d:][:d]
				gate, dgate := at(&t.gate, r0+i, col)[:d], at(&t.dgate, r0+i, col)[:d]
				for j, x := range dy[i*ldy:][:d] { // few columns
					dgate[j], dout[j] = x*out[j], x*gate[j]
				}
			}
			dy, ldy = buf.dy, d
		}
		// The scores' gradient, dp = p ⊙ (dy·vᵀ − Σ p ⊙ dy·vᵀ), times scale.
		kernel.GemmNN(dp, keys, dy, ldy, vt[k0:], n, rows, keys, d, false)
		for i := range rows {
			row, p := dp[i*keys:][:keys], p[i*keys:][:keys]
			kernel.Norm(row, row, kernel.Dot(p, row), t.scale, p, nil)
		}
		kernel.GemmNN(at(&t.dq, r0, col), t.dq.Stride, dp, keys, at(&t.k, k0, col), t.k.Stride, rows, d, keys, false)
		ld := rows + kernel.TransposeGap
		kernel.Transpose(buf.tr, ld, dp, keys, rows, keys)
		kernel.GemmNN(at(&t.dk, k0, col), t.dk.Stride, buf.tr, ld, at(&t.q, r0, col), t.q.Stride, keys, d, rows, true)
		kernel.Transpose(buf.tr, ld, p, keys, rows, keys)
		kernel.GemmNN(at(&t.dv, k0, col), t.dv.Stride, buf.tr, ld, dy, ldy, keys, d, rows, true)
	}
	backwardBuffers.Put(buf)
}

// softmax computes dp, the gradient of the scores, from that of the output, dy, and the softmax p:
// dp = p ⊙ (dy·vᵀ − Σ p ⊙ dy·vᵀ).
func (b *backwardBuffer) softmax(dy, v []float32, rows, keys, d int) {
	kernel.GemmNT(b.dp, keys, dy, d, v, d, rows, keys, d, false)
	for i := range rows {
		p, dp := b.p[i*keys:][:keys], b.dp[i*keys:][:keys]
		kernel.Norm(dp, dp, kernel.Dot(p, dp), 1, p, nil)
	}
}

// keys adds to the gradients of the keys, dk += dpᵀ·q with q scaled, and of the values, dv += pᵀ·dy.
func (b *backwardBuffer) keys(dk, dv, q, dy []float32, rows, keys, d int) {
	kernel.Transpose(b.tr, rows, b.dp, keys, rows, keys)
	kernel.GemmNN(dk, d, b.tr, rows, q, d, keys, d, rows, true)
	kernel.Transpose(b.tr, rows, b.p, keys, rows, keys)
	kernel.GemmNN(dv, d, b.tr, rows, dy, d, keys, d, rows, true)
}

// scatter copies n rows of d values that follow each other to rows ld apart.
func scatter(dst []float32, ld int, x []float32, n, d int) {
	for i := range n {
		copy(dst[i*ld:][:d], x[i*d:][:d])
	}
}
