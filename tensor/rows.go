package tensor

import (
	"math"

	"microrwkv/tensor/internal/kernel"
)

// rowTask runs an operation over rows of up to five matrices, in blocks of rows.
type rowTask struct {
	op          func(t *rowTask, r int) // computes row r
	dst, a, b   matrix
	e           matrix
	c, d        []float32 // vectors that all rows share
	x           float32
	n           int // length of a row
	groups      int // parts of a row
	split       int // length of a row of the second operand, if that is another
	rows, block int
}

var rowTasks = newFreelist[rowTask]()

// minRowWork is the elements that make a piece worth handing to another goroutine.
const minRowWork = 8192

// Run computes one block of rows.
func (t *rowTask) Run(piece int) {
	for r := piece * t.block; r < min((piece+1)*t.block, t.rows); r++ {
		t.op(t, r)
	}
}

// overRows runs op over rows of n elements.
func overRows(rows, n int, task rowTask) {
	if rows == 0 || n == 0 {
		return
	}
	t := rowTasks.get()
	*t = task
	t.rows, t.n = rows, n
	t.block = max(minRowWork/n, (rows+4*Threads()-1)/(4*Threads()), 1)
	Parallel((rows+t.block-1)/t.block, t)
	*t = rowTask{}
	rowTasks.put(t)
}

// unary checks the operands of dst = f(x) and runs op over them.
func unary(name string, op func(*rowTask, int), dst, x *Tensor) {
	sameShape(name, dst, x)
	overRows(dst.rows(), dst.cols(), rowTask{op: op, dst: dst.matrix(), a: x.matrix()})
}

// binary checks the operands of dst = f(a, b) and runs op over them.
func binary(name string, op func(*rowTask, int), dst, a, b *Tensor) {
	sameShape(name, dst, a)
	sameShape(name, dst, b)
	overRows(dst.rows(), dst.cols(), rowTask{op: op, dst: dst.matrix(), a: a.matrix(), b: b.matrix()})
}

// Add computes dst = a + b, all of one shape; dst may be an operand.
func Add(dst, a, b *Tensor) {
	binary("Add", func(t *rowTask, r int) {
		kernel.Add(t.dst.row(r, t.n), t.a.row(r, t.n), t.b.row(r, t.n))
	}, dst, a, b)
}

// Mul computes dst = a ⊙ b, all of one shape; dst may be an operand.
func Mul(dst, a, b *Tensor) {
	binary("Mul", func(t *rowTask, r int) {
		kernel.Mul(t.dst.row(r, t.n), t.a.row(r, t.n), t.b.row(r, t.n))
	}, dst, a, b)
}

// Apply computes dst = act(x), both of one shape; dst may be x.
func Apply(act Act, dst, x *Tensor) {
	switch act {
	case SquareReLU:
		unary("SquareReLU", func(t *rowTask, r int) { kernel.SquareReLU(t.dst.row(r, t.n), t.a.row(r, t.n)) }, dst, x)
	case Sigmoid:
		unary("Sigmoid", func(t *rowTask, r int) { kernel.Sigmoid(t.dst.row(r, t.n), t.a.row(r, t.n)) }, dst, x)
	case SiLU:
		unary("SiLU", func(t *rowTask, r int) { kernel.SiLU(t.dst.row(r, t.n), t.a.row(r, t.n)) }, dst, x)
	case Tanh:
		unary("Tanh", func(t *rowTask, r int) { kernel.Tanh(t.dst.row(r, t.n), t.a.row(r, t.n)) }, dst, x)
	default:
		unary("Identity", func(t *rowTask, r int) { copy(t.dst.row(r, t.n), t.a.row(r, t.n)) }, dst, x)
	}
}

// Mix computes the token shift of RWKV: dst = x + (prev−x) ⊙ maa, with dst, x and prev [T, C]
// and maa [C]. dst may be x or prev.
func Mix(dst, x, prev, maa *Tensor) {
	sameShape("Mix", dst, x, prev)
	v := vector("Mix", maa, dst.cols())
	overRows(dst.rows(), dst.cols(), rowTask{op: mixRow, dst: dst.matrix(), a: x.matrix(), b: prev.matrix(), c: v})
}

func mixRow(t *rowTask, r int) {
	kernel.Mix(t.dst.row(r, t.n), t.a.row(r, t.n), t.b.row(r, t.n), t.c)
}

// vector returns the n elements of a float32 tensor of any shape; nil gives nil.
func vector(op string, t *Tensor, n int) []float32 {
	if t == nil {
		return nil
	}
	v := t.Data()
	if len(v) != n {
		panic("tensor: " + op + ": vector " + formatShape(t.Shape()) + " for rows of " + formatShape([]int{n}))
	}
	return v
}

// Softmax computes dst = softmax(x) over each row; dst may be x.
func Softmax(dst, x *Tensor) {
	unary("Softmax", func(t *rowTask, r int) {
		d := t.dst.row(r, t.n)
		copy(d, t.a.row(r, t.n))
		kernel.Scale(d, expRow(d, 0), d)
	}, dst, x)
}

// Mixture computes dst[t] = Σ_j p[t,j] · x[t, j·S … (j+1)·S) for j < n, where p = softmax(logits) over each
// row, with dst [T, S], x [T, n·S] and logits [T, E], E ≥ n, which it overwrites. dst must not overlap
// x.
func Mixture(dst, x, logits *Tensor) {
	size := dst.cols()
	n := x.cols() / max(size, 1)
	if x.cols() != n*size || logits.cols() < n || x.rows() != dst.rows() || logits.rows() != dst.rows() {
		panic("tensor: Mixture: dst " + formatShape(dst.Shape()) + ", x " + formatShape(x.Shape()) + ", logits " + formatShape(logits.Shape()))
	}
	overRows(dst.rows(), size, rowTask{op: mixtureRow, dst: dst.matrix(), a: x.matrix(), b: logits.matrix(), groups: n, split: logits.cols()})
}

func mixtureRow(t *rowTask, r int) {
	dst, x, p := t.dst.row(r, t.n), t.a.row(r, t.n*t.groups), t.b.row(r, t.split)
	norm := expRow(p, 0)
	kernel.Scale(dst, norm*p[0], x[:t.n])
	for j := 1; j < t.groups; j++ {
		kernel.Axpy(dst, norm*p[j], x[j*t.n:][:t.n])
	}
}

// MulVector computes dst = x ⊙ v for each row of x [T, C], v [C]; dst may be x.
func MulVector(dst, x, v *Tensor) {
	sameShape("MulVector", dst, x)
	overRows(dst.rows(), dst.cols(), rowTask{op: func(t *rowTask, r int) {
		kernel.Mul(t.dst.row(r, t.n), t.a.row(r, t.n), t.c)
	}, dst: dst.matrix(), a: x.matrix(), c: vector("MulVector", v, dst.cols())})
}

// MixTensor computes dst = x + (y−x) ⊙ w, all of one shape; dst may be an operand.
func MixTensor(dst, x, y, w *Tensor) {
	for _, t := range [...]*Tensor{dst, x, y, w} {
		sameShape("MixTensor", dst, t)
	}
	overRows(dst.rows(), dst.cols(), rowTask{op: func(t *rowTask, r int) {
		kernel.Mix(t.dst.row(r, t.n), t.a.row(r, t.n), t.b.row(r, t.n), t.e.row(r, t.n))
	}, dst: dst.matrix(), a: x.matrix(), b: y.matrix(), e: w.matrix()})
}

// ExpScaled computes dst = exp(scale·x), both of one shape; dst may be x.
func ExpScaled(dst, x *Tensor, scale float32) {
	sameShape("ExpScaled", dst, x)
	overRows(dst.rows(), dst.cols(), rowTask{op: func(t *rowTask, r int) {
		d := t.dst.row(r, t.n)
		kernel.Scale(d, t.x, t.a.row(r, t.n))
		kernel.Exp(d, d)
	}, dst: dst.matrix(), a: x.matrix(), x: scale})
}

// NormalizeHeads divides each of heads equal parts of a row of x by its Euclidean norm, or by
// least if the norm is smaller; dst may be x.
func NormalizeHeads(dst, x *Tensor, heads int, least float32) {
	sameShape("NormalizeHeads", dst, x)
	checkHeads("NormalizeHeads", dst, heads)
	overRows(dst.rows(), dst.cols(), rowTask{op: func(t *rowTask, r int) {
		d, x := t.dst.row(r, t.n), t.a.row(r, t.n)
		size := t.n / t.groups
		for i := 0; i < t.n; i += size {
			norm := math.Sqrt(float64(kernel.SumSquares(x[i:][:size], 0)))
			kernel.Scale(d[i:][:size], float32(1/max(norm, float64(t.x))), x[i:][:size])
		}
	}, dst: dst.matrix(), a: x.matrix(), x: least, groups: heads})
}

// AddHeadDots computes dst += (a·b) v with one dot product for each of heads equal parts of a row,
// all of one shape; dst must not be an operand.
func AddHeadDots(dst, a, b, v *Tensor, heads int) {
	for _, t := range [...]*Tensor{dst, a, b, v} {
		sameShape("AddHeadDots", dst, t)
	}
	checkHeads("AddHeadDots", dst, heads)
	overRows(dst.rows(), dst.cols(), rowTask{op: func(t *rowTask, r int) {
		d, a, b, v := t.dst.row(r, t.n), t.a.row(r, t.n), t.b.row(r, t.n), t.e.row(r, t.n)
		size := t.n / t.groups
		for i := 0; i < t.n; i += size {
			kernel.Axpy(d[i:][:size], kernel.Dot(a[i:][:size], b[i:][:size]), v[i:][:size])
		}
	}, dst: dst.matrix(), a: a.matrix(), b: b.matrix(), e: v.matrix(), groups: heads})
}

// checkHeads panics unless rows can be cut into heads equal parts.
func checkHeads(op string, t *Tensor, heads int) {
	if heads <= 0 || t.cols()%heads != 0 {
		panic("tensor: " + op + ": " + formatShape(t.Shape()) + " in heads of " + formatShape([]int{heads}))
	}
}
