package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// V4Start is the running maximum of an empty sequence's state: see [V4].
const V4Start = -1e30

// V4 computes the recurrence of RWKV-4 for each channel of each sequence (Peng et al.,
// arXiv:2305.13048): a mean of the values with weights e^k that decay, the newest one's with a bonus u.
//
//	q = max(p, u+k);   y = (e^{p−q} a + e^{u+k−q} v) / (e^{p−q} b + e^{u+k−q})
//	q = max(p+w, k);   a ← e^{p+w−q} a + e^{k−q} v;   b ← e^{p+w−q} b + e^{k−q};   p ← q
//
// where p is a running maximum that keeps all exponents at or below 0. y, k and v are [R, C], w and u
// [C], w below 0. Sequence i has rows spans[i] to spans[i+1] and goes on from the state that state(i)
// returns, [3, C] with a, b and p in its rows, and updates it; an empty sequence has a = b = 0 and p =
// V4Start. y must not overlap the operands. It is computed as a step of q.
func V4(q *tensor.Sequence, y, k, v *tensor.Tensor, w, u []float32, spans []int, state func(i int) []float32) {
	tensor.SameShape("V4", y, k, v)
	c := y.Dim(-1)
	if len(w) != c || len(u) != c {
		panic("wkv: V4: w " + task.FormatShape(len(w)) + ", u " + task.FormatShape(len(u)) + " for rows of " + task.FormatShape(c))
	}
	t := v4Tasks.Get()
	t.y, t.k, t.v, t.w, t.u, t.n = y.Matrix(), k.Matrix(), v.Matrix(), w, u, c
	t.spans, t.states = append(t.spans[:0], spans...), t.states[:0]
	for i := range len(spans) - 1 {
		s := state(i)
		if len(s) != 3*c {
			panic("wkv: V4: state of " + task.FormatShape(len(s)) + " elements for rows of " + task.FormatShape(c))
		}
		t.states = append(t.states, s)
	}
	t.parts = (c + v4Channels - 1) / v4Channels
	const work = 32 // multiplications that a channel of a row costs as much as
	q.Add(len(t.states)*t.parts, work*spans[len(spans)-1]*c, t)
}

// End gives the task back.
func (t *v4Task) End() {
	clear(t.states)
	t.y, t.k, t.v, t.w, t.u = task.Matrix{}, task.Matrix{}, task.Matrix{}, nil, nil
	v4Tasks.Put(t)
}

const (
	v4Channels = 64 // of a piece
	v4Rows     = 16 // whose exponents are computed together
)

var v4Tasks = freelist.New[v4Task]()

// v4Task is the channels of a batch of sequences; a piece is v4Channels of one sequence.
type v4Task struct {
	y, k, v task.Matrix
	w, u    []float32
	n       int
	parts   int // pieces of a sequence
	spans   []int
	states  [][]float32
}

// v4Buffer is the scratch of one piece: of each row and channel the differences p − (u+k) and
// (p+w) − k, and e to minus their absolute values. One of the two exponentials in each sum is that,
// the other one is 1.
type v4Buffer struct{ now, next, expNow, expNext [v4Rows * v4Channels]float32 }

var v4Buffers = freelist.New[v4Buffer]()

// Run computes one piece.
func (t *v4Task) Run(piece int) {
	seq, from := piece/t.parts, piece%t.parts*v4Channels
	to := min(from+v4Channels, t.n)
	state := t.states[seq]
	a, b, p := state[from:to], state[t.n+from:t.n+to], state[2*t.n+from:2*t.n+to]
	buf := v4Buffers.Get()
	for row := t.spans[seq]; row < t.spans[seq+1]; row += v4Rows {
		end := min(row+v4Rows, t.spans[seq+1])
		t.exponents(buf, p, row, end, from, to)
		t.sums(buf, a, b, row, end, from, to)
	}
	v4Buffers.Put(buf)
}

// exponents fills the buffer for rows row to end and channels from to to, and moves p on. It doesn't
// need a and b.
func (t *v4Task) exponents(buf *v4Buffer, p []float32, row, end, from, to int) {
	w, u := t.w[from:to], t.u[from:to]
	size := 0
	for i := row; i < end; i++ {
		k := t.k.Row(i)[from:to]
		now, next := buf.now[size:][:len(p)], buf.next[size:][:len(p)]
		expNow, expNext := buf.expNow[size:][:len(p)], buf.expNext[size:][:len(p)]
		for j, p0 := range p {
			kj := k[j]
			d := p0 - (u[j] + kj)
			now[j], expNow[j] = d, -max(d, -d)
			decayed := p0 + w[j]
			d = decayed - kj
			next[j], expNext[j] = d, -max(d, -d)
			p[j] = max(decayed, kj)
		}
		size += len(p)
	}
	kernel.Exp(buf.expNow[:size], buf.expNow[:size])
	kernel.Exp(buf.expNext[:size], buf.expNext[:size])
}

// sums computes y for rows row to end and channels from to to, and moves a and b on.
func (t *v4Task) sums(buf *v4Buffer, a, b []float32, row, end, from, to int) {
	at := 0
	for i := row; i < end; i++ {
		v, y := t.v.Row(i)[from:to], t.y.Row(i)[from:to]
		now, next := buf.now[at:][:len(a)], buf.next[at:][:len(a)]
		expNow, expNext := buf.expNow[at:][:len(a)], buf.expNext[at:][:len(a)]
		for j, vj := range v {
			e, f := float32(1), expNow[j] // of the past, of the present
			if now[j] < 0 {
				e, f = f, e
			}
			y[j] = (e*a[j] + f*vj) / (e*b[j] + f)
			e, f = 1, expNext[j]
			if next[j] < 0 {
				e, f = f, e
			}
			a[j], b[j] = e*a[j]+f*vj, e*b[j]+f
		}
		at += len(a)
	}
}
