package tensor

import (
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// unary checks the operands of dst = f(x) and runs op over them.
func unary(name string, op func(*task.Rows, int), dst, x *Tensor) {
	SameShape(name, dst, x)
	task.OverRows(task.Rows{Op: op, Dst: dst.Matrix(), A: x.Matrix()})
}

// binary checks the operands of dst = f(a, b) and runs op over them as a step of q.
func binary(q *Sequence, name string, op func(*task.Rows, int), dst, a, b *Tensor) {
	SameShape(name, dst, a)
	SameShape(name, dst, b)
	q.AddRows(task.Rows{Op: op, Dst: dst.Matrix(), A: a.Matrix(), B: b.Matrix()})
}

// Add computes dst = a + b, all of one shape; dst may be an operand.
func Add(dst, a, b *Tensor) {
	binary(nil, "Add", func(t *task.Rows, r int) {
		kernel.Add(t.Dst.Row(r), t.A.Row(r), t.B.Row(r))
	}, dst, a, b)
}

// AddVector computes dst = x + v for each row of x [T, C], v [C]; dst may be x.
func AddVector(dst, x, v *Tensor) {
	SameShape("AddVector", dst, x)
	task.OverRows(task.Rows{Op: func(t *task.Rows, r int) {
		kernel.Add(t.Dst.Row(r), t.A.Row(r), t.C)
	}, Dst: dst.Matrix(), A: x.Matrix(), C: Vector("AddVector", v, dst.cols())})
}

// Mul computes dst = a ⊙ b, all of one shape; dst may be an operand.
func Mul(dst, a, b *Tensor) { (*Sequence)(nil).Mul(dst, a, b) }

// Mul adds a product element by element to the sequence; see the function of that name.
func (q *Sequence) Mul(dst, a, b *Tensor) {
	binary(q, "Mul", func(t *task.Rows, r int) {
		kernel.Mul(t.Dst.Row(r), t.A.Row(r), t.B.Row(r))
	}, dst, a, b)
}

// AddMul computes dst += a ⊙ b, all of one shape.
func AddMul(dst, a, b *Tensor) {
	SameShape("AddMul", dst, a, b)
	t := task.Sums{Op: func(t *task.Sums, r int, _, tmp []float32) {
		d, tmp := t.Out[0].Row(r), tmp[:t.N]
		kernel.Mul(tmp, t.In[0].Row(r), t.In[1].Row(r))
		kernel.Add(d, d, tmp)
	}, N: dst.cols(), Tmp: 1}
	t.In[0], t.In[1], t.Out[0] = a.Matrix(), b.Matrix(), dst.Matrix()
	task.OverRowSums(&t)
}

// Scale computes dst = a·x, both of one shape; dst may be x.
func Scale(dst, x *Tensor, a float32) {
	SameShape("Scale", dst, x)
	task.OverRows(task.Rows{Op: func(t *task.Rows, r int) { kernel.Scale(t.Dst.Row(r), t.X, t.A.Row(r)) }, Dst: dst.Matrix(), A: x.Matrix(), X: a})
}

// Apply computes dst = act(x), both of one shape; dst may be x.
func Apply(act Act, dst, x *Tensor) { (*Sequence)(nil).Apply(act, dst, x, nil) }

// Apply adds dst = act(x + bias) to the sequence, dst and x of one shape [R, N] and bias [N], or nil for 0; dst may
// be x.
func (q *Sequence) Apply(act Act, dst, x, bias *Tensor) {
	SameShape("Apply", dst, x)
	q.AddRows(task.Rows{Op: applyRow, Dst: dst.Matrix(), A: x.Matrix(), C: Vector("Apply", bias, dst.cols()), Groups: int(act)})
}

func applyRow(t *task.Rows, r int) {
	d, x := t.Dst.Row(r), t.A.Row(r)
	switch {
	case t.C != nil:
		kernel.Add(d, x, t.C)
	case !t.Dst.Same(t.A):
		copy(d, x)
	}
	Act(t.Groups).apply(d)
}

// Mix computes the token shift of RWKV: dst = x + (prev−x) ⊙ maa, with dst, x and prev [T, C]
// and maa [C]. dst may be x or prev.
func Mix(dst, x, prev, maa *Tensor) {
	SameShape("Mix", dst, x, prev)
	v := Vector("Mix", maa, dst.cols())
	task.OverRows(task.Rows{Op: mixRow, Dst: dst.Matrix(), A: x.Matrix(), B: prev.Matrix(), C: v})
}

func mixRow(t *task.Rows, r int) {
	kernel.Mix(t.Dst.Row(r), t.A.Row(r), t.B.Row(r), t.C)
}

// Vector returns the n elements of a tensor of any shape; nil gives nil.
func Vector(op string, t *Tensor, n int) []float32 {
	if t == nil {
		return nil
	}
	v := t.Data()
	if len(v) != n {
		panic("tensor: " + op + ": vector " + task.FormatShape(t.Shape()...) + " for rows of " + task.FormatShape(n))
	}
	return v
}

// Softmax computes dst = softmax(x) over each row; dst may be x.
func Softmax(dst, x *Tensor) {
	unary("Softmax", func(t *task.Rows, r int) {
		d := t.Dst.Row(r)
		copy(d, t.A.Row(r))
		kernel.Scale(d, task.ExpRow(d, 0), d)
	}, dst, x)
}

// MixTensor computes dst = x + (y−x) ⊙ w, all of one shape; dst may be an operand.
func MixTensor(dst, x, y, w *Tensor) { (*Sequence)(nil).MixTensor(dst, x, y, w) }

// MixTensor adds a mix to the sequence; see the function of that name.
func (q *Sequence) MixTensor(dst, x, y, w *Tensor) {
	for _, t := range [...]*Tensor{dst, x, y, w} {
		SameShape("MixTensor", dst, t)
	}
	q.AddRows(task.Rows{Op: func(t *task.Rows, r int) {
		kernel.Mix(t.Dst.Row(r), t.A.Row(r), t.B.Row(r), t.E.Row(r))
	}, Dst: dst.Matrix(), A: x.Matrix(), B: y.Matrix(), E: w.Matrix()})
}
