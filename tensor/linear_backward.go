package tensor

import (
	"fmt"

	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// The backward pass of Linear, y = x·wᵀ: dx = dy·w by GradInput, dw += dyᵀ·x by GradWeight and
// dbias += Σ dy by GradBias.

// matrix returns a weight of type F32 by its rows.
func (w *Weight) matrix(op string) task.Matrix {
	if w.dtype != F32 || w.ndim != 2 {
		panic(fmt.Sprintf("tensor: %s: a weight %s of type %v", op, task.FormatShape(w.Shape()...), w.dtype))
	}
	return task.Matrix{Data: kernel.View[float32](w.data), Stride: w.stride / 4, Rows: w.shape[0], Cols: w.shape[1]}
}

// GradInput computes dx = dy·w, or dx += dy·w if add, for dy [R, out], a weight w [out, in] of type
// F32 and dx [R, in]: the gradient of a Linear's input from that of its output. dx must not overlap
// dy.
func GradInput(dx, dy *Tensor, w *Weight, add bool) {
	m := w.matrix("GradInput")
	if dy.cols() != m.Rows || dx.cols() != m.Cols || dx.rows() != dy.rows() {
		panic("tensor: GradInput: dx " + task.FormatShape(dx.Shape()...) + ", dy " + task.FormatShape(dy.Shape()...) + ", w " + task.FormatShape(w.Shape()...))
	}
	t := gradInputTasks.Get()
	*t = gradInputTask{dx: dx.Matrix(), dy: dy.Matrix(), w: m, add: add}
	// A piece packs its columns of w, so it has many rows; columns are cut if that leaves too few pieces.
	const rows, cols = 192, 48
	pieces := 3 * Threads()
	t.rowBlocks = (t.dx.Rows + rows - 1) / rows
	t.rowBlock = (t.dx.Rows + max(t.rowBlocks, 1) - 1) / max(t.rowBlocks, 1)
	t.colBlock = t.dx.Cols
	if t.rowBlocks < pieces {
		parts := min((pieces+t.rowBlocks-1)/max(t.rowBlocks, 1), (t.dx.Cols+cols-1)/cols)
		t.colBlock = (t.dx.Cols + max(parts, 1) - 1) / max(parts, 1)
		t.colBlock = (t.colBlock + colAlign - 1) / colAlign * colAlign
	}
	colBlocks := (t.dx.Cols + max(t.colBlock, 1) - 1) / max(t.colBlock, 1)
	task.Spread(t.rowBlocks*colBlocks, t.dx.Rows*m.Rows*m.Cols, t)
	*t = gradInputTask{}
	gradInputTasks.Put(t)
}

var gradInputTasks = task.NewFreelist[gradInputTask]()

type gradInputTask struct {
	dx, dy, w                     task.Matrix
	add                           bool
	rowBlocks, rowBlock, colBlock int
}

// Run computes one block of rows and columns.
func (t *gradInputTask) Run(piece int) {
	r0, c0 := piece%t.rowBlocks*t.rowBlock, piece/t.rowBlocks*t.colBlock
	m, n := min(t.rowBlock, t.dx.Rows-r0), min(t.colBlock, t.dx.Cols-c0)
	if m <= 0 || n <= 0 {
		return
	}
	dx := t.dx.Data[r0*t.dx.Stride+c0:]
	if t.w.Rows == 0 {
		kernel.GemmNN(dx, t.dx.Stride, nil, 0, nil, n, m, n, 0, t.add)
		return
	}
	kernel.GemmNN(dx, t.dx.Stride, t.dy.Data[r0*t.dy.Stride:], t.dy.Stride, t.w.Data[c0:], t.w.Stride, m, n, t.w.Rows, t.add)
}

// GradWeight computes dw += dyᵀ·x for dy [R, out], x [R, in] and dw [out, in] of type F32: the
// gradient of a Linear's weight.
func GradWeight(dw *Weight, dy, x *Tensor) {
	m := dw.matrix("GradWeight")
	if dy.cols() != m.Rows || x.cols() != m.Cols || x.rows() != dy.rows() {
		panic("tensor: GradWeight: dw " + task.FormatShape(dw.Shape()...) + ", dy " + task.FormatShape(dy.Shape()...) + ", x " + task.FormatShape(x.Shape()...))
	}
	t := gradWeightTasks.Get()
	*t = gradWeightTask{dw: m, dy: dy.Matrix(), x: x.Matrix()}
	const least, most = 16, 128 // rows of dw that share one reading of x
	t.block = (m.Rows + 2*Threads() - 1) / (2 * Threads())
	t.block = min(max((t.block+7)/8*8, least), most)
	task.Spread((m.Rows+t.block-1)/t.block, m.Rows*m.Cols*t.x.Rows, t)
	*t = gradWeightTask{}
	gradWeightTasks.Put(t)
}

var (
	gradWeightTasks   = task.NewFreelist[gradWeightTask]()
	gradWeightBuffers = task.NewFreelist[gradWeightBuffer]()
)

// gradWeightRows is the rows of x that are summed at once, whatever the number of threads: with them
// the transposed part of dy stays in a cache.
const gradWeightRows = 512

type gradWeightBuffer struct{ t []float32 }

type gradWeightTask struct {
	dw, dy, x task.Matrix
	block     int
}

// Run computes one block of rows of dw.
func (t *gradWeightTask) Run(piece int) {
	o := piece * t.block
	m := min(t.block, t.dw.Rows-o)
	buf := gradWeightBuffers.Get()
	for r := 0; r < t.x.Rows; r += gradWeightRows {
		k := min(gradWeightRows, t.x.Rows-r)
		buf.t = task.Grown(buf.t, m*k)
		kernel.Transpose(buf.t, k, t.dy.Data[r*t.dy.Stride+o:], t.dy.Stride, k, m)
		kernel.GemmNN(t.dw.Data[o*t.dw.Stride:], t.dw.Stride, buf.t, k, t.x.Data[r*t.x.Stride:], t.x.Stride, m, t.dw.Cols, k, true)
	}
	gradWeightBuffers.Put(buf)
}

// GradBias computes db += Σ of the rows of dy [R, n], db with n elements.
func GradBias(db, dy *Tensor) {
	t := task.Sums{Op: func(t *task.Sums, r int, sums, _ []float32) { kernel.Add(sums, sums, t.In[0].Row(r)) }, N: dy.cols()}
	t.In[0] = dy.Matrix()
	t.Sum[0] = Vector("GradBias", db, dy.cols())
	task.OverRowSums(&t)
}
