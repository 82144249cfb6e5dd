package kernel

import (
	"encoding/binary"
	"fmt"
	"math"

	"microrwkv/tensor/internal/freelist"
)

// grid is how numbers are rounded to a format of blocks. In a block whose scales are set, number i is
// q·step + zero with 0 ≤ q ≤ top.
type grid struct {
	round  func(b []byte, x []float32) // a block, its scales chosen for x
	affine func(b []byte, i int) (step, zero float32)
	put    func(b []byte, i, q int) // into zeros, or over another q
	top    int
}

// grids has a row for each format that Quantize takes. Q8_0 to Q5_1 are rounded as the PyPI package gguf
// does, byte for byte.
var grids = [numDTypes]grid{
	Q8_0: {roundQ8_0, func(b []byte, _ int) (float32, float32) { d := half(b); return d, -128 * d }, func(b []byte, i, q int) { b[2+i] = byte(q - 128) }, 255},
	Q4_0: {roundQ4_0, func(b []byte, _ int) (float32, float32) { d := half(b); return d, -8 * d }, func(b []byte, i, q int) { putNibble(b[2:], i, q) }, 15},
	Q4_1: {roundQ4_1, func(b []byte, _ int) (float32, float32) { return half(b), half(b[2:]) }, func(b []byte, i, q int) { putNibble(b[4:], i, q) }, 15},
	Q5_0: {roundQ5_0, func(b []byte, _ int) (float32, float32) { d := half(b); return d, -16 * d }, func(b []byte, i, q int) { putFive(b[2:], i, q) }, 31},
	Q5_1: {roundQ5_1, func(b []byte, _ int) (float32, float32) { return half(b), half(b[2:]) }, func(b []byte, i, q int) { putFive(b[4:], i, q) }, 31},
	Q4_K: {func(b []byte, x []float32) { roundK(b, x, 15, putQ4_K) }, affineK, putQ4_K, 15},
	Q5_K: {func(b []byte, x []float32) { roundK(b, x, 31, putQ5_K) }, affineK, putQ5_K, 31},
	Q6_K: {roundQ6_K, affineQ6_K, putQ6_K, 63},
}

// Quantizes reports whether numbers can be rounded to the format, which has blocks.
func (d DType) Quantizes() bool { return d < numDTypes && grids[d].round != nil }

// Quantize rounds src, finite numbers that are whole blocks, to a format that Quantizes.
func Quantize(d DType, dst []byte, src []float32) {
	numbers, bytes := d.Block()
	if need := d.Bytes(len(src)); len(dst) < need {
		panic(fmt.Sprintf("kernel: Quantize: %d bytes of %v, want %d", len(dst), d, need))
	}
	clear(dst[:d.Bytes(len(src))])
	for ; len(src) > 0; dst, src = dst[bytes:], src[numbers:] {
		grids[d].round(dst[:bytes], src[:numbers])
	}
}

// Requantize replaces number i of a block by the one nearest to x that the block's scales allow, and
// returns that.
func Requantize(d DType, b []byte, i int, x float32) float32 {
	g := &grids[d]
	step, zero := g.affine(b, i)
	q := nearest(x, step, zero, g.top)
	g.put(b, i, q)
	return float32(step*float32(q)) + zero
}

// nearest returns q from 0 to top with q·step + zero near x.
func nearest(x, step, zero float32, top int) int {
	if step == 0 {
		return 0
	}
	return int(min(max(math.RoundToEven(float64((x-zero)/step)), 0), float64(top)))
}

// putHalf stores x rounded to half precision and returns what that is.
func putHalf(b []byte, x float32) float32 {
	binary.LittleEndian.PutUint16(b, RoundF16(x))
	return half(b)
}

// putNibble stores a number of four bits: i and i+16 share a byte.
func putNibble(b []byte, i, q int) {
	shift := i / 16 * 4
	b[i%16] = b[i%16]&^(15<<shift) | byte(q&15)<<shift
}

// putFive stores a number of five bits, the fifth in 32 bits before the nibbles.
func putFive(b []byte, i, q int) {
	h := binary.LittleEndian.Uint32(b)
	binary.LittleEndian.PutUint32(b, h&^(1<<i)|uint32(q>>4)<<i)
	putNibble(b[4:], i, q)
}

// inverse returns 1/x, and 0 for 0.
func inverse(x float32) float32 {
	if x == 0 {
		return 0
	}
	return 1 / x
}

func roundQ8_0(b []byte, x []float32) {
	var most float32
	for _, v := range x {
		most = max(most, max(v, -v))
	}
	d := most / 127
	putHalf(b, d)
	inv := inverse(d)
	for i, v := range x {
		b[2+i] = byte(int8(math.Round(float64(v * inv))))
	}
}

// largest returns the signed number that is farthest from 0, the first of them.
func largest(x []float32) (most float32) {
	for _, v := range x {
		if max(v, -v) > max(most, -most) {
			most = v
		}
	}
	return most
}

func roundQ4_0(b []byte, x []float32) {
	d := largest(x) / -8
	putHalf(b, d)
	inv := float64(inverse(d))
	for i, v := range x {
		putNibble(b[2:], i, min(15, int(float64(v)*inv+8.5)))
	}
}

func roundQ5_0(b []byte, x []float32) {
	d := largest(x) / -16
	putHalf(b, d)
	inv := float64(inverse(d))
	for i, v := range x {
		putFive(b[2:], i, min(31, int(float64(v)*inv+16.5)))
	}
}

// span returns the least and the largest number.
func span(x []float32) (least, most float32) {
	least, most = x[0], x[0]
	for _, v := range x {
		least, most = min(least, v), max(most, v)
	}
	return least, most
}

func roundQ4_1(b []byte, x []float32) {
	least, most := span(x)
	d := (most - least) / 15
	putHalf(b, d)
	putHalf(b[2:], least)
	inv := inverse(d)
	for i, v := range x {
		putNibble(b[4:], i, min(15, int(float32((v-least)*inv)+0.5)))
	}
}

func roundQ5_1(b []byte, x []float32) {
	least, most := span(x)
	d := (most - least) / 31
	putHalf(b, d)
	putHalf(b[2:], least)
	inv := inverse(d)
	for i, v := range x {
		putFive(b[4:], i, min(31, int(float32((v-least)*inv)+0.5)))
	}
}

// affineK is of Q4_K and Q5_K.
func affineK(b []byte, i int) (step, zero float32) {
	scale, least := scaleK(b[4:16], i/32)
	return half(b) * scale, -half(b[2:]) * least
}

func putQ4_K(b []byte, i, q int) {
	at, shift := 16+i/64*32+i%32, i/32%2*4
	b[at] = b[at]&^(15<<shift) | byte(q&15)<<shift
}

func putQ5_K(b []byte, i, q int) {
	at, shift := 48+i/64*32+i%32, i/32%2*4
	b[at] = b[at]&^(15<<shift) | byte(q&15)<<shift
	b[16+i%32] = b[16+i%32]&^(1<<(i/32)) | byte(q>>4)<<(i/32)
}

// putScaleK stores six bits each of a sub-block's scale and minimum, see scaleK.
func putScaleK(s []byte, j, scale, least int) {
	if j < 4 {
		s[j], s[j+4] = s[j]&^63|byte(scale), s[j+4]&^63|byte(least)
		return
	}
	s[j+4] = byte(scale&15) | byte(least&15)<<4
	s[j-4] = s[j-4]&63 | byte(scale>>4)<<6
	s[j] = s[j]&63 | byte(least>>4)<<6
}

// roundK rounds to Q4_K or Q5_K: each sub-block is fitted by itself, then its scale and minimum are
// rounded to six bits, to those of the fifteen around that make the least error.
func roundK(b []byte, x []float32, top int, put func(b []byte, i, q int)) {
	const sub, most = 32, 63
	t := fitTrials.Get()
	defer fitTrials.Put(t)
	var steps, zeros [8]float32
	var step, zero float32
	for j := range steps {
		steps[j], zeros[j] = fitAffine(t, x[j*sub:][:sub], top)
		step, zero = max(step, steps[j]), min(zero, zeros[j])
	}
	dStep, dZero := putHalf(b, step/most), putHalf(b[2:], -zero/most)
	for j := range steps {
		part := x[j*sub:][:sub]
		s0, m0 := nearest(steps[j], dStep, 0, most), nearest(-zeros[j], dZero, 0, most)
		around := func(i int) (scale, least int) {
			return min(max(s0+i/3%5-2, 0), most), min(max(m0+i%3-1, 0), most)
		}
		for i := range trials {
			scale, least := around(i)
			t.set(i, dStep*float32(scale), -dZero*float32(least))
		}
		active.try(t, part, 0, float32(top))
		i := t.best()
		scale, least := around(i)
		putScaleK(b[4:16], j, scale, least)
		for k, v := range part {
			put(b, j*sub+k, nearest(v, t.step[i], t.zero[i], top))
		}
	}
}

func affineQ6_K(b []byte, i int) (step, zero float32) {
	step = half(b[208:]) * float32(int8(b[192+i/16]))
	return step, -32 * step
}

func putQ6_K(b []byte, i, q int) {
	n, k, l := i/128, i/32%4, i%32
	at, shift := 64*n+32*(k&1)+l, 4*(k>>1)
	b[at] = b[at]&^(15<<shift) | byte(q&15)<<shift
	at, shift = 128+32*n+l, 2*k
	b[at] = b[at]&^(3<<shift) | byte(q>>4)<<shift
}

// roundQ6_K fits each sub-block of 16 by itself, then rounds its scale to eight bits, to that of those
// around that makes the least error.
func roundQ6_K(b []byte, x []float32) {
	const sub, least, most = 16, -32, 31
	t := fitTrials.Get()
	defer fitTrials.Put(t)
	var steps [16]float32
	for j := range steps {
		steps[j] = fitSymmetric(t, x[j*sub:][:sub], least, most)
	}
	d := putHalf(b[208:], largest(steps[:])/-128)
	for j, step := range steps {
		part := x[j*sub:][:sub]
		first := min(max(nearest(step, d, -128*d, 255)-128-trials/2, -128), 128-trials)
		for i := range trials {
			t.set(i, d*float32(first+i), 0)
		}
		active.try(t, part, least, most)
		i := t.best()
		b[192+j] = byte(int8(first + i))
		for k, v := range part {
			putQ6_K(b, j*sub+k, nearest(v, t.step[i], least*t.step[i], most-least))
		}
	}
}

// fitTrials are for those who round.
var fitTrials = freelist.New[trial]()
