package tensor

import (
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Activations says what products make of their activations, the rows of X, before they multiply them with
// a weight. The zero value is exact.
type Activations = kernel.Activations

const (
	F32Activations  = kernel.Exact           // float32, as they are
	Q8Activations   = kernel.Q8Activations   // 8 bits, with a float32 scale for each 32 numbers
	BF16Activations = kernel.BF16Activations // bfloat16; the weights are rounded to it too
)

// RoundsActivations reports whether the kernels in use have products of weights of type d with such
// activations.
func RoundsActivations(a Activations, d DType) bool { return kernel.Rounds(a, d) }

// round rounds the activations of those products whose weights ask for it, once for products that follow
// each other with the same X.
func (t *linearTask) round(ps []Product) {
	for i := range ps {
		p := &ps[i]
		t.rounded[i] = nil
		a := p.W.activations
		if a == kernel.Exact || !kernel.Rounds(a, p.W.dtype) || p.X.rows() == 0 || p.X.cols() == 0 {
			continue
		}
		if i > 0 && t.rounded[i-1] != nil && ps[i-1].X == p.X && ps[i-1].W.activations == a {
			t.rounded[i] = t.rounded[i-1]
			continue
		}
		x := p.X.Matrix()
		r := kernel.NewRounded(a, x.Rows, x.Cols)
		t.rounded[i] = r
		rt := roundTasks.Get()
		rt.x, rt.rounded = x, r
		task.Spread(r.Groups(x.Rows), x.Rows*x.Cols, rt)
		*rt = roundTask{}
		roundTasks.Put(rt)
	}
}

// free gives back what round took.
func (t *linearTask) free() {
	for i, r := range t.rounded {
		t.rounded[i] = nil
		if r != nil && (i+1 == len(t.rounded) || t.rounded[i+1] != r) { // its last use
			r.Free()
		}
	}
}

// roundTask is the rounding of a matrix, a group of its rows at a time.
type roundTask struct {
	x       task.Matrix
	rounded *kernel.Rounded
}

var roundTasks = freelist.New[roundTask]()

// Run rounds a group.
func (t *roundTask) Run(group int) { t.rounded.Round(group, t.x.Data, t.x.Stride, t.x.Rows) }
