package store

import "math"

// HalfToFloat widens an IEEE 754 binary16, exactly.
func HalfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&0x3ff
	switch {
	case exp == 31: // infinite, or NaN
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	case exp == 0: // zero or subnormal: frac · 2⁻²⁴
		f := float32(frac) * 0x1p-24
		return math.Float32frombits(sign | math.Float32bits(f))
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

// BfloatToFloat widens a bfloat16, exactly.
func BfloatToFloat(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
