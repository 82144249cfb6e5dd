// Package shift has the token shift of RWKV: each row of a sequence is blended with the one before it.
package shift

import (
	"sort"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Mixed is one blend that Tokens makes.
type Mixed struct {
	Dst *tensor.Tensor // [R, C]
	Mix *tensor.Tensor // [C], or nil for 1: the row before
}

// maxMixed is how many blends one call of Tokens makes.
const maxMixed = 6

// Tokens blends each row of x [R, C] with the row before it in its sequence, once for each of
// outs:
//
//	Dst = x + (x' − x) ⊙ Mix
//
// Sequence i has rows spans[i] to spans[i+1]. Before its first row comes last(i) [C], which then
// becomes its last row; nil stands for zeros that nobody keeps. The destinations must not overlap
// x or each other.
func Tokens(x *tensor.Tensor, spans []int, last func(i int) []float32, outs ...Mixed) {
	if len(outs) > maxMixed {
		panic("shift: Tokens: too many outputs")
	}
	t := shiftTasks.Get()
	t.x, t.rows, t.n, t.outs = x.Matrix(), x.Matrix().Rows, x.Dim(-1), len(outs)
	for i, o := range outs {
		tensor.SameShape("Tokens", o.Dst, x)
		t.dst[i], t.mix[i] = o.Dst.Matrix(), tensor.Vector("Tokens Mix", o.Mix, t.n)
	}
	t.spans = append(t.spans[:0], spans...)
	t.last = t.last[:0]
	for i := range len(spans) - 1 {
		l := last(i)
		if l != nil && len(l) != t.n {
			panic("shift: Tokens: a last row of " + task.FormatShape(len(l)) + " for rows of " + task.FormatShape(t.n))
		}
		t.last = append(t.last, l)
	}
	if len(t.zeros) < t.n {
		t.zeros = make([]float32, t.n)
	}
	t.block = max(task.MinRowWork/max(t.n*len(outs), 1), (t.rows+4*task.Threads()-1)/(4*task.Threads()), 1)
	task.Parallel((t.rows+t.block-1)/t.block, t)
	for i, l := range t.last {
		if l != nil && spans[i] < spans[i+1] {
			copy(l, x.Row(spans[i+1]-1))
		}
	}
	clear(t.last)
	t.x, t.dst, t.mix = task.Matrix{}, [maxMixed]task.Matrix{}, [maxMixed][]float32{}
	shiftTasks.Put(t)
}

var shiftTasks = freelist.New[shiftTask]()

type shiftTask struct {
	x       task.Matrix
	rows, n int
	dst     [maxMixed]task.Matrix
	mix     [maxMixed][]float32
	outs    int
	spans   []int
	last    [][]float32
	zeros   []float32
	block   int
}

// shiftRows is how many rows of x are blended in all ways while they are in the nearest cache.
const shiftRows = 32

// Run computes one block of rows.
func (t *shiftTask) Run(piece int) {
	from, to := piece*t.block, min((piece+1)*t.block, t.rows)
	seq := sort.SearchInts(t.spans, from+1) - 1 // the last one that begins at or before from
	for from < to {
		for seq+1 < len(t.last) && t.spans[seq+1] <= from {
			seq++
		}
		end := min(from+shiftRows, to)
		if seq+1 < len(t.last) {
			end = min(end, t.spans[seq+1])
		}
		t.blend(seq, from, end)
		from = end
	}
}

// blend computes rows of a sequence.
func (t *shiftTask) blend(seq, from, to int) {
	prev := t.zeros[:t.n]
	if from > t.spans[seq] {
		prev = t.x.Row(from - 1)
	} else if l := t.last[seq]; l != nil {
		prev = l
	}
	for i := range t.outs {
		dst := &t.dst[i]
		if t.mix[i] != nil {
			kernel.MixRows(dst.Data[from*dst.Stride:], dst.Stride, t.x.Data[from*t.x.Stride:], t.x.Stride, prev, t.mix[i], to-from)
			continue
		}
		copy(dst.Row(from), prev)
		for r := from + 1; r < to; r++ {
			copy(dst.Row(r), t.x.Row(r-1))
		}
	}
}
