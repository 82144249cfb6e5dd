package checkpoint

import (
	"microrwkv/checkpoint/internal/store"
	"microrwkv/tensor"
	"slices"
)

// Info describes a tensor of a file.
type Info struct {
	Name       string
	DType      DType
	Shape      []int
	Strides    []int  // in elements
	Storage    string // what holds the elements, if there are any; tensors with the same one may share them
	Offset     int    // first element, counted from the storage's beginning, in elements
	Contiguous bool   // elements follow each other in row-major order
}

// SameData reports whether two tensors of one file are the same elements in the same order, as
// tied weights are.
func (i Info) SameData(j Info) bool {
	return i.Storage != "" && i.Storage == j.Storage && i.DType == j.DType && i.Offset == j.Offset &&
		slices.Equal(i.Shape, j.Shape) && slices.Equal(i.Strides, j.Strides)
}

// Len returns the number of elements.
func (i Info) Len() int {
	n := 1
	for _, d := range i.Shape {
		n *= d
	}
	return n
}

// Info returns what the file says of a tensor, and whether there is one of that name.
func (f *File) Info(name string) (Info, bool) {
	t, ok := f.tensors[name]
	if !ok {
		return Info{}, false
	}
	return infoOf(name, t), true
}

func infoOf(name string, t *store.Tensor) Info {
	storage := ""
	if t.Rec != store.NoRecord {
		storage = t.Rec.Src.Name + ":" + t.Rec.Key
	}
	return Info{name, t.DType, store.Ints(t.Shape), store.Ints(t.Stride), storage, int(t.Offset), t.Contiguous()}
}

// Shape returns the shape of a tensor, and whether there is one of that name.
func (f *File) Shape(name string) ([]int, bool) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, false
	}
	return store.Ints(t.Shape), true
}

// Tensor returns a tensor in its own format: a view of the mapped file if its elements are float32, bfloat16, half
// precision or blocks of quantized weights and follow each other, else a copy. The copy of a float64 tensor is float32. A scalar
// has shape [1]. Tensors of integers and the like are an error, as are elements that the file
// doesn't have. Errors are of type *Error and name file and tensor.
func (f *File) Tensor(name string) (*tensor.Weight, error) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, f.fail(name, ErrNotFound)
	}
	var out *tensor.Weight
	err := store.Guard(func() (err error) {
		out, err = t.Load()
		return err
	})
	if err != nil {
		return nil, f.fail(name, err)
	}
	return out, nil
}

func (f *File) fail(name string, err error) error { return &Error{f.name, name, err} }
