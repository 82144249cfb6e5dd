package tensor

import (
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// ScatterAdd computes dw[ids[r]] += dy[r] for each row of dy [R, C], in the order of the rows: the
// gradient of an embedding's table dw [V, C] of type F32.
func ScatterAdd(dw *Weight, dy *Tensor, ids []int) {
	t := scatterTasks.Get()
	t.dw, t.dy, t.ids = dw.matrix("ScatterAdd"), dy.Matrix(), ids
	if t.dw.Cols != t.dy.Cols || len(ids) != t.dy.Rows {
		panic("tensor: ScatterAdd: dw " + task.FormatShape(dw.Shape()...) + ", dy " + task.FormatShape(dy.Shape()...) + ", ids " + task.FormatShape(len(ids)))
	}
	task.Spread((t.dw.Cols+scatterCols-1)/scatterCols, t.dy.Rows*t.dy.Cols, t)
	*t = scatterTask{}
	scatterTasks.Put(t)
}

// scatterCols is the columns of a piece, which goes over all rows.
const scatterCols = 64

var scatterTasks = freelist.New[scatterTask]()

type scatterTask struct {
	dw, dy task.Matrix
	ids    []int
}

// Run adds some columns of every row.
func (t *scatterTask) Run(piece int) {
	from, to := piece*scatterCols, min((piece+1)*scatterCols, t.dw.Cols)
	for r, id := range t.ids {
		dst := t.dw.Row(id)[from:to]
		kernel.Add(dst, dst, t.dy.Row(r)[from:to])
	}
}
