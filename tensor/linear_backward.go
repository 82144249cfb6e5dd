package tensor

import (
	"fmt"
	"slices"

	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// The backward pass of Linear.

// matrix returns a weight of type F32 by its rows.
func (w *Weight) matrix(op string) task.Matrix {
	if w.dtype != F32 || w.ndim != 2 {
		panic(fmt.Sprintf("tensor: %s: a weight %s of type %v", op, task.FormatShape(w.Shape()...), w.dtype))
	}
	return task.Matrix{Data: kernel.View[float32](w.memory()), Stride: w.stride / 4, Rows: w.shape[0], Cols: w.shape[1]}
}

// Gradient is what goes back through y = x·wᵀ, for dy [R, out], x [R, in], and w and dw [out, in] of type
// F32:
//
//	DX = dy·w         or DX += dy·w if Add
//	DW += dyᵀ·x
//	DB += Σ of the rows of dy
//
// Without DX, W isn't used, without DW, X and DB aren't; a nil DB isn't computed. DX must not overlap DY or X.
type Gradient struct {
	DX, DY, X *Tensor
	W, DW     *Weight
	DB        *Tensor // [out]
	Add       bool
}

// maxGradients is how many gradients one call of LinearBackward takes.
const maxGradients = 8

// LinearBackward computes gradients that don't depend on each other, at most eight. Given together they
// are spread over the threads in one go. Those that follow each other may have the same DX, all but the first of
// them with Add: whoever computes a part of it adds to it in their order.
func LinearBackward(gs ...Gradient) {
	if len(gs) > maxGradients {
		panic("tensor: LinearBackward: too many gradients")
	}
	t := gradientTasks.Get()
	t.inputs, t.weights = 0, 0
	pieces, work := 0, 0
	for i := range gs { // the pieces of weights are the larger ones: they come first
		if g := &gs[i]; g.DW != nil {
			w := &t.weight[t.weights]
			t.weights++
			pieces = w.set(g, pieces)
			work += w.dw.Rows * w.dw.Cols * w.x.Rows
		}
	}
	for i := range gs {
		if g := &gs[i]; g.DX != nil {
			d := &t.input[t.inputs]
			t.inputs++
			if i > 0 && gs[i-1].DX == g.DX {
				d.follow(g, &t.input[t.inputs-2])
			} else {
				pieces = d.set(g, pieces)
			}
			work += d.dx.Rows * d.w.Rows * d.w.Cols
		}
	}
	task.Spread(pieces, work, t)
	*t = gradientTask{}
	gradientTasks.Put(t)
}

// GradInput is the part of LinearBackward that computes dx.
func GradInput(dx, dy *Tensor, w *Weight, add bool) {
	LinearBackward(Gradient{DX: dx, DY: dy, W: w, Add: add})
}

// GradWeight is the part of LinearBackward that adds to dw.
func GradWeight(dw *Weight, dy, x *Tensor) { LinearBackward(Gradient{DW: dw, DY: dy, X: x}) }

var gradientTasks = freelist.New[gradientTask]()

// gradientTask is a call of LinearBackward.
type gradientTask struct {
	weight          [maxGradients]gradWeight
	input           [maxGradients]gradInput
	weights, inputs int
}

// Run computes one piece.
func (t *gradientTask) Run(piece int) {
	for i := t.inputs - 1; i >= 0; i-- {
		if d := &t.input[i]; piece >= d.first && !d.follows {
			d.run(piece - d.first)
			for i++; i < t.inputs && t.input[i].follows; i++ {
				t.input[i].run(piece - d.first)
			}
			return
		}
	}
	for i := t.weights - 1; i >= 0; i-- {
		if w := &t.weight[i]; piece >= w.first {
			w.run(piece - w.first)
			return
		}
	}
}

// gradInput is one dx = dy·w, cut into blocks of rows and columns.
type gradInput struct {
	dx, dy, w                     task.Matrix
	add                           bool
	first                         int  // its first piece
	follows                       bool // is added to the one before it, by its pieces
	rowBlocks, rowBlock, colBlock int
}

// set plans the pieces from number first on, and returns the number after them.
func (d *gradInput) set(g *Gradient, first int) int {
	d.take(g)
	d.first = first
	if d.dx.Rows == 0 || d.dx.Cols == 0 {
		return first
	}
	// A piece packs its columns of w, so it has many rows; columns are cut if that leaves too few pieces.
	const rows, cols = 512, 48
	pieces := 3 * Threads()
	if d.w.Rows*d.w.Cols <= 1<<17 {
		d.rowBlock = min(max(((d.dx.Rows+pieces-1)/pieces+7)/8*8, 64), rows)
		d.rowBlocks = (d.dx.Rows + d.rowBlock - 1) / d.rowBlock
		d.colBlock = d.dx.Cols
		return first + d.rowBlocks
	}
	d.rowBlocks = (d.dx.Rows + rows - 1) / rows
	d.rowBlock = (d.dx.Rows + d.rowBlocks - 1) / d.rowBlocks
	d.colBlock = d.dx.Cols
	if d.rowBlocks < pieces {
		parts := min((pieces+d.rowBlocks-1)/d.rowBlocks, (d.dx.Cols+cols-1)/cols)
		d.colBlock = alignCols((d.dx.Cols + parts - 1) / parts)
	}
	return first + d.rowBlocks*((d.dx.Cols+d.colBlock-1)/d.colBlock)
}

// take takes the operands.
func (d *gradInput) take(g *Gradient) {
	*d = gradInput{dx: g.DX.Matrix(), dy: g.DY.Matrix(), w: g.W.matrix("LinearBackward"), add: g.Add}
	if d.dy.Cols != d.w.Rows || d.dx.Cols != d.w.Cols || d.dx.Rows != d.dy.Rows {
		panic("tensor: LinearBackward: dx " + task.FormatShape(g.DX.Shape()...) + ", dy " + task.FormatShape(g.DY.Shape()...) + ", w " + task.FormatShape(g.W.Shape()...))
	}
}

// follow takes the operands of what is added to the dx of the one before, in its pieces.
func (d *gradInput) follow(g *Gradient, before *gradInput) {
	if !g.Add {
		panic("tensor: LinearBackward: two gradients of one DX that don't add")
	}
	d.take(g)
	d.follows, d.first = true, before.first
	d.rowBlocks, d.rowBlock, d.colBlock = before.rowBlocks, before.rowBlock, before.colBlock
}

// run computes one block of rows and columns.
func (d *gradInput) run(piece int) {
	r0, c0 := piece%d.rowBlocks*d.rowBlock, piece/d.rowBlocks*d.colBlock
	m, n := min(d.rowBlock, d.dx.Rows-r0), min(d.colBlock, d.dx.Cols-c0)
	if m <= 0 || n <= 0 {
		return
	}
	dx := d.dx.Data[r0*d.dx.Stride+c0:]
	if d.w.Rows == 0 {
		kernel.GemmNN(dx, d.dx.Stride, nil, 0, nil, n, m, n, 0, d.add)
		return
	}
	kernel.GemmNN(dx, d.dx.Stride, d.dy.Data[r0*d.dy.Stride:], d.dy.Stride, d.w.Data[c0:], d.w.Stride, m, n, d.w.Rows, d.add)
}

// gradWeightRows is the rows of x and dy that are summed at once, whatever the number of threads: their parts
// for a block of dw stay in a cache.
const gradWeightRows = 512

// gradWeight is one dw += dyᵀ·x, cut into blocks of rows.
type gradWeight struct {
	dw, dy, x task.Matrix
	db        []float32 // nil: there is none
	first     int       // its first piece
	block     int       // rows of dw that share one reading of x
}

// set plans the pieces from number first on, and returns the number after them.
func (w *gradWeight) set(g *Gradient, first int) int {
	*w = gradWeight{dw: g.DW.matrix("LinearBackward"), dy: g.DY.Matrix(), x: g.X.Matrix(), first: first}
	if w.dy.Cols != w.dw.Rows || w.x.Cols != w.dw.Cols || w.x.Rows != w.dy.Rows {
		panic("tensor: LinearBackward: dw " + task.FormatShape(g.DW.Shape()...) + ", dy " + task.FormatShape(g.DY.Shape()...) + ", x " + task.FormatShape(g.X.Shape()...))
	}
	if g.DB != nil {
		w.db = Vector("LinearBackward", g.DB, w.dw.Rows)
	}
	const least, most = 16, 384
	w.block = (w.dw.Rows + 2*Threads() - 1) / (2 * Threads())
	w.block = min(max((w.block+7)/8*8, least), most)
	return first + (w.dw.Rows+w.block-1)/w.block
}

// run computes one block of rows of dw.
func (w *gradWeight) run(piece int) {
	o := piece * w.block
	m := min(w.block, w.dw.Rows-o)
	if w.db != nil {
		w.bias(o, m)
	}
	for r := 0; r < w.x.Rows; r += gradWeightRows {
		kernel.GemmTN(w.dw.Data[o*w.dw.Stride:], w.dw.Stride, w.dy.Data[r*w.dy.Stride+o:], w.dy.Stride, w.x.Data[r*w.x.Stride:], w.x.Stride,
			m, w.dw.Cols, min(gradWeightRows, w.x.Rows-r), true)
	}
}

const (
	biasRows = 32 // that are summed in float32
	biasCols = 64 // that are summed at a time
)

// ones are the factors of rows in their sum.
var ones = slices.Repeat([]float32{1}, biasRows)

// bias adds the sums of m columns of dy from o on to db: blocks of rows are added in float32, by a product, and
// the blocks in float64.
func (w *gradWeight) bias(o, m int) {
	buf := biasBuffers.Get()
	for ; m > 0; o, m = o+biasCols, m-biasCols {
		n := min(m, biasCols)
		block, sums := buf.block[:n], buf.sums[:n]
		clear(sums)
		for r := 0; r < w.dy.Rows; r += biasRows {
			k := min(biasRows, w.dy.Rows-r)
			kernel.GemmNN(block, n, ones, biasRows, w.dy.Data[r*w.dy.Stride+o:], w.dy.Stride, 1, n, k, false)
			for i, s := range block {
				sums[i] += float64(s)
			}
		}
		for i, s := range sums {
			w.db[o+i] += float32(s)
		}
	}
	biasBuffers.Put(buf)
}

var biasBuffers = freelist.New[biasBuffer]()

type biasBuffer struct {
	block [biasCols]float32
	sums  [biasCols]float64
}

// GradBias computes db += Σ of the rows of dy [R, n], db with n elements.
func GradBias(db, dy *Tensor) {
	t := task.Sums{Op: func(t *task.Sums, r int, sums, _ []float32) { kernel.Add(sums, sums, t.In[0].Row(r)) }, N: dy.cols()}
	t.In[0] = dy.Matrix()
	t.Sum[0] = Vector("GradBias", db, dy.cols())
	task.OverRowSums(&t)
}
