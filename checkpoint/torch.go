package checkpoint

import (
	"archive/zip"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"
)

// record is the bytes of one PyTorch storage, or of a tensor of a safetensors file. Where it lies is
// for locate to tell.
type record struct {
	src  *source
	key  string // as the pickle names it
	name string // of the zip's entry
	off  int64  // in src
	size int64  // bytes
	swap bool   // the elements' bytes are in the other order than this machine's
	crc  uint32
	sum  bool  // there is a crc
	err  error // why the record can't be used

	declared int64     // bytes that the pickle says it has
	entry    *zip.File // of a zip archive
	once     sync.Once
}

// locate finds the record in its archive, once: that reads a page of the file beside it, which an
// optimizer's records are spared. It reports why the record can't be used.
func (r *record) locate() error {
	r.once.Do(func() {
		if r.entry == nil || r.err != nil {
			return
		}
		var err error
		if r.off, r.size, err = locateEntry(r.src, r.entry); err != nil {
			r.err = fmt.Errorf("record %q: %w", clip(r.name), err)
		} else if r.declared > r.size {
			r.err = fmt.Errorf("storage %q should have %d bytes, its record %q has %d", clip(r.key), r.declared, clip(r.name), r.size)
		}
	})
	return r.err
}

// storageRef is a typed storage, or a part of one, as a pickle refers to it.
type storageRef struct {
	rec    *record
	dtype  DType // 0 for an untyped storage, whose elements are bytes
	offset int64 // first element in the record, in elements
	numel  int64
}

// size returns the bytes of an element.
func (s *storageRef) size() int64 {
	if s.dtype == 0 {
		return 1
	}
	return s.dtype.Size()
}

// stored is a tensor of a file: a strided window on a record.
type stored struct {
	rec    *record
	dtype  DType
	offset int64 // first element in the record, in elements
	shape  []int64
	stride []int64 // in elements

	special string // what sort of tensor it is that has no plain elements to read, "" for all others
	err     error  // why the tensor can't be used
}

// identity tells which elements a tensor has: those of tied weights are the same.
type identity struct {
	rec    *record
	dtype  DType
	offset int64
	layout string
}

func (t *stored) identity() identity {
	return identity{t.rec, t.dtype, t.offset, fmt.Sprint(t.shape, t.stride)}
}

// PySetState ignores the attributes of a Tensor, which BUILD sets.
func (t *stored) PySetState(any) error { return nil }

// maxDims is the most dimensions that PyTorch's tensors have.
const maxDims = 64

// newStored returns a tensor; if something is wrong with it, err says so.
func newStored(s *storageRef, dtype DType, offset int64, shape, stride []int64) *stored {
	t := &stored{rec: s.rec, dtype: dtype, shape: shape, stride: stride}
	if len(shape) != len(stride) {
		t.stride = rowMajor(shape)
		t.err = fmt.Errorf("shape %v with strides %v", shape, stride)
		return t
	}
	if dtype == 0 {
		t.err = errors.New("a tensor without a dtype")
		return t
	}
	t.offset = offset
	if s.offset > 0 {
		t.offset += s.offset
	}
	n, last, ok := extent(shape, stride)
	if !ok || offset < 0 || t.offset < 0 || last > math.MaxInt64-t.offset {
		t.err = fmt.Errorf("shape %v, strides %v, offset %d make no sense", shape, stride, offset)
		return t
	}
	if n == 0 {
		return t
	}
	hi, bytes := bits.Mul64(uint64(offset+last), uint64(dtype.Size()))
	have := uint64(s.numel) * uint64(s.size()) // checked when s was made
	if hi != 0 || bytes > have {
		t.err = fmt.Errorf("shape %v, strides %v, offset %d need more than the %d bytes of storage %q", shape, stride, offset, have, s.rec.key)
	}
	return t
}

// extent returns the number of elements of a shape, and how many elements of its storage it spans,
// counted from its first one. It is not ok if they are negative or too many.
func extent(shape, stride []int64) (n, last int64, ok bool) {
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

// numel returns the number of elements.
func (t *stored) numel() int64 {
	n, _, _ := extent(t.shape, t.stride)
	return n
}

// contiguous reports whether the elements follow each other in row-major order.
func (t *stored) contiguous() bool {
	want := int64(1)
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.stride[i] != want {
			return t.numel() == 0
		}
		want *= t.shape[i]
	}
	return true
}
