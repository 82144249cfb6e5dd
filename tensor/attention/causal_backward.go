package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// CausalBackward computes the gradients of Causal from that of its output, dy [R, H·d], for sequences
// that begin at their first row: dq, dk, dv and dgate are written, with the heads where cols says, as in
// the operands; gate and dgate are nil together. Softmaxes are computed again, block by block, by what
// CausalWhole left of them.
func CausalBackward(dq, dk, dv, dgate, dy, softmaxes, q, k, v, gate *tensor.Tensor, heads, window int, cols HeadColumns, scale float32, spans []int) {
	t := causalBackwardTasks.Get()
	pairs := t.set("CausalBackward", dy, softmaxes, q, k, v, gate, heads, window, cols, scale, spans)
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
	q, k, v, dq, dk, dv, dy, out, p, dp []float32
	qt, dyt, gate                       []float32 // columns
	most, factors                       [blockLanes]float32
}

type causalBackwardTask struct {
	wholeSequences    // y is the gradient
	dq, dk, dv, dgate task.Matrix
}

// Run computes one head of one sequence.
func (t *causalBackwardTask) Run(piece int) {
	h := t.head(piece)
	if h.n == 0 {
		return
	}
	buf := backwardBuffers.Get()
	for r0 := 0; r0 < h.n; r0 += blockLanes {
		t.back(buf, h, t.block(h, r0))
	}
	backwardBuffers.Put(buf)
}

// back computes the gradients that come from a block of queries.
func (t *causalBackwardTask) back(buf *backwardBuffer, h wholeHead, b queryBlock) {
	d := t.d
	p := t.scores(buf, h, b)
	most, factors := buf.most[:b.lanes], buf.factors[:b.lanes]
	copy(most, t.softmaxes.Row(2 * h.h)[h.first+b.r0:][:b.rows])
	copy(factors, t.softmaxes.Row(2*h.h + 1)[h.first+b.r0:][:b.rows])
	// The gradient of the output is multiplied by the factors, so that p needn't be.
	dy := turned(&buf.dyt, t.y.Data[(h.first+b.r0)*t.y.Stride+h.h*d:], t.y.Stride, b.rows, d)
	scaleColumns(dy, factors)
	dout := dy
	if t.gate.Data != nil {
		dout = turned(&buf.gate, h.at(&t.gate, b.r0), t.gate.Stride, b.rows, d)
		kernel.Mul(dout, dout, dy)
	}
	buf.dy, buf.dp = freelist.Grown(buf.dy, b.rows*d), freelist.Grown(buf.dp, b.keys*blockLanes)
	kernel.Transpose(buf.dy, d, dout, blockLanes, d, b.rows)
	kernel.Scale(dout, t.scale, dout)
	dp := buf.dp[:b.keys*blockLanes]
	kernel.GemmNN(dp, blockLanes, h.at(&t.v, b.k0), t.v.Stride, dout, blockLanes, b.keys, b.lanes, d, false)
	kernel.GradColumns(p, dp, blockLanes, b.keys, b.lanes, most, factors)
	if t.gate.Data != nil {
		kernel.Mul(dy, dy, t.output(buf, h, b, p, &t.v))
		kernel.Transpose(h.at(&t.dgate, b.r0), t.dgate.Stride, dy, blockLanes, d, b.rows)
	}
	dq := t.output(buf, h, b, dp, &t.k)
	kernel.Transpose(h.at(&t.dq, b.r0), t.dq.Stride, dq, blockLanes, d, b.rows)
	t.keys(h, b, &t.dk, dp, h.at(&t.q, b.r0), t.q.Stride)
	t.keys(h, b, &t.dv, p, buf.dy, d)
}

// keys adds the products of p and the queries' x, with rows of ld, to the gradient of the keys before a block, and
// begins the gradient of its own keys.
func (t *causalBackwardTask) keys(h wholeHead, b queryBlock, grad *task.Matrix, p, x []float32, ld int) {
	before := b.keys - b.rows
	kernel.GemmNN(h.at(grad, b.k0), grad.Stride, p, blockLanes, x, ld, before, t.d, b.rows, true)
	kernel.GemmNN(h.at(grad, b.r0), grad.Stride, p[before*blockLanes:], blockLanes, x, ld, b.rows, t.d, b.rows, false)
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
	kernel.GemmTN(dk, d, b.dp, keys, q, d, keys, d, rows, true)
	kernel.GemmTN(dv, d, b.p, keys, dy, d, keys, d, rows, true)
}

// scatter copies n rows of d values that follow each other to rows ld apart.
func scatter(dst []float32, ld int, x []float32, n, d int) {
	for i := range n {
		copy(dst[i*ld:][:d], x[i*d:][:d])
	}
}
