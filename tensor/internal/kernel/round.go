package kernel

import "math"

// RoundBF16 returns the bits of the bfloat16 nearest to x, ties to even.
func RoundBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40 // stays a NaN if only lower bits made it one
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// RoundF16 returns the bits of the IEEE binary16 nearest to x, ties to even.
func RoundF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520, halfway from the largest to the next, rounds to Inf
		return sign | 0x7c00
	case b < 0x38800000: // below 2⁻¹⁴ the result is denormal: a multiple of 2⁻²⁴
		// adding 0.5 leaves the multiples of 2⁻²⁴ in the sum's low bits, rounded by the addition
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	b += 0xfff + b>>13&1
	return sign | uint16(b>>13-112<<10)
}
