package store

import "hash/crc32"

// CombineCRC returns the CRC-32 (IEEE) of two blocks of bytes that follow each other from that of
// each and the length of the second: the first is moved on by as many zero bytes. A CRC is a
// polynomial over GF(2) modulo the generator, bit-reversed, and moving it on by n bits multiplies
// it by xⁿ, which takes log n squarings.
func CombineCRC(first, second uint32, length int64) uint32 {
	return MulCRC(first, PowCRC(8*uint64(length))) ^ second
}

// MulCRC multiplies two polynomials modulo the generator; the highest bit is x⁰.
func MulCRC(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}

// PowCRC returns xⁿ modulo the generator.
func PowCRC(n uint64) uint32 {
	power, square := uint32(1)<<31, uint32(1)<<30 // x⁰, x¹
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = MulCRC(power, square)
		}
		square = MulCRC(square, square)
	}
	return power
}
