package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
	"slices"
)

// KVCache keeps the keys and values of a sequence's newest positions, by head and in the order of
// the positions, so that each head's attention reads two contiguous blocks.
type KVCache struct {
	K, V   *tensor.Tensor // [H, cap, d]
	Window int            // positions that one attends to, its own included; at most cap
	Len    int            // rows in use, from row 0
}

// HeadColumns says where the heads lie in a row: head h's d values begin in column
// h/PerGroup·Stride + h%PerGroup·d.
type HeadColumns struct{ PerGroup, Stride int }

func (c HeadColumns) at(h, d int) int { return h/c.PerGroup*c.Stride + h%c.PerGroup*d }

// Causal computes multi-head attention of R positions of several sequences, each over the
// newest Window positions of its sequence up to itself:
//
//	dst = softmax(scale · q·kᵀ)·v ⊙ gate
//
// dst is [R, H·d] with the heads side by side; q, k, v and gate have R rows, with the heads where
// cols says; a nil gate is 1. Sequence i has rows spans[i] to spans[i+1], which follow the
// positions in cache(i) and are appended to it; what no later position attends to is dropped when
// a cache is full. dst must not overlap the operands. Few rows are computed as a step of in; for more it is
// run first.
func Causal(in *tensor.Sequence, dst, q, k, v, gate *tensor.Tensor, cols HeadColumns, scale float32, spans []int, cache func(i int) *KVCache) {
	t := causalTasks.Get()
	t.dst, t.q, t.k, t.v, t.gate = dst.Matrix(), q.Matrix(), k.Matrix(), v.Matrix(), task.Matrix{}
	if gate != nil {
		t.gate = gate.Matrix()
	}
	t.cols, t.scale = cols, scale
	t.seqs = t.seqs[:0]
	for i := range len(spans) - 1 {
		c := cache(i)
		if i == 0 {
			t.heads, t.d = c.K.Dim(0), c.K.Dim(2)
		}
		end := cols.at(t.heads-1, t.d) + t.d
		if len(c.K.Shape()) != 3 || !slices.Equal(c.K.Shape(), c.V.Shape()) || c.K.Dim(0) != t.heads || c.K.Dim(2) != t.d || dst.Dim(-1) != t.heads*t.d || q.Dim(-1) < end || k.Dim(-1) < end || v.Dim(-1) < end || gate != nil && gate.Dim(-1) < end {
			panic("attention: Causal: dst " + task.FormatShape(dst.Shape()...) + ", q " + task.FormatShape(q.Shape()...) + ", cache " + task.FormatShape(c.K.Shape()...))
		}
		t.seqs = append(t.seqs, causalSeq{cache: c, row: spans[i], end: spans[i+1]})
	}
	if !t.plan() {
		t.End()
		return
	}
	if t.whole() {
		in.Add(t.pieces(), t.work, t)
		return
	}
	in.Run() // for there are several operations, of this one task
	for ok := true; ok; ok = t.plan() {
		t.run()
	}
	t.End()
}

// End gives the task back.
func (t *causalTask) End() {
	clear(t.seqs)
	t.dst, t.q, t.k, t.v, t.gate = task.Matrix{}, task.Matrix{}, task.Matrix{}, task.Matrix{}, task.Matrix{}
	causalTasks.Put(t)
}

var causalTasks = freelist.New[causalTask]()

type causalTask struct {
	dst, q, k, v, gate task.Matrix
	cols               HeadColumns
	heads, d           int
	scale              float32
	seqs               []causalSeq

	rows      int  // of a sequence in this round, at most
	work      int  // multiplications of this round
	blocks    int  // of rows, at most
	headBlock int  // heads of a piece
	appending bool // this is the pass that appends to the caches, before one that attends
}

// causalSeq is a sequence's part in the present round.
type causalSeq struct {
	cache    *KVCache
	row, end int // rows of the round begin at row; all end at end
	n        int // rows in this round
	first    int // row of the cache for the first of them
}

// prefetchRows is the rows below which the keys and values of a head are fetched beforehand.
const prefetchRows = 4

// plan takes as many of each sequence's next rows as its cache has room for. It reports whether
// there are any.
func (t *causalTask) plan() bool {
	any := false
	for i := range t.seqs {
		s := &t.seqs[i]
		s.row += s.n
		if s.n = 0; s.row == s.end {
			continue
		}
		s.cache.makeRoom()
		s.n, s.first = min(s.end-s.row, s.cache.K.Dim(1)-s.cache.Len), s.cache.Len
		s.cache.Len += s.n
		any = true
	}
	return any
}

// whole reports whether this round is the only one and each sequence has one block of rows, so that a piece
// appends and attends.
func (t *causalTask) whole() bool {
	for i := range t.seqs {
		if s := &t.seqs[i]; s.row+s.n < s.end || s.n > attentionRows {
			return false
		}
	}
	return true
}

// run computes a round. If each sequence has one block of rows, a piece appends and attends;
// else all is appended first.
func (t *causalTask) run() {
	pieces := t.pieces()
	if t.rows > attentionRows {
		t.appending = true
		task.Spread(pieces, t.work, t)
		t.blocks, t.appending = (t.rows+attentionRows-1)/attentionRows, false
	}
	task.Spread(pieces*t.blocks, t.work, t)
}

// pieces plans the pieces of a round: sequences by blocks of heads, with one block of rows each.
func (t *causalTask) pieces() int {
	rows, work, all := 0, 0, 0
	for i := range t.seqs {
		s := &t.seqs[i]
		rows = max(rows, s.n)
		keys := min(s.first+s.n, s.cache.Window+attentionRows)
		work = max(work, min(s.n, attentionRows)*keys*t.d)
		all += 4 * s.n * keys * t.d * t.heads // two products, the softmax and what is around them
	}
	most := max(len(t.seqs)*t.heads/(4*task.Threads()), 1)
	t.headBlock = min(max(1<<15/max(work, 1), 1), most, t.heads)
	t.rows, t.work, t.blocks, t.appending = rows, all, 1, false
	return len(t.seqs) * ((t.heads + t.headBlock - 1) / t.headBlock)
}

// Run computes a block of rows of some heads of one sequence.
func (t *causalTask) Run(piece int) {
	block, group := piece%t.blocks, piece/t.blocks
	groups := (t.heads + t.headBlock - 1) / t.headBlock
	s, h0 := &t.seqs[group/groups], group%groups*t.headBlock
	r0 := block * attentionRows
	r1 := min(r0+attentionRows, s.n)
	if r0 >= s.n {
		return
	}
	buf := attentionBuffers.Get()
	for h := h0; h < min(h0+t.headBlock, t.heads); h++ {
		if t.appending || t.blocks == 1 {
			t.append(s, h)
		}
		if t.appending {
			continue
		}
		if r1-r0 < prefetchRows && h+1 < t.heads { // little work to hide the next head's fetching in
			from, to := s.keys(h+1, t.d, r0, r1)
			kernel.Prefetch(s.cache.K.Data()[from:to])
			kernel.Prefetch(s.cache.V.Data()[from:to])
		}
		t.attend(buf, s, h, r0, r1)
	}
	attentionBuffers.Put(buf)
}

// keys returns where head h's keys are in the cache that rows r0 to r1 of the round attend to.
func (s *causalSeq) keys(h, d, r0, r1 int) (from, to int) {
	k0, k1 := max(0, s.first+r0-s.cache.Window+1), s.first+r1
	row := h * s.cache.K.Dim(1)
	return (row + k0) * d, (row + k1) * d
}

// append puts a head's keys and values of the round into the cache.
func (t *causalTask) append(s *causalSeq, h int) {
	capacity, col := s.cache.K.Dim(1), t.cols.at(h, t.d)
	to := (h*capacity + s.first) * t.d
	k, v := s.cache.K.Data()[to:][:s.n*t.d], s.cache.V.Data()[to:][:s.n*t.d]
	gather(k, t.k.Data[s.row*t.k.Stride+col:], t.k.Stride, s.n, t.d)
	gather(v, t.v.Data[s.row*t.v.Stride+col:], t.v.Stride, s.n, t.d)
}

// attend computes rows r0 to r1 of the round for head h.
func (t *causalTask) attend(buf *attentionBuffer, s *causalSeq, h, r0, r1 int) {
	rows, d := r1-r0, t.d
	at, end := s.keys(h, d, r0, r1)
	k, v, keys := s.cache.K.Data()[at:end], s.cache.V.Data()[at:end], (end-at)/d
	k0 := s.first + r1 - keys // position of the first key
	buf.q, buf.scores = freelist.Grown(buf.q, rows*d), freelist.Grown(buf.scores, rows*keys)
	q, scores := buf.q[:rows*d], buf.scores[:rows*keys]
	col := t.cols.at(h, d)
	gather(q, t.q.Data[(s.row+r0)*t.q.Stride+col:], t.q.Stride, rows, d)
	kernel.Scale(q, t.scale, q)
	// By dot products at any number of rows: a row's bits must not depend on the others of its block.
	kernel.GemmNT(scores, keys, q, d, k, d, rows, keys, d, false)
	for i := range rows {
		row := scores[i*keys:][:keys]
		from, to := max(0, s.first+r0+i-s.cache.Window+1)-k0, s.first+r0+i+1-k0
		clear(row[:from])
		kernel.Scale(row[from:to], task.ExpRow(row[from:to], 0), row[from:to])
		clear(row[to:])
	}
	dst := t.dst.Data[(s.row+r0)*t.dst.Stride+h*d:]
	kernel.GemmNN(dst, t.dst.Stride, scores, keys, v, d, rows, d, keys, false)
	if t.gate.Data == nil {
		return
	}
	for i := range rows {
		y := dst[i*t.dst.Stride:][:d]
		kernel.Mul(y, y, t.gate.Data[(s.row+r0+i)*t.gate.Stride+col:][:d])
	}
}

// makeRoom drops rows that no later position attends to, if the cache is full.
func (c *KVCache) makeRoom() {
	heads, capacity, d := c.K.Dim(0), c.K.Dim(1), c.K.Dim(2)
	if c.Len < capacity {
		return
	}
	keep := min(c.Len, c.Window-1)
	for h := range heads {
		to, from := h*capacity*d, (h*capacity+c.Len-keep)*d
		copy(c.K.Data()[to:][:keep*d], c.K.Data()[from:])
		copy(c.V.Data()[to:][:keep*d], c.V.Data()[from:])
	}
	c.Len = keep
}
