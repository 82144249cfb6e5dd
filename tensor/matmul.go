package tensor

import (
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// MatMul computes dst = a·b for float32 a [M, K], b [K, N] and dst [M, N]. dst must not overlap
// the operands. For weights, stored [out, in], there is Linear.
func MatMul(dst, a, b *Tensor) {
	if dst.ndim != 2 || a.ndim != 2 || b.ndim != 2 || a.shape[1] != b.shape[0] || dst.shape[0] != a.shape[0] || dst.shape[1] != b.shape[1] {
		panic("tensor: MatMul: dst " + task.FormatShape(dst.Shape()...) + ", a " + task.FormatShape(a.Shape()...) + ", b " + task.FormatShape(b.Shape()...))
	}
	t := matMulTasks.Get()
	*t = matMulTask{dst: dst.Matrix(), a: a.Matrix(), b: b.Matrix(), m: a.shape[0], n: b.shape[1], k: a.shape[1]}
	// Columns are cut, not rows, so that each part of b is read by one goroutine.
	t.block = max((t.n+4*Threads()-1)/(4*Threads()), 64)
	t.block = (t.block + 15) / 16 * 16
	if t.m > 0 {
		task.Spread((t.n+t.block-1)/t.block, t.m*t.n*t.k, t)
	}
	*t = matMulTask{}
	matMulTasks.Put(t)
}

var matMulTasks = freelist.New[matMulTask]()

type matMulTask struct {
	dst, a, b      task.Matrix
	m, n, k, block int
}

// Run computes block columns of the product.
func (t *matMulTask) Run(piece int) {
	c := piece * t.block
	n := min(t.block, t.n-c)
	if t.k == 0 {
		kernel.GemmNN(t.dst.Data[c:], t.dst.Stride, nil, 0, nil, n, t.m, n, 0, false)
		return
	}
	kernel.GemmNN(t.dst.Data[c:], t.dst.Stride, t.a.Data, t.a.Stride, t.b.Data[c:], t.b.Stride, t.m, n, t.k, false)
}
