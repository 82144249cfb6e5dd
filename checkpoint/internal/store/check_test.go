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

// TestFinite puts NaN and Inf at every place of buffers of every length, at odd addresses too. SumFinite says
// the same, and the checksum.
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
	check := func(b []byte, d DType) bool {
		sum, finite := SumFinite(b, d)
		if sum != crc32.ChecksumIEEE(b) || finite != Finite(b, d) {
			t.Fatalf("%v: %d bytes have the sum %#x and are finite: %v; by themselves it's %#x and %v", d, len(b), sum, finite, crc32.ChecksumIEEE(b), Finite(b, d))
		}
		return finite
	}
	for d, bad := range values {
		size := int(Size(d))
		for n := 0; n <= 600/size; n++ {
			b := make([]byte, n*size+1)[1:]
			for i := range n {
				put(b[i*size:], size, largest[d])
			}
			if !check(b, d) {
				t.Fatalf("%v: %d finite numbers are not", d, n)
			}
			for i := range n {
				put(b[i*size:], size, bad[(i+n)%len(bad)])
				if check(b, d) {
					t.Fatalf("%v: %#x at %d of %d was not found", d, bad[(i+n)%len(bad)], i, n)
				}
				put(b[i*size:], size, largest[d])
			}
		}
	}
}

// TestFiniteBlocks puts NaN and Inf into every scale of runs of blocks.
func TestFiniteBlocks(t *testing.T) {
	for _, d := range []DType{tensor.Q8_0, tensor.Q4_1, tensor.Q4_K, tensor.Q6_K} {
		size := int(Size(d))
		for blocks := range 20 {
			b := make([]byte, blocks*size)
			for i := range b {
				b[i] = 0xff // that of the numbers don't count
			}
			for i := range blocks {
				for _, at := range d.Scales() {
					b[i*size+at], b[i*size+at+1] = 0xff, 0xfb
				}
			}
			if !Finite(b, d) {
				t.Fatalf("%v: %d finite blocks are not", d, blocks)
			}
			for i := range blocks {
				for _, at := range d.Scales() {
					for _, high := range []byte{0x7c, 0xfc, 0x7e} {
						b[i*size+at+1] = high
						if Finite(b, d) {
							t.Fatalf("%v: block %d of %d with a scale of %#x00 was not found", d, i, blocks, high)
						}
					}
					b[i*size+at+1] = 0xfb
				}
			}
		}
	}
}
