package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// CausalBackward computes the gradients of Causal from that of its output, dy [R, H·d], for sequences
// that begin at their first row: dq, dk, dv and dgate are written, with the heads where cols says, as in
// the operands; gate and dgate are nil together. Softmaxes are computed again, block by block.
func CausalBackward(dq, dk, dv, dgate, dy, q, k, v, gate *tensor.Tensor, heads, window int, cols HeadColumns, scale float32, spans []int) {
	t := causalBackwardTasks.Get()
	pairs := t.set("CausalBackward", dy, q, k, v, gate, heads, window, cols, scale, spans)
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
type backwardBuffer struct{ q, k, v, dq, dk, dv, dy, out, p, dp, tr []float32 }

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
	all := func(b *[]float32) []float32 { *b = freelist.Grown(*b, n*d); return (*b)[:n*d] }
	k, v, dk, dv := all(&buf.k), all(&buf.v), all(&buf.dk), all(&buf.dv)
	gather(k, t.k.Data[first*t.k.Stride+col:], t.k.Stride, n, d)
	gather(v, t.v.Data[first*t.v.Stride+col:], t.v.Stride, n, d)
	clear(dk)
	clear(dv)
	for r0 := 0; r0 < n; r0 += attentionRows {
		r1 := min(r0+attentionRows, n)
		rows := r1 - r0
		k0 := max(0, r0-t.window+1) // the first key of the block
		keys := r1 - k0
		buf.q, buf.dq, buf.dy, buf.out = freelist.Grown(buf.q, rows*d), freelist.Grown(buf.dq, rows*d), freelist.Grown(buf.dy, rows*d), freelist.Grown(buf.out, rows*d)
		buf.p, buf.dp, buf.tr = freelist.Grown(buf.p, rows*keys), freelist.Grown(buf.dp, rows*keys), freelist.Grown(buf.tr, rows*keys)
		q, dq, dy, p := buf.q[:rows*d], buf.dq[:rows*d], buf.dy[:rows*d], buf.p[:rows*keys]
		gather(q, t.q.Data[(first+r0)*t.q.Stride+col:], t.q.Stride, rows, d)
		gather(dy, t.y.Data[(first+r0)*t.y.Stride+h*d:], t.y.Stride, rows, d)
		t.softmaxes(p, q, k[k0*d:], r0, k0, rows, keys)
		if t.gate.Data != nil {
			kernel.GemmNN(buf.out, d, p, keys, v[k0*d:], d, rows, d, keys, false)
			for i := range rows {
				at := first + r0 + i
				g := t.gate.Data[at*t.gate.Stride+col:][:d]
				row := dy[i*d:][:d]
				kernel.Mul(t.dgate.Data[at*t.dgate.Stride+col:][:d], row, buf.out[i*d:][:d])
				kernel.Mul(row, row, g)
			}
		}
		buf.softmax(dy, v[k0*d:], rows, keys, d)
		kernel.GemmNN(dq, d, buf.dp, keys, k[k0*d:], d, rows, d, keys, false)
		buf.keys(dk[k0*d:], dv[k0*d:], q, dy, rows, keys, d)
		for i := range rows {
			kernel.Scale(t.dq.Data[(first+r0+i)*t.dq.Stride+col:][:d], t.scale, dq[i*d:][:d])
		}
	}
	scatter(t.dk.Data[first*t.dk.Stride+col:], t.dk.Stride, dk, n, d)
	scatter(t.dv.Data[first*t.dv.Stride+col:], t.dv.Stride, dv, n, d)
	backwardBuffers.Put(buf)
}

// softmax computes dp, the gradient of the scores, from that of the output, dy, and the softmax p:
// dp = p ⊙ (dy·vᵀ − Σ p ⊙ dy·vᵀ).
func (b *backwardBuffer) softmax(dy, v []float32, rows, keys, d int) {
	kernel.GemmNT(b.dp, keys, dy, d, v, d, rows, keys, d, false)
	for i := range rows {
		p, dp := b.p[i*keys:][:keys], b.dp[i*keys:][:keys]
		mean := kernel.Dot(p, dp)
		for j, x := range p {
			dp[j] = x * (dp[j] - mean)
		}
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
