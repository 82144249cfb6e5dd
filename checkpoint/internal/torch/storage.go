package torch

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// storageType is a class such as torch.FloatStorage.
type storageType struct {
	dtype store.DType // 0: untyped
}

// storageRef is a typed storage, or a part of one, as a pickle refers to it.
type storageRef struct {
	rec    *store.Record
	dtype  store.DType // 0 for an untyped storage, whose elements are bytes
	offset int64       // first element in the record, in elements
	numel  int64
}

// size returns the bytes of an element.
func (s *storageRef) size() int64 {
	if s.dtype == 0 {
		return 1
	}
	return store.Size(s.dtype)
}

// storageID reads a persistent id: what all formats have in common.
func storageID(id []any) (ref *storageRef, key string, err error) {
	bad := errors.New("a persistent id that torch.save does not write")
	if len(id) < 5 || id[0] != any("storage") {
		return nil, "", bad
	}
	class, ok := id[1].(storageType)
	key, ok2 := id[2].(string)
	n, ok3 := pickle.Int(id[4])
	if !ok || !ok2 || !ok3 || len(key) > 256 {
		return nil, "", bad
	}
	ref = &storageRef{dtype: class.dtype, numel: n}
	if n < 0 || n > (1<<62)/ref.size() {
		return nil, "", fmt.Errorf("storage %q of %d elements", store.Clip(key), n)
	}
	return ref, key, nil
}

// newStored returns a tensor; if something is wrong with it, err says so.
func newStored(s *storageRef, dtype store.DType, offset int64, shape, stride []int64) *store.Tensor {
	t := &store.Tensor{Rec: s.rec, DType: dtype, Shape: shape, Stride: stride}
	if len(shape) != len(stride) {
		t.Stride = store.RowMajor(shape)
		t.Err = fmt.Errorf("shape %v with strides %v", shape, stride)
		return t
	}
	if dtype == 0 {
		t.Err = errors.New("a tensor without a dtype")
		return t
	}
	t.Offset = offset
	if s.offset > 0 {
		t.Offset += s.offset
	}
	n, last, ok := store.Extent(shape, stride)
	if !ok || offset < 0 || t.Offset < 0 || last > math.MaxInt64-t.Offset {
		t.Err = fmt.Errorf("shape %v, strides %v, offset %d make no sense", shape, stride, offset)
		return t
	}
	if n == 0 {
		return t
	}
	hi, bytes := bits.Mul64(uint64(offset+last), uint64(store.Size(dtype)))
	have := uint64(s.numel) * uint64(s.size()) // checked when s was made
	if hi != 0 || bytes > have {
		t.Err = fmt.Errorf("shape %v, strides %v, offset %d need more than the %d bytes of storage %q", shape, stride, offset, have, s.rec.Key)
	}
	return t
}

// IsStorage reports whether a value is a storage, or the class of one.
func IsStorage(v any) bool {
	switch v.(type) {
	case *storageRef, storageType:
		return true
	}
	return false
}
