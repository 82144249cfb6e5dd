package torch

import (
	"math"
	"strings"
	"testing"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/tensor"
)

// TestNewStored gives a tensor its elements up to the storage's last, and an error beyond.
func TestNewStored(t *testing.T) {
	rec := &store.Record{Key: "7"}
	whole := storageRef{rec: rec, dtype: tensor.F32, numel: 6}
	raw := storageRef{rec: rec, numel: 24} // bytes
	part := storageRef{rec: rec, dtype: tensor.F32, numel: 6, offset: 4}
	for _, c := range []struct {
		s             storageRef
		dtype         store.DType
		offset        int64
		shape, stride []int64
		want          int64 // the offset in the record
		err           string
	}{
		{whole, tensor.F32, 0, []int64{6}, []int64{1}, 0, ""},
		{whole, tensor.F32, 5, nil, nil, 5, ""},
		{whole, tensor.F32, 6, nil, nil, 6, "need more than the 24 bytes"},
		{whole, tensor.F32, 1, []int64{6}, []int64{1}, 1, "need more than the 24 bytes"},
		{whole, tensor.F32, 0, []int64{2}, []int64{6}, 0, "need more than the 24 bytes"},
		{whole, tensor.F32, 99, []int64{0}, []int64{1}, 99, ""},
		{whole, tensor.F32, 0, []int64{1 << 62, 2}, []int64{0, 0}, 0, "make no sense"},
		{whole, tensor.F32, 1 << 61, []int64{1 << 61}, []int64{1}, 1 << 61, "need more than the 24 bytes"},
		{whole, tensor.F32, 1<<62 - 1, nil, nil, 1<<62 - 1, "need more than the 24 bytes"}, // 2⁶⁴ bytes
		{whole, tensor.F32, math.MaxInt64, nil, nil, math.MaxInt64, "make no sense"},
		{whole, tensor.F32, -1, []int64{1}, []int64{1}, -1, "make no sense"},
		{whole, tensor.F32, 0, []int64{2}, []int64{-1}, 0, "make no sense"},
		{whole, tensor.F32, 0, []int64{2}, nil, 0, "shape [2] with strides []"},
		{whole, 0, 0, []int64{2}, []int64{1}, 0, "without a dtype"},
		{raw, tensor.F32, 0, []int64{6}, []int64{1}, 0, ""},
		{raw, tensor.F64, 0, []int64{3}, []int64{1}, 0, ""},
		{raw, tensor.F64, 1, []int64{3}, []int64{1}, 1, "need more than the 24 bytes"},
		{part, tensor.F32, 1, []int64{5}, []int64{1}, 5, ""},
		{part, tensor.F32, 1, []int64{6}, []int64{1}, 5, "need more than the 24 bytes"},
		{part, tensor.F32, -1, []int64{1}, []int64{1}, 3, "make no sense"},
		{part, tensor.F32, math.MaxInt64, []int64{1}, []int64{1}, math.MinInt64 + 3, "make no sense"},
	} {
		x := newStored(&c.s, c.dtype, c.offset, c.shape, c.stride)
		if (x.Err == nil) != (c.err == "") || x.Err != nil && !strings.Contains(x.Err.Error(), c.err) {
			t.Errorf("%+v: error %v, want %q", c, x.Err, c.err)
		}
		if x.Rec != rec || x.Offset != c.want {
			t.Errorf("%+v: at %d of %p", c, x.Offset, x.Rec)
		}
	}
}

// TestStorageID takes as many elements as an int64 has bytes for, and no names that are too long.
func TestStorageID(t *testing.T) {
	class := storageType{tensor.F32}
	key := strings.Repeat("k", 256)
	for _, c := range []struct {
		id []any
		ok bool
	}{
		{[]any{"storage", class, "0", "cpu", int64(3)}, true},
		{[]any{"storage", class, "0", "cpu", int64(3), nil}, true},
		{[]any{"storage", class, key, "cpu", int64(0)}, true},
		{[]any{"storage", class, "0", "cpu", int64(1 << 60)}, true},
		{[]any{"storage", storageType{}, "0", "cpu", int64(1 << 62)}, true},
		{[]any{"storage", class, "0", "cpu", int64(1<<60 + 1)}, false},
		{[]any{"storage", storageType{}, "0", "cpu", int64(1<<62 + 1)}, false},
		{[]any{"storage", class, "0", "cpu", int64(-1)}, false},
		{[]any{"storage", class, key + "k", "cpu", int64(0)}, false},
		{[]any{"storage", class, "0", "cpu"}, false},
		{[]any{"module", class, "0", "cpu", int64(3)}, false},
		{[]any{"storage", "FloatStorage", "0", "cpu", int64(3)}, false},
		{[]any{"storage", class, 0, "cpu", int64(3)}, false},
		{[]any{"storage", class, "0", "cpu", "3"}, false},
	} {
		if _, _, err := storageID(c.id); (err == nil) != c.ok {
			t.Errorf("%v: error %v", c.id, err)
		}
	}
}
