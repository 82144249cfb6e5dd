package tensor

import (
	"microrwkv/tensor/internal/kernel"
)

// Attention computes, for each of B independent problems, softmax(scale · q·kᵀ)·v:
//
//	q, dst [B, R, d]   k, v [B, S, d]
//
// with every row of q attending to every row of k. zeros more rows of k and v that are zero take
// part in the softmax: their scores of 0 add to its denominator and nothing to the sum. The
// tensors are contiguous float32; dst must not overlap the operands.
func Attention(dst, q, k, v *Tensor, scale float32, zeros int) {
	sameShape("Attention", dst, q)
	sameShape("Attention", k, v)
	if q.ndim != 3 || k.ndim != 3 || q.shape[0] != k.shape[0] || q.shape[2] != k.shape[2] || (k.shape[1] == 0 && zeros == 0) {
		panic("tensor: Attention: q " + formatShape(q.Shape()) + ", k " + formatShape(k.Shape()))
	}
	t := attentionTasks.get()
	*t = attentionTask{
		dst: matrix{f32: dst.Data(), stride: q.shape[2]}, q: matrix{f32: q.Data(), stride: q.shape[2]},
		k: k.Data(), v: v.Data(), heads: q.shape[0], d: q.shape[2],
		dstHead: q.shape[1] * q.shape[2], rows: q.shape[1], keys: k.shape[1], kvHead: k.shape[1] * k.shape[2],
		scale: scale, zeros: zeros,
	}
	t.run()
}

// CausalAttention computes multi-head attention of T queries over keys and values kept by head,
// in order of their positions:
//
//	q, dst [T, H·d]   k, v [H, cap, d]
//
// Query i belongs to the key in row first+i, and attends to the newest window rows up to that
// one: softmax(scale · q·kᵀ)·v over rows max(0, first+i−window+1) … first+i. Rows after
// first+T−1 aren't read. q and dst may be views with gaps and must not overlap.
func CausalAttention(dst, q, k, v *Tensor, first, window int, scale float32) {
	q.mustF32("CausalAttention")
	dst.mustF32("CausalAttention")
	sameShape("CausalAttention", dst, q)
	sameShape("CausalAttention", k, v)
	if q.ndim != 2 || k.ndim != 3 || k.shape[0]*k.shape[2] != q.shape[1] || first < 0 || window < 1 || first+q.shape[0] > k.shape[1] {
		panic("tensor: CausalAttention: q " + formatShape(q.Shape()) + " at key " + formatShape([]int{first}) + ", k " + formatShape(k.Shape()))
	}
	t := attentionTasks.get()
	*t = attentionTask{
		dst: dst.matrix(), q: q.matrix(),
		k: k.Data(), v: v.Data(), heads: k.shape[0], d: k.shape[2],
		dstHead: k.shape[2], rows: q.shape[0], keys: first + q.shape[0], kvHead: k.shape[1] * k.shape[2],
		scale: scale, causal: true, first: first, window: window,
	}
	t.run()
}

var attentionTasks = newFreelist[attentionTask]()

// attentionTask is a batch of heads, cut into pieces of several small heads or of a block of one
// large head's rows.
type attentionTask struct {
	dst, q  matrix // row i of head h starts at h·dstHead + i·stride
	dstHead int
	k, v    []float32 // row j of head h starts at h·kvHead + j·d
	kvHead  int

	heads, rows, keys, d int
	scale                float32
	zeros                int // more keys that are zero
	causal               bool
	first, window        int // of the causal rule

	headBlock, rowBlock, rowBlocks int
}

// attentionRows is the rows of q that share one reading of the keys.
const attentionRows = 64

func (t *attentionTask) run() {
	if t.rows > 0 && t.heads > 0 {
		t.rowBlock = min(t.rows, attentionRows)
		t.rowBlocks = (t.rows + t.rowBlock - 1) / t.rowBlock
		work := t.rows * t.keys * t.d // multiplications of a head in one of its two products
		t.headBlock = 1
		if t.rowBlocks == 1 {
			t.headBlock = min(max(1<<15/max(work, 1), 1), (t.heads+2*Threads()-1)/(2*Threads()))
		}
		Parallel((t.heads+t.headBlock-1)/t.headBlock*t.rowBlocks, t)
	}
	*t = attentionTask{}
	attentionTasks.put(t)
}

// Run computes one piece.
func (t *attentionTask) Run(piece int) {
	r0 := piece % t.rowBlocks * t.rowBlock
	h0 := piece / t.rowBlocks * t.headBlock
	buf := attentionBuffers.get()
	for h := h0; h < min(h0+t.headBlock, t.heads); h++ {
		t.head(buf, h, r0, min(r0+t.rowBlock, t.rows))
	}
	attentionBuffers.put(buf)
}

// attentionBuffer is the scratch of one piece.
type attentionBuffer struct{ q, scores []float32 }

var attentionBuffers = newFreelist[attentionBuffer]()

func grown(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n+n/2)
	}
	return s[:cap(s)]
}

// head computes rows r0 to r1 of head h.
func (t *attentionTask) head(buf *attentionBuffer, h, r0, r1 int) {
	k0, k1 := 0, t.keys // the keys that any of these rows attends to
	if t.causal {
		k0, k1 = max(0, t.first+r0-t.window+1), t.first+r1
	}
	rows, keys := r1-r0, k1-k0
	buf.q = grown(buf.q, rows*t.d)
	buf.scores = grown(buf.scores, rows*keys)
	q, scores := buf.q[:rows*t.d], buf.scores[:rows*keys]
	for i := range rows {
		kernel.Scale(q[i*t.d:][:t.d], t.scale, t.q.f32[h*t.dstHead+(r0+i)*t.q.stride:][:t.d])
	}
	kernel.GemmNT(scores, keys, q, t.d, t.k[h*t.kvHead+k0*t.d:], t.d, rows, keys, t.d, false)
	for i := range rows {
		s := scores[i*keys:][:keys]
		if !t.causal {
			softmaxRow(s, s, t.zeros)
			continue
		}
		from, to := max(0, t.first+r0+i-t.window+1)-k0, t.first+r0+i+1-k0
		clear(s[:from])
		softmaxRow(s[from:to], s[from:to], 0)
		clear(s[to:])
	}
	kernel.GemmNN(t.dst.f32[h*t.dstHead+r0*t.dst.stride:], t.dst.stride, scores, keys, t.v[h*t.kvHead+k0*t.d:], t.d, rows, t.d, keys, false)
}

// SplitHeads copies x [T, H·d] to dst [H, S, d] with S ≥ T, so that the rows of a head follow
// each other; the last S−T rows of each head become zero. x may have gaps.
func SplitHeads(dst, x *Tensor) {
	heads, rows, d := headShape("SplitHeads", dst, x)
	if rows < x.rows() {
		panic("tensor: SplitHeads: dst " + formatShape(dst.Shape()) + ", x " + formatShape(x.Shape()))
	}
	out := matrix{f32: dst.Data(), stride: d}
	overRows(rows, heads*d, rowTask{op: splitRow, dst: out, a: x.matrix(), groups: heads, split: x.rows()})
}

func splitRow(t *rowTask, r int) {
	d := t.n / t.groups
	for h := range t.groups {
		to := t.dst.row(h*t.rows+r, d)
		if r < t.split {
			copy(to, t.a.f32[r*t.a.stride+h*d:][:d])
		} else {
			clear(to)
		}
	}
}

// JoinHeads copies x [H, S, d] to dst [T, H·d] with T ≤ S, dropping the last S−T rows of each
// head: the reverse of SplitHeads. dst may have gaps.
func JoinHeads(dst, x *Tensor) {
	heads, rows, d := headShape("JoinHeads", x, dst)
	if rows < dst.rows() {
		panic("tensor: JoinHeads: dst " + formatShape(dst.Shape()) + ", x " + formatShape(x.Shape()))
	}
	in := matrix{f32: x.Data(), stride: d}
	overRows(dst.rows(), heads*d, rowTask{op: joinRow, dst: dst.matrix(), a: in, groups: heads, split: rows})
}

func joinRow(t *rowTask, r int) {
	d := t.n / t.groups
	for h := range t.groups {
		copy(t.dst.f32[r*t.dst.stride+h*d:][:d], t.a.row(h*t.split+r, d))
	}
}

// headShape returns H, S and d of a tensor by heads [H, S, d] that fits one by rows [T, H·d].
func headShape(op string, heads, rows *Tensor) (h, s, d int) {
	heads.mustF32(op)
	rows.mustF32(op)
	if heads.ndim != 3 || rows.ndim != 2 || heads.shape[0]*heads.shape[2] != rows.shape[1] {
		panic("tensor: " + op + ": " + formatShape(heads.Shape()) + " and " + formatShape(rows.Shape()))
	}
	return heads.shape[0], heads.shape[1], heads.shape[2]
}
