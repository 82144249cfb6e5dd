package wkv

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Mix7Forward is V7 with all that a time mix of RWKV-7 does by head before and after it, while a head's
// values are in the cache (Peng et al., arXiv:2503.14456):
//
//	w ← exp(Scale·w);  v ← v + (VFirst − v) ⊙ M
//	κ = k ⊙ KK, each head divided by its norm;  k ← k + (k⊙a − k) ⊙ KA;  b = κ ⊙ a
//	S ← S·diag(w) − (S·κ)·bᵀ + v·kᵀ;  y = S·r
//	y ← (norm(y) + (Σ_head r ⊙ RK ⊙ k) v) ⊙ G
//
// All matrices are [R, H·N]. W, K, V and R are overwritten, Kappa, B and Y are written.
type Mix7Forward struct {
	Heads       int
	Scale       float32
	R, W, K, V  *tensor.Tensor
	A           *tensor.Tensor
	VFirst, M   *tensor.Tensor // nil: V stays
	Kappa, B, Y *tensor.Tensor
	KK, KA, RK  *tensor.Tensor // [H·N]
	Norm        HeadNorm       // with G as its Gate
}

// leastNorm is the smallest norm that a head of κ is divided by.
const leastNorm = 1e-12

// Run computes it; spans and state are as for V7.
func (m *Mix7Forward) Run(spans []int, state func(i int) []float32) {
	t := wkvTasks.Get()
	t.set("Mix7Forward", m.Heads, m.Y, m.R, m.K, m.V, m.W, m.Kappa, m.B)
	c := m.Y.Dim(-1)
	x := &t.mix7
	x.scale = m.Scale
	x.a = t.like("a", m.A)
	if m.M != nil {
		x.first, x.m = t.like("VFirst", m.VFirst), t.like("M", m.M)
	}
	x.kk, x.ka, x.rk = tensor.Vector("Mix7Forward", m.KK, c), tensor.Vector("Mix7Forward", m.KA, c), tensor.Vector("Mix7Forward", m.RK, c)
	t.norm("Mix7Forward", m.Y, &m.Norm)
	t.normed, t.head = false, mix7Head
	t.run(spans, state)
}

// like returns a matrix of y's shape.
func (t *wkvTask) like(name string, x *tensor.Tensor) task.Matrix {
	m := x.Matrix()
	if m.Rows != t.y.Rows || m.Cols != t.y.Cols {
		panic("wkv: Mix7Forward: " + name + " " + task.FormatShape(x.Shape()...) + " for y " + task.FormatShape(t.y.Rows, t.y.Cols))
	}
	return m
}

// mix7 is what a wkvTask keeps of a Mix7Forward beside the operands of V7.
type mix7 struct {
	scale       float32
	a, first, m task.Matrix // the last two are empty if v stays
	kk, ka, rk  []float32
}

// mix7Head computes rows from to to of one head, whose values begin at column col.
func mix7Head(t *wkvTask, s []float32, col, from, to int) {
	x, c0, c1 := &t.mix7, col, col+t.n
	part := func(m *task.Matrix, i int) []float32 { return m.Data[i*m.Stride:][c0:c1] }
	for i := from; i < to; i++ {
		k, v, w, kappa, b, a := part(&t.in[1], i), part(&t.in[2], i), part(&t.in[3], i), part(&t.in[4], i), part(&t.in[5], i), part(&x.a, i)
		if x.m.Data != nil {
			kernel.Mix(v, v, part(&x.first, i), part(&x.m, i))
		}
		kernel.Scale(w, x.scale, w)
		kernel.Exp(w, w)
		kernel.Mul(kappa, k, x.kk[c0:c1])
		norm := math.Sqrt(float64(kernel.SumSquares(kappa, 0)))
		kernel.Scale(kappa, float32(1/max(norm, leastNorm)), kappa)
		kernel.Mul(b, k, a)
		kernel.Mix(k, k, b, x.ka[c0:c1]) // k + (k⊙a − k) ⊙ KA
		kernel.Mul(b, kappa, a)
	}
	v7Head(t, s, col, from, to)
	for i := from; i < to; i++ {
		r, k, v, y := part(&t.in[0], i), part(&t.in[1], i), part(&t.in[2], i), part(&t.y, i)
		task.Normalize(y, y, t.gain[c0:c1], t.bias[c0:c1], t.eps)
		kernel.Mul(r, r, x.rk[c0:c1])
		kernel.Axpy(y, kernel.Dot(r, k), v)
		kernel.Mul(y, y, part(&t.gate, i))
	}
}
