package tensor

import (
	"fmt"
	"sync"

	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Transpose returns a copy of a weight with two dimensions, with rows and columns exchanged: of the same
// type, but of F32 if that has blocks of several numbers, which lie along the rows. Of what Turned returned
// it is the weight that was turned, and no copy.
func (w *Weight) Transpose() *Weight {
	w.checkTranspose("Transpose")
	if w.later != nil {
		return w.later.from.WithActivations(w.activations)
	}
	if block, _ := w.dtype.Block(); block != 1 {
		return w.Float32().Weight().WithActivations(w.activations).Transpose()
	}
	return NewWeight(w.dtype, transposed(w), w.shape[1], w.shape[0]).WithActivations(w.activations)
}

// Turned is Transpose that copies the numbers when they are first asked for. Until then w must not change.
// It is for weights of which mostly the other form is used: that is w, which Transpose gives back.
func (w *Weight) Turned() *Weight {
	w.checkTranspose("Turned")
	if block, _ := w.dtype.Block(); block != 1 || w.later != nil || w.Len() == 0 {
		return w.Transpose()
	}
	v := &Weight{dims: newDims([]int{w.shape[1], w.shape[0]}), dtype: w.dtype, later: &turning{from: w}, activations: w.activations}
	v.stride = v.dtype.Bytes(v.cols())
	return v
}

func (w *Weight) checkTranspose(op string) {
	if w.ndim != 2 {
		panic(fmt.Sprintf("tensor: %s of %s, %v", op, task.FormatShape(w.Shape()...), w.dtype))
	}
}

// turning is a copy that is made once it is asked for.
type turning struct {
	from *Weight
	mu   sync.Mutex // no Once: reading a mapped file may panic, and the next one who asks finds that too
	data []byte
}

// bytes returns the copy.
func (t *turning) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data == nil {
		t.data = transposed(t.from)
	}
	return t.data
}

// transposed returns the numbers of a weight without blocks, column by column.
func transposed(w *Weight) []byte {
	_, size := w.dtype.Block()
	rows, cols := w.shape[0], w.shape[1]
	data := make([]byte, rows*cols*size)
	if size == 2 {
		kernel.Transpose16(kernel.View[uint16](data), rows, kernel.View[uint16](w.memory()), w.stride/size, rows, cols)
	} else {
		kernel.Transpose(kernel.View[float32](data), rows, kernel.View[float32](w.memory()), w.stride/size, rows, cols)
	}
	return data
}
