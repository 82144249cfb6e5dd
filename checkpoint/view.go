package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"microrwkv/tensor"
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
	return t.info(name), true
}

func (t *stored) info(name string) Info {
	storage := ""
	if t.rec != noRecord {
		storage = t.rec.src.name + ":" + t.rec.key
	}
	return Info{name, t.dtype, ints(t.shape), ints(t.stride), storage, int(t.offset), t.contiguous()}
}

// Shape returns the shape of a tensor, and whether there is one of that name.
func (f *File) Shape(name string) ([]int, bool) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, false
	}
	return ints(t.shape), true
}

func ints(x []int64) []int {
	y := make([]int, len(x))
	for i, v := range x {
		y[i] = int(v)
	}
	return y
}

// Tensor returns a tensor: a view of the mapped file if its elements are float32, bfloat16 or half
// precision and follow each other, else a copy. The copy of a float64 tensor is float32. A scalar
// has shape [1]. Tensors of integers and the like are an error, as are elements that the file
// doesn't have. Errors are of type *Error and name file and tensor.
func (f *File) Tensor(name string) (*tensor.Tensor, error) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, f.fail(name, ErrNotFound)
	}
	var out *tensor.Tensor
	err := guard(func() (err error) {
		out, err = t.tensor()
		return err
	})
	if err != nil {
		return nil, f.fail(name, err)
	}
	return out, nil
}

func (f *File) fail(name string, err error) error { return &Error{f.name, name, err} }

// check reports why the elements can't be had.
func (t *stored) check() error {
	if t.special != "" {
		return errors.New(t.special)
	}
	if t.err != nil {
		return t.err
	}
	if err := t.rec.locate(); err != nil {
		return err
	}
	n, last, ok := extent(t.shape, t.stride)
	if !ok {
		return errors.New("a shape that makes no sense") // t.err has said so
	}
	if n == 0 {
		return nil
	}
	if t.offset+last > t.rec.size/t.dtype.Size() {
		return fmt.Errorf("needs %d bytes, its storage %q has %d", (t.offset+last)*t.dtype.Size(), clip(t.rec.key), t.rec.size)
	}
	// An expanded tensor, with strides of 0, may claim any number of elements.
	if n > max(t.rec.src.size, 1<<20)/t.dtype.Size() {
		return fmt.Errorf("%d elements, in a file of %d bytes", n, t.rec.src.size)
	}
	return nil
}

// bytes returns the bytes from the first element to the last, in their order in the file.
func (t *stored) bytes() ([]byte, error) {
	_, last, _ := extent(t.shape, t.stride)
	size := t.dtype.Size()
	return t.rec.src.bytes(t.rec.off+t.offset*size, last*size)
}

func (t *stored) tensor() (*tensor.Tensor, error) {
	if !t.dtype.weight() {
		return nil, fmt.Errorf("dtype %v, want f32, bf16, f16 or f64", t.dtype)
	}
	shape := ints(t.shape)
	if len(shape) == 0 {
		shape = []int{1}
	}
	if len(shape) > 4 {
		return nil, fmt.Errorf("%d dimensions, want at most 4", len(shape))
	}
	b, err := t.packed()
	if err != nil {
		return nil, err
	}
	switch t.dtype {
	case F32:
		return tensor.FromSlice(view[float32](b), shape...), nil
	case BF16:
		return tensor.FromBits(tensor.BF16, view[uint16](b), shape...), nil
	case F16:
		return tensor.FromBits(tensor.F16, view[uint16](b), shape...), nil
	}
	out := tensor.New(shape...)
	x := out.Data()
	for i := range x {
		x[i] = float32(math.Float64frombits(binary.NativeEndian.Uint64(b[8*i:])))
	}
	return out, nil
}

// packed returns the elements in row-major order and this machine's byte order: a view where the
// file has them so.
func (t *stored) packed() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	b, err := t.bytes()
	if err != nil {
		return nil, err
	}
	swapped := t.rec.swap && t.dtype.Size() > 1
	if t.contiguous() && !swapped {
		return b, nil
	}
	out := make([]byte, t.numel()*t.dtype.Size())
	gather(out, b, t.shape, t.stride, t.dtype.Size())
	if swapped {
		swapBytes(out, t.dtype)
	}
	return out, nil
}

// gather copies strided elements of size bytes into dst, in row-major order.
func gather(dst, src []byte, shape, stride []int64, size int64) []byte {
	if len(shape) == 0 {
		n := copy(dst, src[:size])
		return dst[n:]
	}
	n, step := shape[0], stride[0]*size
	if len(shape) > 1 {
		for i := range n {
			if len(dst) == 0 {
				break
			}
			dst = gather(dst, src[i*step:], shape[1:], stride[1:], size)
		}
		return dst
	}
	switch {
	case step == size:
		k := copy(dst, src[:n*size])
		return dst[k:]
	case size == 4:
		for i := range n {
			*(*[4]byte)(dst[4*i:]) = *(*[4]byte)(src[i*step:])
		}
	case size == 2:
		for i := range n {
			*(*[2]byte)(dst[2*i:]) = *(*[2]byte)(src[i*step:])
		}
	default:
		for i := range n {
			copy(dst[i*size:][:size], src[i*step:])
		}
	}
	return dst[n*size:]
}

// swapBytes turns elements round; complex ones are two numbers.
func swapBytes(b []byte, d DType) {
	size := int(d.Size())
	if d == Complex64 || d == Complex128 || d == Complex32 {
		size /= 2
	}
	for i := 0; i+size <= len(b); i += size {
		slices.Reverse(b[i : i+size])
	}
}

// view returns bytes as numbers: the same memory if the machine can read it there, else a copy.
func view[E float32 | uint16](b []byte) []E {
	var e E
	size := int(unsafe.Sizeof(e))
	n := len(b) / size
	if n == 0 {
		return nil
	}
	if unaligned || uintptr(unsafe.Pointer(&b[0]))%uintptr(size) == 0 {
		return unsafe.Slice((*E)(unsafe.Pointer(&b[0])), n)
	}
	out := make([]E, n)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), len(b)), b)
	return out
}
