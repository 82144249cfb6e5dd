package tensor

import (
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// RowProducts computes dst = x·M with a matrix for each row: row i of dst [R, N] is row i of x [R, K]
// times row i of m [R, K·N], read as [K, N]. dst must not overlap the operands.
func RowProducts(dst, x, m *Tensor) {
	if dst.rows() != x.rows() || dst.rows() != m.rows() || x.cols()*dst.cols() != m.cols() {
		panic("tensor: RowProducts: dst " + task.FormatShape(dst.Shape()...) + ", x " + task.FormatShape(x.Shape()...) + ", m " + task.FormatShape(m.Shape()...))
	}
	task.OverRows(task.Rows{Op: func(t *task.Rows, r int) {
		kernel.GemmNN(t.Dst.Row(r), t.N, t.A.Row(r), t.A.Cols, t.B.Row(r), t.N, 1, t.N, t.A.Cols, false)
	}, Dst: dst.Matrix(), A: x.Matrix(), B: m.Matrix()})
}
