package store

import (
	"hash/crc32"
	"math/rand/v2"
	"microrwkv/tensor"
	"testing"
)

// TestCombineCRC compares with the checksum of the whole.
func TestCombineCRC(t *testing.T) {
	b := make([]byte, 1000)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	for n := range len(b) + 1 {
		got := CombineCRC(crc32.ChecksumIEEE(b[:n]), crc32.ChecksumIEEE(b[n:]), int64(len(b)-n))
		if want := crc32.ChecksumIEEE(b); got != want {
			t.Fatalf("cut at %d: %#x, want %#x", n, got, want)
		}
	}
}

// TestFinite puts NaN and Inf at every place of buffers of every length, at odd addresses too.
func TestFinite(t *testing.T) {
	values := map[DType][]uint64{
		tensor.F64:  {0x7ff0000000000000, 0xfff0000000000000, 0x7ff0000000000001, 0xffffffffffffffff},
		tensor.F32:  {0x7f800000, 0xff800000, 0x7f800001, 0xffffffff},
		tensor.BF16: {0x7f80, 0xff80, 0x7f81, 0xffff},
		tensor.F16:  {0x7c00, 0xfc00, 0x7c01, 0xffff},
	}
	largest := map[DType]uint64{tensor.F64: 0xffefffffffffffff, tensor.F32: 0xff7fffff, tensor.BF16: 0xff7f, tensor.F16: 0xfbff}
	put := func(b []byte, size int, v uint64) {
		for i := range size {
			j := i
			if BigEndianHost {
				j = size - 1 - i
			}
			b[j] = byte(v >> (8 * i))
		}
	}
	for d, bad := range values {
		size := int(Size(d))
		for n := 0; n <= 600/size; n++ {
			b := make([]byte, n*size+1)[1:]
			for i := range n {
				put(b[i*size:], size, largest[d])
			}
			if !Finite(b, d) {
				t.Fatalf("%v: %d finite numbers are not", d, n)
			}
			for i := range n {
				put(b[i*size:], size, bad[(i+n)%len(bad)])
				if Finite(b, d) {
					t.Fatalf("%v: %#x at %d of %d was not found", d, bad[(i+n)%len(bad)], i, n)
				}
				put(b[i*size:], size, largest[d])
			}
		}
	}
}
