package attention

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// CausalWhole is Causal for sequences that begin at their first row, without a cache: heads is their
// number, window the positions that one attends to, its own included. logSums [R, heads] gets the logarithm
// of each softmax's denominator, which is all that CausalBackward needs to compute it again.
func CausalWhole(dst, logSums, q, k, v, gate *tensor.Tensor, heads, window int, cols HeadColumns, scale float32, spans []int) {
	t := causalWholeTasks.Get()
	pairs := t.set("CausalWhole", dst, logSums, q, k, v, gate, heads, window, cols, scale, spans)
	task.Spread((len(spans)-1)*heads, 3*pairs*t.d, t)
	*t = causalWholeTask{wholeSequences{spans: t.spans}}
	causalWholeTasks.Put(t)
}

var causalWholeTasks = freelist.New[causalWholeTask]()

// wholeSequences are the operands of causal attention in sequences that begin at their first row, and
// its output, or the gradient of it, y.
type wholeSequences struct {
	y, q, k, v, gate task.Matrix
	logSums          task.Matrix
	heads, d, window int
	cols             HeadColumns
	scale            float32
	spans            []int
}

// set takes the arguments of the operation op, and returns how many pairs of positions attend to each
// other, in all heads.
func (t *wholeSequences) set(op string, y, logSums, q, k, v, gate *tensor.Tensor, heads, window int, cols HeadColumns, scale float32, spans []int) (pairs int) {
	t.y, t.q, t.k, t.v, t.gate = y.Matrix(), q.Matrix(), k.Matrix(), v.Matrix(), task.Matrix{}
	if gate != nil {
		t.gate = gate.Matrix()
	}
	t.heads, t.window, t.cols, t.scale, t.d = heads, window, cols, scale, y.Dim(-1)/heads
	for _, x := range [...]*tensor.Tensor{q, k, v} {
		t.check(op, y, x)
	}
	if t.logSums = logSums.Matrix(); t.logSums.Rows != y.Dim(0) || t.logSums.Cols != heads {
		panic("attention: " + op + ": output " + task.FormatShape(y.Shape()...) + ", sums of softmaxes " + task.FormatShape(logSums.Shape()...))
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

// causalWholeTask is the forward pass.
type causalWholeTask struct{ wholeSequences }

// Run computes one head of one sequence.
func (t *causalWholeTask) Run(piece int) {
	seq, h := piece/t.heads, piece%t.heads
	first, n, d, col := t.spans[seq], t.spans[seq+1]-t.spans[seq], t.d, t.cols.at(h, t.d)
	if n == 0 {
		return
	}
	buf := backwardBuffers.Get()
	kt := t.keys(buf, first, n, col)
	v, ldv := t.v.Data[first*t.v.Stride+col:], t.v.Stride
	for r0 := 0; r0 < n; r0 += attentionRows {
		rows := min(attentionRows, n-r0)
		k0 := max(0, r0-t.window+1)
		keys := r0 + rows - k0
		buf.p, buf.sums = freelist.Grown(buf.p, rows*keys), freelist.Grown(buf.sums, rows)
		p := buf.p[:rows*keys]
		t.exponentials(p, buf.sums, first, h, col, kt[k0:], n, r0, k0, rows, keys)
		dst := t.y.Data[(first+r0)*t.y.Stride+h*d:]
		kernel.GemmNN(dst, t.y.Stride, p, keys, v[k0*ldv:], ldv, rows, d, keys, false)
		for i, f := range buf.sums[:rows] {
			y := dst[i*t.y.Stride:][:d]
			if t.gate.Data == nil {
				kernel.Scale(y, f, y)
				continue
			}
			gate := t.gate.Data[(first+r0+i)*t.gate.Stride+col:][:d]
			for j, g := range gate { // few columns
				y[j] = y[j] * f * g
			}
		}
	}
	backwardBuffers.Put(buf)
}

// keys returns the scaled keys of a head, transposed: [d, n].
func (t *wholeSequences) keys(buf *backwardBuffer, first, n, col int) []float32 {
	buf.kt = freelist.Grown(buf.kt, n*t.d)
	kt := buf.kt[:n*t.d]
	kernel.Transpose(kt, n, t.k.Data[first*t.k.Stride+col:], t.k.Stride, n, t.d)
	kernel.Scale(kt, t.scale, kt)
	return kt
}

// scores computes the scaled products of rows from r0 on with keys from k0 on, kt with rows of n.
func (t *wholeSequences) scores(p []float32, first, col int, kt []float32, n, r0, rows, keys int) {
	kernel.GemmNN(p, keys, t.q.Data[(first+r0)*t.q.Stride+col:], t.q.Stride, kt, n, rows, keys, t.d, false)
}

// attends returns the columns of keys from k0 on that position i attends to.
func (t *wholeSequences) attends(i, k0 int) (from, to int) {
	return max(0, i-t.window+1) - k0, i + 1 - k0
}

// exponentials computes rows from r0 on over keys from k0 on that are softmaxes once they are multiplied by
// what it leaves in factors; zeros where a position doesn't attend.
func (t *wholeSequences) exponentials(p, factors []float32, first, h, col int, kt []float32, n, r0, k0, rows, keys int) {
	t.scores(p, first, col, kt, n, r0, rows, keys)
	for i := range rows {
		row := p[i*keys:][:keys]
		from, to := t.attends(r0+i, k0)
		// Whole vectors: what surrounds the scores in theirs is -Inf, whose exponential is 0.
		begin, end := from&^15, min((to+15)&^15, keys)
		clear(row[:begin])
		fill(row[begin:from], negInf)
		fill(row[to:end], negInf)
		scores := row[begin:end]
		most := kernel.Max(scores)
		sum := kernel.ExpSum(scores, scores, most)
		factors[i] = 1 / sum
		t.logSums.Row(first + r0 + i)[h] = most + float32(math.Log(float64(sum)))
		clear(row[end:])
	}
}

// softmaxes computes what exponentials does, multiplied, by the sums that it left.
func (t *wholeSequences) softmaxes(p []float32, first, h, col int, kt []float32, n, r0, k0, rows, keys int) {
	t.scores(p, first, col, kt, n, r0, rows, keys)
	for i := range rows {
		row := p[i*keys:][:keys]
		kernel.Norm(row, row, t.logSums.Row(first + r0 + i)[h], 1, nil, nil)
	}
	kernel.Exp(p, p) // all at once; where a position doesn't attend it may be anything
	for i := range rows {
		row := p[i*keys:][:keys]
		from, to := t.attends(r0+i, k0)
		clear(row[:from])
		clear(row[to:])
	}
}

var negInf = float32(math.Inf(-1))

// fill sets x to v.
func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}
