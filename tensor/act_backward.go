package tensor

import (
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// ApplyBackward computes the gradient of Apply's input from that of its output, dy, and the output y
// itself, for SquareReLU, Sigmoid and Tanh: all of one shape; dx may be dy.
func ApplyBackward(act Act, dx, dy, y *Tensor) { (*Sequence)(nil).ApplyBackward(act, dx, dy, y) }

// ApplyBackward adds the gradients to the sequence; see the function of that name.
func (q *Sequence) ApplyBackward(act Act, dx, dy, y *Tensor) {
	switch act {
	case SquareReLU:
		binary(q, "SquareReLUBackward", func(t *task.Rows, r int) {
			kernel.SquareReLUGrad(t.Dst.Row(r), t.A.Row(r), t.B.Row(r))
		}, dx, dy, y)
	case Sigmoid:
		binary(q, "SigmoidBackward", func(t *task.Rows, r int) {
			dx, dy := t.Dst.Row(r), t.A.Row(r)
			for i, y := range t.B.Row(r) {
				dx[i] = dy[i] * y * (1 - y)
			}
		}, dx, dy, y)
	case Tanh:
		binary(q, "TanhBackward", func(t *task.Rows, r int) {
			dx, dy := t.Dst.Row(r), t.A.Row(r)
			for i, y := range t.B.Row(r) {
				dx[i] = dy[i] * (1 - y*y)
			}
		}, dx, dy, y)
	default:
		panic("tensor: ApplyBackward: an activation that its output doesn't tell")
	}
}

// GateBackward computes the gradients of y = a ⊙ r with r a sigmoid, from that of y: da = dy ⊙ r, and dz
// = dy ⊙ a ⊙ r(1−r), that of what goes into the sigmoid. All have one shape; da may be dy.
func GateBackward(da, dz, dy, a, r *Tensor) {
	SameShape("GateBackward", da, dz, dy, a, r)
	t := task.Sums{Op: func(t *task.Sums, row int, _, tmp []float32) {
		dy, a, da, dz := t.In[0].Row(row), t.In[1].Row(row), t.Out[0].Row(row), t.Out[1].Row(row)
		r, tmp := t.In[2].Row(row), tmp[:t.N]
		kernel.Mul(tmp, dy, r)
		kernel.Mul(dz, tmp, a)
		copy(da, tmp) // which may be dy
		kernel.Mul(tmp, dz, r)
		kernel.Axpy(dz, -1, tmp)
	}, N: dy.cols(), Tmp: 1}
	t.In[0], t.In[1], t.In[2], t.Out[0], t.Out[1] = dy.Matrix(), a.Matrix(), r.Matrix(), da.Matrix(), dz.Matrix()
	task.OverRowSums(&t)
}
