package wkv

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Mix7Forward is V7 with all that a time mix of RWKV-7 does by head before and after it, while a head's
// values are in the cache (Peng et al., arXiv:2503.14456), by the names of Mix7:
//
//	w = exp(Scale·s);  v = v0 + (VFirst − v0) ⊙ m
//	κ = k0 ⊙ KK, each head divided by its norm;  k = k0 + (k0⊙a − k0) ⊙ KA;  b = κ ⊙ a
//	S ← S·diag(w) − (S·κ)·bᵀ + v·kᵀ;  y = S·r
//	n = norm(y) + (Σ_head r ⊙ RK ⊙ k) v;  out = n ⊙ gate
//
// All matrices are [R, H·N]. What is computed may lie where its source does: W in S, K in K0, V in V0, N in Y,
// and Out in N.
type Mix7Forward struct {
	Heads      int
	Scale      float32
	R, A       *tensor.Tensor
	S, W       *tensor.Tensor
	K0, K      *tensor.Tensor
	V0, V      *tensor.Tensor // without an M the same
	VFirst, M  *tensor.Tensor // M is nil in the first block
	Kappa, B   *tensor.Tensor // written
	Y, N, Out  *tensor.Tensor
	KK, KA, RK *tensor.Tensor // [H·N]
	Norm       HeadNorm       // with its Gate
}

// leastNorm is the smallest norm that a head of κ is divided by.
const leastNorm = 1e-12

// Run computes it as a step of q; spans and state are as for V7.
func (m *Mix7Forward) Run(q *tensor.Sequence, spans []int, state func(i int) []float32) {
	t := wkvTasks.Get()
	t.set("Mix7Forward", m.Heads, m.Y, m.R, m.K, m.V, m.W, m.Kappa, m.B)
	if m.M == nil && m.V != m.V0 {
		panic("wkv: Mix7Forward: v isn't v0, and nothing is mixed into it")
	}
	c := m.Y.Dim(-1)
	x := &t.mix7
	x.scale = m.Scale
	x.a, x.s, x.k0, x.v0, x.n, x.out = t.like("a", m.A), t.like("s", m.S), t.like("k0", m.K0), t.like("v0", m.V0), t.like("n", m.N), t.like("out", m.Out)
	if m.M != nil {
		x.first, x.m = t.like("vFirst", m.VFirst), t.like("m", m.M)
	}
	x.kk, x.ka, x.rk = tensor.Vector("Mix7Forward", m.KK, c), tensor.Vector("Mix7Forward", m.KA, c), tensor.Vector("Mix7Forward", m.RK, c)
	t.norm("Mix7Forward", m.Y, &m.Norm)
	t.normed, t.head = false, mix7Head // which does it itself
	t.run(q, spans, state)
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
	scale                       float32
	a, s, k0, v0, n, out, first task.Matrix
	m                           task.Matrix // empty if v stays
	kk, ka, rk                  []float32
}

// mix7Head computes rows from to to of one head, whose values begin at column col.
func mix7Head(t *wkvTask, s []float32, kept bool, col, from, to int) {
	x, c0, c1 := &t.mix7, col, col+t.n
	part := func(m *task.Matrix, i int) []float32 { return m.Data[i*m.Stride:][c0:c1] }
	for i := from; i < to; i++ {
		k0, k, w, kappa, b, a := part(&x.k0, i), part(&t.in[1], i), part(&t.in[3], i), part(&t.in[4], i), part(&t.in[5], i), part(&x.a, i)
		if x.m.Data != nil {
			kernel.Mix(part(&t.in[2], i), part(&x.v0, i), part(&x.first, i), part(&x.m, i))
		}
		kernel.Scale(w, x.scale, part(&x.s, i))
		kernel.Exp(w, w)
		kernel.Mul(kappa, k0, x.kk[c0:c1])
		norm := math.Sqrt(float64(kernel.SumSquares(kappa, 0)))
		kernel.Scale(kappa, float32(1/max(norm, leastNorm)), kappa)
		kernel.Mul(b, k0, a)
		kernel.Mix(k, k0, b, x.ka[c0:c1]) // k0 + (k0⊙a − k0) ⊙ KA
		kernel.Mul(b, kappa, a)
	}
	v7Head(t, s, kept, col, from, to)
	buf := wkvBuffers.Get()
	buf.r = freelist.Grown(buf.r, t.n)
	rk := buf.r[:t.n]
	for i := from; i < to; i++ {
		n := part(&x.n, i)
		kernel.Normalize(n, part(&t.y, i), t.gain[c0:c1], t.bias[c0:c1], nil, 1, t.eps)
		kernel.Mul(rk, part(&t.in[0], i), x.rk[c0:c1])
		kernel.Axpy(n, kernel.Dot(rk, part(&t.in[1], i)), part(&t.in[2], i))
		kernel.Mul(part(&x.out, i), n, part(&t.gate, i))
	}
	wkvBuffers.Put(buf)
}
