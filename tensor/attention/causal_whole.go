package attention

import (
	"math"
	"slices"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// CausalWhole is Causal for sequences that begin at their first row, without a cache: heads is their
// number, window the positions that one attends to, its own included. softmaxes [2·heads, rows] gets two rows
// for each head, its largest scores and the inverses of its softmaxes' denominators, by which CausalBackward
// computes the softmaxes again.
func CausalWhole(dst, softmaxes, q, k, v, gate *tensor.Tensor, heads, window int, cols HeadColumns, scale float32, spans []int) {
	t := causalWholeTasks.Get()
	pairs := t.set("CausalWhole", dst, softmaxes, q, k, v, gate, heads, window, cols, scale, spans)
	task.Spread((len(spans)-1)*heads, 3*pairs*t.d, t)
	*t = causalWholeTask{wholeSequences{spans: t.spans}}
	causalWholeTasks.Put(t)
}

var causalWholeTasks = freelist.New[causalWholeTask]()

// wholeSequences are the operands of causal attention in sequences that begin at their first row, and
// its output, or the gradient of it, y.
type wholeSequences struct {
	y, q, k, v, gate task.Matrix
	softmaxes        task.Matrix
	heads, d, window int
	cols             HeadColumns
	scale            float32
	spans            []int
}

// set takes the arguments of the operation op, and returns how many pairs of positions attend to each
// other, in all heads.
func (t *wholeSequences) set(op string, y, softmaxes, q, k, v, gate *tensor.Tensor, heads, window int, cols HeadColumns, scale float32, spans []int) (pairs int) {
	t.y, t.q, t.k, t.v, t.gate = y.Matrix(), q.Matrix(), k.Matrix(), v.Matrix(), task.Matrix{}
	if gate != nil {
		t.gate = gate.Matrix()
	}
	t.heads, t.window, t.cols, t.scale, t.d = heads, window, cols, scale, y.Dim(-1)/heads
	for _, x := range [...]*tensor.Tensor{q, k, v} {
		t.check(op, y, x)
	}
	if t.softmaxes = softmaxes.Matrix(); t.softmaxes.Rows != 2*heads || t.softmaxes.Cols != y.Dim(0) {
		panic("attention: " + op + ": output " + task.FormatShape(y.Shape()...) + ", softmaxes " + task.FormatShape(softmaxes.Shape()...))
	}
	t.spans = append(t.spans[:0], spans...)
	for i := range len(spans) - 1 {
		n := spans[i+1] - spans[i]
		pairs += n * min(n, window) * heads
	}
	return pairs
}

// check panics if x hasn't the rows of y and columns for all heads.
func (t *wholeSequences) check(op string, y, x *tensor.Tensor) {
	if t.heads*t.d != y.Dim(-1) || x.Dim(0) != y.Dim(0) || x.Dim(1) < t.cols.at(t.heads-1, t.d)+t.d {
		panic("attention: " + op + ": output " + task.FormatShape(y.Shape()...) + ", operand " + task.FormatShape(x.Shape()...))
	}
}

// A head is computed in blocks of queries: blockLanes of them side by side in the columns of their scores, whose
// rows are the keys up to the block's last. So the scores that a softmax adds up are in one lane each, and few
// of them are hidden by the mask.
const blockLanes = 32

// wholeHead is a head of a sequence: n positions from row first on, in columns from col on.
type wholeHead struct{ h, first, n, col int }

// queryBlock is a block of queries from position r0 on, and the keys that they attend to, from k0 on.
type queryBlock struct {
	r0, rows int
	lanes    int // rows, up to whole vectors
	k0, keys int
}

// head returns the head of a piece.
func (t *wholeSequences) head(piece int) wholeHead {
	seq, h := piece/t.heads, piece%t.heads
	return wholeHead{h, t.spans[seq], t.spans[seq+1] - t.spans[seq], t.cols.at(h, t.d)}
}

// block returns the block of queries from r0 on.
func (t *wholeSequences) block(h wholeHead, r0 int) queryBlock {
	rows, k0 := min(blockLanes, h.n-r0), max(0, r0-t.window+1)
	return queryBlock{r0, rows, (rows + 15) &^ 15, k0, r0 + rows - k0}
}

// at returns what m has from a position of the head on.
func (h wholeHead) at(m *task.Matrix, position int) []float32 {
	return m.Data[(h.first+position)*m.Stride+h.col:]
}

// turned returns n rows of d numbers at x, ld apart, as columns in b, in rows of blockLanes.
func turned(b *[]float32, x []float32, ld, n, d int) []float32 {
	*b = freelist.Grown(*b, d*blockLanes)
	kernel.Transpose(*b, blockLanes, x, ld, n, d)
	return (*b)[:d*blockLanes]
}

// causalWholeTask is the forward pass.
type causalWholeTask struct{ wholeSequences }

// Run computes one head of one sequence.
func (t *causalWholeTask) Run(piece int) {
	h := t.head(piece)
	if h.n == 0 {
		return
	}
	buf := backwardBuffers.Get()
	for r0 := 0; r0 < h.n; r0 += blockLanes {
		t.attend(buf, h, t.block(h, r0))
	}
	backwardBuffers.Put(buf)
}

// attend computes a block of queries.
func (t *causalWholeTask) attend(buf *backwardBuffer, h wholeHead, b queryBlock) {
	p := t.scores(buf, h, b)
	most, factors := buf.most[:b.lanes], buf.factors[:b.lanes]
	kernel.ExpColumns(p, blockLanes, b.keys, b.lanes, most, factors)
	for i, sum := range factors {
		factors[i] = 1 / sum
	}
	copy(t.softmaxes.Row(2 * h.h)[h.first+b.r0:], most[:b.rows])
	copy(t.softmaxes.Row(2*h.h + 1)[h.first+b.r0:], factors[:b.rows])
	out := t.output(buf, h, b, p, &t.v)
	scaleColumns(out, factors)
	if t.gate.Data != nil {
		kernel.Mul(out, out, turned(&buf.gate, h.at(&t.gate, b.r0), t.gate.Stride, b.rows, t.d))
	}
	kernel.Transpose(t.y.Data[(h.first+b.r0)*t.y.Stride+h.h*t.d:], t.y.Stride, out, blockLanes, t.d, b.rows)
}

// scores computes the scaled products of the keys of a block with its queries, [keys, lanes] in rows of
// blockLanes; −Inf where a position doesn't attend.
func (t *wholeSequences) scores(buf *backwardBuffer, h wholeHead, b queryBlock) []float32 {
	q := turned(&buf.qt, h.at(&t.q, b.r0), t.q.Stride, b.rows, t.d)
	kernel.Scale(q, t.scale, q)
	buf.p = freelist.Grown(buf.p, b.keys*blockLanes)
	p := buf.p[:b.keys*blockLanes]
	kernel.GemmNN(p, blockLanes, h.at(&t.k, b.k0), t.k.Stride, q, blockLanes, b.keys, b.lanes, t.d, false)
	for i := 1; i < b.rows; i++ { // the keys after a query
		copy(p[(b.keys-b.rows+i)*blockLanes:][:i], hidden)
	}
	for i := 0; b.k0+i+t.window < b.r0+b.rows; i++ { // the keys before its window
		from := b.k0 + i + t.window - b.r0
		copy(p[i*blockLanes+from:][:b.rows-from], hidden)
	}
	return p
}

// hidden is the scores of keys that aren't attended to.
var hidden = slices.Repeat([]float32{float32(math.Inf(-1))}, blockLanes)

// output computes the products of the keys' rows of x with p, whose columns are a block's queries: [d, lanes] in rows
// of blockLanes.
func (t *wholeSequences) output(buf *backwardBuffer, h wholeHead, b queryBlock, p []float32, x *task.Matrix) []float32 {
	buf.out = freelist.Grown(buf.out, t.d*blockLanes)
	out := buf.out[:t.d*blockLanes]
	kernel.GemmTN(out, blockLanes, h.at(x, b.k0), x.Stride, p, blockLanes, t.d, b.lanes, b.keys, false)
	return out
}

// scaleColumns multiplies the columns of x, whose rows are blockLanes apart, by their factors.
func scaleColumns(x, factors []float32) {
	for i := 0; i < len(x); i += blockLanes {
		row := x[i:][:len(factors)]
		kernel.Mul(row, row, factors)
	}
}
