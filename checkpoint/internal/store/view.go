package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"microrwkv/tensor"
)

// Load returns the elements as a tensor, see File.Tensor.
func (t *Tensor) Load() (*tensor.Weight, error) {
	if !IsWeight(t.DType) {
		return nil, fmt.Errorf("dtype %v, want f32, bf16, f16, f64 or blocks of quantized weights", t.DType)
	}
	shape := Ints(t.Shape)
	if len(shape) == 0 {
		shape = []int{1}
	}
	if len(shape) > 4 {
		return nil, fmt.Errorf("%d dimensions, want at most 4", len(shape))
	}
	b, err := t.Packed()
	if err != nil {
		return nil, err
	}
	if t.DType.Weight() {
		return tensor.NewWeight(t.DType, aligned(b, uintptr(Size(t.DType)), Blocked(t.DType)), shape...), nil
	}
	out := tensor.New(shape...)
	x := out.Data()
	for i := range x {
		x[i] = float32(math.Float64frombits(binary.NativeEndian.Uint64(b[8*i:])))
	}
	return out.Weight(), nil
}

// Packed returns the elements in row-major order and this machine's byte order: a view where the
// file has them so.
func (t *Tensor) Packed() ([]byte, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	b, err := t.bytes()
	if err != nil {
		return nil, err
	}
	swapped := t.Rec.Swap && Size(t.DType) > 1 && !Blocked(t.DType) // blocks are bytes
	if t.Contiguous() && !swapped {
		return b, nil
	}
	out := make([]byte, t.Numel()*Size(t.DType))
	gather(out, b, t.Shape, t.Stride, Size(t.DType))
	if swapped {
		SwapBytes(out, t.DType)
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

// SwapBytes turns elements round; complex ones are two numbers.
func SwapBytes(b []byte, d DType) {
	size := int(Size(d))
	if d == tensor.Complex64 || d == tensor.Complex128 || d == tensor.Complex32 {
		size /= 2
	}
	for i := 0; i+size <= len(b); i += size {
		slices.Reverse(b[i : i+size])
	}
}

// aligned returns b where the machine can read its numbers: the same memory, or else a copy. Blocks are
// read by bytes.
func aligned(b []byte, size uintptr, blocked bool) []byte {
	if len(b) == 0 || Unaligned || blocked || uintptr(unsafe.Pointer(&b[0]))%size == 0 {
		return b
	}
	words := make([]uint64, (len(b)+7)/8)
	out := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(b))
	copy(out, b)
	return out
}

// Scalar returns the number that a tensor without dimensions holds, nil if it is another or can't
// be read.
func (t *Tensor) Scalar() any {
	if len(t.Shape) > 0 || Size(t.DType) > 8 {
		return nil
	}
	var b []byte
	err := Guard(func() (err error) {
		b, err = t.Packed()
		return err
	})
	if err != nil {
		return nil
	}
	switch t.DType {
	case tensor.F32, tensor.BF16, tensor.F16, tensor.F64:
		return Float(b, 0, t.DType)
	case tensor.Int64:
		return int64(binary.NativeEndian.Uint64(b))
	case tensor.Int32:
		return int64(int32(binary.NativeEndian.Uint32(b)))
	case tensor.Bool:
		return b[0] != 0
	}
	return nil
}
