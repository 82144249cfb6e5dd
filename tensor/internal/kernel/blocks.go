package kernel

import "encoding/binary"

// Formats of quantized weights, as GGUF files have them: blocks of 32 numbers, or of 256 that are cut into
// sub-blocks, with scales of their own (github.com/ggml-org/ggml, ggml-common.h). Numbers of several
// bytes are little-endian on every machine. The functions here are the references: each product is
// rounded to float32 before the next operation, nothing is fused.

// blocks makes a widening of a function that widens one block.
func blocks(numbers, bytes int, f func(dst []float32, b []byte)) widening {
	return func(dst []float32, src []byte) {
		for ; len(dst) > 0; dst, src = dst[numbers:], src[bytes:] {
			f(dst[:numbers], src[:bytes])
		}
	}
}

// half returns the binary16 that b begins with.
func half(b []byte) float32 { return halfToFloat(binary.LittleEndian.Uint16(b)) }

// widenQ8_0: d, 32 int8; d·q.
func widenQ8_0(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:34] {
		dst[i] = d * float32(int8(q))
	}
}

// widenQ4_0: d, 16 bytes of which byte i has elements i and i+16; d·(q−8).
func widenQ4_0(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:18] {
		dst[i], dst[i+16] = d*float32(int(q&15)-8), d*float32(int(q>>4)-8)
	}
}

// widenQ4_1: d, m, nibbles as those of Q4_0; d·q + m.
func widenQ4_1(dst []float32, b []byte) {
	d, m := half(b), half(b[2:])
	for i, q := range b[4:20] {
		dst[i], dst[i+16] = float32(d*float32(q&15))+m, float32(d*float32(q>>4))+m
	}
}

// widenQ5_0: d, 32 fifth bits, nibbles; d·(q−16).
func widenQ5_0(dst []float32, b []byte) {
	d, h := half(b), binary.LittleEndian.Uint32(b[2:])
	for i, q := range b[6:22] {
		lo, hi := int(q&15)|int(h>>i&1)<<4, int(q>>4)|int(h>>(i+16)&1)<<4
		dst[i], dst[i+16] = d*float32(lo-16), d*float32(hi-16)
	}
}

// widenQ5_1: d, m, 32 fifth bits, nibbles; d·q + m.
func widenQ5_1(dst []float32, b []byte) {
	d, m, h := half(b), half(b[2:]), binary.LittleEndian.Uint32(b[4:])
	for i, q := range b[8:24] {
		lo, hi := int(q&15)|int(h>>i&1)<<4, int(q>>4)|int(h>>(i+16)&1)<<4
		dst[i], dst[i+16] = float32(d*float32(lo))+m, float32(d*float32(hi))+m
	}
}

// levelsIQ4 are the values of the nibbles of IQ4_NL and IQ4_XS.
var levelsIQ4 = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// widenIQ4_NL: d, nibbles as those of Q4_0; d·level.
func widenIQ4_NL(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:18] {
		dst[i], dst[i+16] = d*levelsIQ4[q&15], d*levelsIQ4[q>>4]
	}
}

// widenIQ4_XS: d, 8 scales of 6 bits, 8 times 16 bytes of nibbles; d·(scale−32)·level.
func widenIQ4_XS(dst []float32, b []byte) {
	d, high := half(b), binary.LittleEndian.Uint16(b[2:])
	for j := range 8 {
		scale := int(b[4+j/2]>>(4*(j&1))&15) | int(high>>(2*j)&3)<<4
		dl, sub := float32(d*float32(scale-32)), dst[32*j:][:32]
		for i, q := range b[8+16*j:][:16] {
			sub[i], sub[i+16] = dl*levelsIQ4[q&15], dl*levelsIQ4[q>>4]
		}
	}
}

// scaleK returns scale and minimum of sub-block j of Q4_K and Q5_K, six bits each, of the 12 bytes s.
func scaleK(s []byte, j int) (scale, least float32) {
	if j < 4 {
		return float32(s[j] & 63), float32(s[j+4] & 63)
	}
	return float32(s[j+4]&15 | s[j-4]>>6<<4), float32(s[j+4]>>4 | s[j]>>6<<4)
}

// widenQ4_K: d, dmin, 8 scales and minimums, nibbles; d·scale·q − dmin·least.
func widenQ4_K(dst []float32, b []byte) {
	d, dmin := half(b), half(b[2:])
	for j := range 8 {
		scale, least := scaleK(b[4:16], j)
		dl, ml, sub := float32(d*scale), float32(dmin*least), dst[32*j:][:32]
		for l, q := range b[16+j/2*32:][:32] {
			sub[l] = float32(dl*float32(q>>(4*(j&1))&15)) - ml
		}
	}
}

// widenQ5_K: as Q4_K with 32 bytes of fifth bits before the nibbles.
func widenQ5_K(dst []float32, b []byte) {
	d, dmin := half(b), half(b[2:])
	for j := range 8 {
		scale, least := scaleK(b[4:16], j)
		dl, ml, sub := float32(d*scale), float32(dmin*least), dst[32*j:][:32]
		for l, q := range b[48+j/2*32:][:32] {
			sub[l] = float32(dl*float32(q>>(4*(j&1))&15|b[16+l]>>j&1<<4)) - ml
		}
	}
}

// widenQ6_K: 128 bytes of low nibbles, 64 of upper pairs of bits, 16 int8 scales, d; d·scale·(q−32).
func widenQ6_K(dst []float32, b []byte) {
	d, scales := half(b[208:]), b[192:208]
	for n := range 2 {
		low, high := b[64*n:][:64], b[128+32*n:][:32]
		for k := range 4 {
			sub := dst[128*n+32*k:][:32]
			for l := range sub {
				q := low[32*(k&1)+l]>>(4*(k>>1))&15 | high[l]>>(2*k)&3<<4
				dl := float32(d * float32(int8(scales[8*n+2*k+l/16])))
				sub[l] = dl * float32(int(q)-32)
			}
		}
	}
}

// widenQ2_K: 16 bytes of scale and minimum, 64 of pairs of bits, d, dmin; d·scale·q − dmin·least.
func widenQ2_K(dst []float32, b []byte) {
	d, dmin := half(b[80:]), half(b[82:])
	for e := range dst {
		n, j, l := e/128, e/32%4, e%32
		s := b[e/16]
		dl, ml := float32(d*float32(s&15)), float32(dmin*float32(s>>4))
		dst[e] = float32(dl*float32(b[16+32*n+l]>>(2*j)&3)) - ml
	}
}

// widenQ3_K: 32 bytes of third bits, 64 of pairs, 16 scales of six bits, d; d·(scale−32)·q, with q four
// less where the third bit is 0.
func widenQ3_K(dst []float32, b []byte) {
	d, s := half(b[108:]), b[96:108]
	for e := range dst {
		n, j, l, i := e/128, e/32%4, e%32, e/16
		scale := int(s[i%8]>>(4*(i/8))&15) | int(s[8+i%4]>>(2*(i/4))&3)<<4
		q := int(b[32+32*n+l]>>(2*j)&3) + int(b[l]>>(4*n+j)&1)*4 - 4
		dst[e] = float32(d*float32(scale-32)) * float32(q)
	}
}
