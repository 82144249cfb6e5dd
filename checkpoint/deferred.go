package checkpoint

import (
	"fmt"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
	"microrwkv/tensor"
)

// Deferred is a tensor to write that is made when its turn comes, so that a file may have more than fits
// in memory.
type Deferred struct {
	Name  string
	DType tensor.DType // in the file
	Shape []int
	// Make returns the tensor, of that shape. Of another float type than DType it is converted, as with As;
	// blocks are of DType itself. It is called at most once in formats other than PyTorch's.
	Make func() (*tensor.Weight, error)
}

// WriteDeferred is Write for tensors that are made one after the other. Which comes when is the format's
// choice: those of a GGUF file in the order of the list.
func WriteDeferred(path string, tensors []Deferred, values map[string]any, opts ...WriteOption) error {
	write, err := writerFor(path)
	if err != nil {
		return err
	}
	var items []*item
	for _, d := range tensors {
		it := &item{name: d.Name, dtype: d.DType, from: d.DType}
		for _, n := range d.Shape {
			it.shape = append(it.shape, int64(n))
		}
		it.same = it
		it.bytes = func() ([]byte, error) {
			w, err := d.Make()
			if err != nil {
				return nil, err
			}
			if it.from = w.DType(); store.Blocked(it.dtype) && it.from != it.dtype || fmt.Sprint(w.Shape()) != fmt.Sprint(d.Shape) {
				return nil, &Error{"", d.Name, fmt.Errorf("it was made %v %v, want %v %v", w.DType(), w.Shape(), it.dtype, d.Shape)}
			}
			return w.Packed().Bytes(), nil
		}
		items = append(items, it)
	}
	return writeItems(path, items, inOrder(values), opts, write)
}

// inOrder returns values in the order in which files have them.
func inOrder(values map[string]any) *pickle.Dict {
	d := &pickle.Dict{}
	for _, k := range keyOrder(values) {
		d.Keys, d.Values = append(d.Keys, k), append(d.Values, values[k])
	}
	return d
}

// Converted returns the type that As among the options converts to, 0 if there is none.
func Converted(opts ...WriteOption) tensor.DType {
	o := &writeOptions{}
	for _, set := range opts {
		set(o)
	}
	return o.dtype
}
