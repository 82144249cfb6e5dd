package tensor

import (
	"sort"

	"microrwkv/tensor/internal/kernel"
)

// Mixed is one blend that TokenShift makes.
type Mixed struct {
	Dst *Tensor // [R, C]
	Mix *Tensor // [C]
}

// maxMixed is how many blends one call of TokenShift makes.
const maxMixed = 6

// TokenShift blends each row of x [R, C] with the row before it in its sequence, once for each of
// outs:
//
//	Dst = x + (x' − x) ⊙ Mix
//
// Sequence i has rows spans[i] to spans[i+1]. Before its first row comes last(i) [C], which then
// becomes its last row; nil stands for zeros that nobody keeps. The destinations must not overlap
// x or each other.
func TokenShift(x *Tensor, spans []int, last func(i int) []float32, outs ...Mixed) {
	if len(outs) > maxMixed {
		panic("tensor: TokenShift: too many outputs")
	}
	t := shiftTasks.get()
	t.x, t.rows, t.n, t.outs = x.matrix(), x.rows(), x.cols(), len(outs)
	for i, o := range outs {
		sameShape("TokenShift", o.Dst, x)
		t.dst[i], t.mix[i] = o.Dst.matrix(), vector("TokenShift Mix", o.Mix, t.n)
	}
	t.spans = append(t.spans[:0], spans...)
	t.last = t.last[:0]
	for i := range len(spans) - 1 {
		l := last(i)
		if l != nil && len(l) != t.n {
			panic("tensor: TokenShift: a last row of " + formatShape([]int{len(l)}) + " for rows of " + formatShape([]int{t.n}))
		}
		t.last = append(t.last, l)
	}
	if len(t.zeros) < t.n {
		t.zeros = make([]float32, t.n)
	}
	t.block = max(minRowWork/max(t.n*len(outs), 1), (t.rows+4*Threads()-1)/(4*Threads()), 1)
	Parallel((t.rows+t.block-1)/t.block, t)
	for i, l := range t.last {
		if l != nil && spans[i] < spans[i+1] {
			copy(l, x.Row(spans[i+1]-1))
		}
	}
	clear(t.last)
	t.x, t.dst, t.mix = matrix{}, [maxMixed]matrix{}, [maxMixed][]float32{}
	shiftTasks.put(t)
}

var shiftTasks = newFreelist[shiftTask]()

type shiftTask struct {
	x       matrix
	rows, n int
	dst     [maxMixed]matrix
	mix     [maxMixed][]float32
	outs    int
	spans   []int
	last    [][]float32
	zeros   []float32
	block   int
}

// Run computes one block of rows.
func (t *shiftTask) Run(piece int) {
	from, to := piece*t.block, min((piece+1)*t.block, t.rows)
	seq := sort.SearchInts(t.spans, from+1) - 1 // the last one that begins at or before from
	for r := from; r < to; r++ {
		for seq+1 < len(t.last) && t.spans[seq+1] <= r {
			seq++
		}
		prev := t.zeros[:t.n]
		if r > t.spans[seq] {
			prev = t.x.row(r-1, t.n)
		} else if l := t.last[seq]; l != nil {
			prev = l
		}
		x := t.x.row(r, t.n)
		for i := range t.outs {
			kernel.Mix(t.dst[i].row(r, t.n), x, prev, t.mix[i])
		}
	}
}
