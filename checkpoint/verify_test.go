package checkpoint

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"microrwkv/checkpoint/internal/store"
)

// Tensors that share a block of a record are told apart, by where they are and by their type.
func TestVerifySharedBlock(t *testing.T) {
	const numbers = 4096
	nan := func(at ...int) []byte {
		b := make([]byte, 4*numbers)
		for _, i := range at {
			binary.NativeEndian.PutUint32(b[4*i:], math.Float32bits(float32(math.NaN())))
		}
		return b
	}
	view := func(d DType, offset, n int64) *store.Tensor {
		return &store.Tensor{DType: d, Offset: offset, Shape: []int64{n}, Stride: []int64{1}}
	}
	bfloat := nan()
	binary.NativeEndian.PutUint16(bfloat[0:], 0x7f80)
	bfloat[2], bfloat[3] = 0, 0
	if store.BigEndianHost {
		t.Skip("the halves of a number are the other way round")
	}
	for _, c := range []struct {
		name    string
		data    []byte
		tensors map[string]*store.Tensor
		bad     []string
	}{
		{"all of it", nan(7), map[string]*store.Tensor{"a": view(F32, 0, numbers)}, []string{"a"}},
		{"the first", nan(7), map[string]*store.Tensor{"a": view(F32, 0, 100), "b": view(F32, 200, numbers-200)}, []string{"a"}},
		{"the last", nan(300), map[string]*store.Tensor{"a": view(F32, 0, 100), "b": view(F32, 200, numbers-200)}, []string{"b"}},
		{"between", nan(150), map[string]*store.Tensor{"a": view(F32, 0, 100), "b": view(F32, 200, numbers-200)}, nil},
		{"one type of two", bfloat, map[string]*store.Tensor{"a": view(F32, 0, numbers), "b": view(BF16, 0, 2*numbers)}, []string{"b"}},
		{"both types", nan(5), map[string]*store.Tensor{"a": view(F32, 0, numbers), "b": view(BF16, 0, 2*numbers)}, []string{"a", "b"}},
		{"integers", nan(5), map[string]*store.Tensor{"a": view(Int32, 0, numbers)}, nil},
	} {
		for _, damaged := range []bool{false, true} {
			rec := &store.Record{Src: store.Memory("m", c.data), Name: "r", Size: int64(len(c.data)), Sum: true, CRC: crc32.ChecksumIEEE(c.data)}
			if damaged {
				rec.CRC++
			}
			f := &File{name: "m", tensors: c.tensors}
			for _, name := range []string{"a", "b"} {
				if tensor := c.tensors[name]; tensor != nil {
					tensor.Rec = rec
					f.names = append(f.names, name)
				}
			}
			said := fmt.Sprint(f.Verify(nil))
			for _, name := range f.names {
				want := false
				for _, bad := range c.bad {
					want = want || bad == name
				}
				if got := strings.Contains(said, fmt.Sprintf("tensor %q: element", name)); got != want {
					t.Errorf("%s: %q says that %s is bad: %v, want %v", c.name, said, name, got, want)
				}
			}
			if got := strings.Contains(said, `record "r"`); got != damaged {
				t.Errorf("%s: %q, damaged: %v", c.name, said, damaged)
			}
		}
	}
}
