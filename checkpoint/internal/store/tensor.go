package store

import (
	"errors"
	"fmt"
	"math"
)

// Tensor is a tensor of a file: a strided window on a record.
type Tensor struct {
	Rec    *Record
	DType  DType
	Offset int64 // first element in the record, in elements
	Shape  []int64
	Stride []int64 // in elements

	Special string // what sort of tensor it is that has no plain elements to read, "" for all others
	Err     error  // why the tensor can't be used
}

// Identity tells which elements a tensor has: those of tied weights are the same.
type Identity struct {
	rec    *Record
	dtype  DType
	offset int64
	layout string
}

// Identity returns which elements the tensor has.
func (t *Tensor) Identity() Identity {
	return Identity{t.Rec, t.DType, t.Offset, fmt.Sprint(t.Shape, t.Stride)}
}

// PySetState ignores the attributes of a Tensor, which BUILD sets.
func (t *Tensor) PySetState(any) error { return nil }

// MaxDims is the most dimensions that PyTorch's tensors have.
const MaxDims = 64

// Extent returns the number of elements of a shape, and how many elements of its storage it spans,
// counted from its first one. It is not ok if they are negative or too many.
func Extent(shape, stride []int64) (n, last int64, ok bool) {
	n, last = 1, 1
	for i, d := range shape {
		if d < 0 || stride[i] < 0 {
			return 0, 0, false
		}
		if d == 0 {
			n = 0
		}
	}
	if n == 0 {
		return 0, 0, true
	}
	for i, d := range shape {
		if n > math.MaxInt64/d || d > 1 && stride[i] > (math.MaxInt64-last)/(d-1) {
			return 0, 0, false
		}
		n *= d
		last += (d - 1) * stride[i]
	}
	return n, last, true
}

// Numel returns the number of elements.
func (t *Tensor) Numel() int64 {
	n, _, _ := Extent(t.Shape, t.Stride)
	return n
}

// Contiguous reports whether the elements follow each other in row-major order.
func (t *Tensor) Contiguous() bool {
	want := int64(1)
	for i := len(t.Shape) - 1; i >= 0; i-- {
		if t.Shape[i] != 1 && t.Stride[i] != want {
			return t.Numel() == 0
		}
		want *= t.Shape[i]
	}
	return true
}

// RowMajor returns the strides of a contiguous tensor; shapes that make no sense are found out by
// extent.
func RowMajor(shape []int64) []int64 {
	stride := make([]int64, len(shape))
	n := int64(1)
	for i := len(shape) - 1; i >= 0; i-- {
		stride[i] = n
		if d := shape[i]; d > 0 && n <= math.MaxInt64/d {
			n *= d
		}
	}
	return stride
}

// Ints returns a shape or strides as ints.
func Ints(x []int64) []int {
	y := make([]int, len(x))
	for i, v := range x {
		y[i] = int(v)
	}
	return y
}

// Check reports why the elements can't be had.
func (t *Tensor) Check() error {
	if t.Special != "" {
		return errors.New(t.Special)
	}
	if t.Err != nil {
		return t.Err
	}
	if err := t.Rec.Locate(); err != nil {
		return err
	}
	n, last, ok := Extent(t.Shape, t.Stride)
	if !ok {
		return errors.New("a shape that makes no sense") // t.err has said so
	}
	numbers, _ := t.DType.Block()
	if numbers > 1 && (len(t.Shape) == 0 || t.Shape[len(t.Shape)-1]%int64(numbers) != 0) {
		return fmt.Errorf("shape %v: its rows aren't whole blocks of the %d of %v", t.Shape, numbers, t.DType)
	}
	if n == 0 {
		return nil
	}
	if t.Offset+last > t.Rec.Size/Size(t.DType)*int64(numbers) {
		return fmt.Errorf("needs %d bytes, its storage %q has %d", Bytes(t.DType, t.Offset+last), Clip(t.Rec.Key), t.Rec.Size)
	}
	// An expanded tensor, with strides of 0, may claim any number of elements.
	if n/int64(numbers) > max(t.Rec.Src.Size, 1<<20)/Size(t.DType) {
		return fmt.Errorf("%d elements, in a file of %d bytes", n, t.Rec.Src.Size)
	}
	return nil
}

// bytes returns the bytes from the first element to the last, in their order in the file.
func (t *Tensor) bytes() ([]byte, error) {
	_, last, _ := Extent(t.Shape, t.Stride)
	return t.Rec.Src.Bytes(t.Rec.Off+Bytes(t.DType, t.Offset), Bytes(t.DType, last))
}
