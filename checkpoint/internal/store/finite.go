package store

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"microrwkv/tensor"
)

// A float whose exponent is all ones is infinite or NaN. In a word of several floats, the
// exponents' bits are cut out and one is added at their lowest bit: a sum that reaches the sign's
// bit is one of those. No sum is larger, so nothing is carried to the next float.
type exponents struct {
	mask, one, top uint64
}

var exponentsOf = map[DType]exponents{
	tensor.F64:  {0x7ff0000000000000, 0x0010000000000000, 0x8000000000000000},
	tensor.F32:  {0x7f8000007f800000, 0x0080000000800000, 0x8000000080000000},
	tensor.BF16: {0x7f807f807f807f80, 0x0080008000800080, 0x8000800080008000},
	tensor.F16:  {0x7c007c007c007c00, 0x0400040004000400, 0x8000800080008000},
}

// Finite reports whether all floats of b are, or the scales if it has blocks of quantized weights. Its length is a multiple of their size, and they are
// in this machine's byte order.
func Finite(b []byte, d DType) bool {
	if scales := d.Scales(); scales != nil {
		return finiteBlocks(b, int(Size(d)), scales)
	}
	e, ok := exponentsOf[d]
	if !ok {
		return true
	}
	bad, n := orExponents(b, e)
	for b = b[n:]; len(b) >= 64; b = b[64:] {
		v := (*[64]byte)(b)
		bad |= (binary.NativeEndian.Uint64(v[0:])&e.mask + e.one) |
			(binary.NativeEndian.Uint64(v[8:])&e.mask + e.one) |
			(binary.NativeEndian.Uint64(v[16:])&e.mask + e.one) |
			(binary.NativeEndian.Uint64(v[24:])&e.mask + e.one) |
			(binary.NativeEndian.Uint64(v[32:])&e.mask + e.one) |
			(binary.NativeEndian.Uint64(v[40:])&e.mask + e.one) |
			(binary.NativeEndian.Uint64(v[48:])&e.mask + e.one) |
			(binary.NativeEndian.Uint64(v[56:])&e.mask + e.one)
	}
	var last [64]byte // zeros are finite
	copy(last[:], b)
	for i := 0; i < len(b); i += 8 {
		bad |= binary.NativeEndian.Uint64(last[i:])&e.mask + e.one
	}
	return bad&e.top == 0
}

// finiteBlocks reports whether the half-precision scales of all blocks are finite.
func finiteBlocks(b []byte, size int, scales []int) bool {
	const exponent, one, top = 0x7c, 0x04, 0x80 // as of exponents, in the byte that has them
	var bad byte
	for _, at := range scales {
		i := at + 1
		for ; i+7*size < len(b); i += 8 * size {
			bad |= (b[i]&exponent + one) | (b[i+size]&exponent + one) | (b[i+2*size]&exponent + one) | (b[i+3*size]&exponent + one) |
				(b[i+4*size]&exponent + one) | (b[i+5*size]&exponent + one) | (b[i+6*size]&exponent + one) | (b[i+7*size]&exponent + one)
		}
		for ; i < len(b); i += size {
			bad |= b[i]&exponent + one
		}
	}
	return bad&top == 0
}

// SumFinite returns the CRC-32 (IEEE) of floats, and what Finite does, in one pass over them where the CPU
// has what that takes.
func SumFinite(b []byte, d DType) (sum uint32, finite bool) {
	var bad uint64
	var n int
	e, ok := exponentsOf[d]
	if ok {
		sum, bad, n = sumExponents(b, e)
	}
	return crc32.Update(sum, crc32.IEEETable, b[n:]), bad&e.top == 0 && Finite(b[n:], d)
}

// Float returns float i of b as text would show it; of block i the first scale that isn't finite, or else
// 0.
func Float(b []byte, i int, d DType) float64 {
	for _, at := range d.Scales() {
		x := float64(HalfToFloat(binary.LittleEndian.Uint16(b[i*int(Size(d))+at:])))
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return x
		}
	}
	if Blocked(d) {
		return 0
	}
	switch d {
	case tensor.F32:
		return float64(math.Float32frombits(binary.NativeEndian.Uint32(b[4*i:])))
	case tensor.BF16:
		return float64(BfloatToFloat(binary.NativeEndian.Uint16(b[2*i:])))
	case tensor.F16:
		return float64(HalfToFloat(binary.NativeEndian.Uint16(b[2*i:])))
	}
	return math.Float64frombits(binary.NativeEndian.Uint64(b[8*i:]))
}
