package kernel

import (
	"encoding/binary"
	"math"
)

// Products with activations of 8 bits. Each 32 numbers of a row of x become integers from −127 to 127 and
// a float32 scale d, and a number of w is a step times an unsigned integer q, less something: so
//
//	Σ w·x = Σ over 32 numbers of d·step·Σ q·x − d·least·Σ x
//
// with sums of integers, which are exact, inside. The sum over the parts is in float32, one part after
// another: an element's bits depend on its row of x and its row of w alone.
//
// A row of rounded x has q8Unit bytes for 32 numbers, little-endian:
//
//	 0  int8 × 32
//	32  float32 d
//	36  float32 d·Σ x
//	40  int32 −32·Σ of the first 16 numbers, and of the others: what numbers of w less 32 add
//
// A block of zeros has d = 0, and so has one whose numbers are below 2⁻¹²⁰, where 127 divided by them
// overflows. NaN or Inf make d NaN, and with it the row's products.

// q8Unit is the bytes of 32 rounded numbers.
const q8Unit = 48

// q8Tiny is below which numbers count as zeros.
const q8Tiny = 0x1p-120

// q8Size is the bytes of a row of k rounded numbers.
func q8Size(k int) int { return (k/32*q8Unit + 63) &^ 63 }

// roundQ8Generic rounds one row.
func roundQ8Generic(dst []byte, x []float32, _, _, k int) {
	for ; k >= 32; dst, x, k = dst[q8Unit:], x[32:], k-32 {
		most, finite := float32(0), true
		for _, v := range x[:32] {
			a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
			finite = finite && a <= math.MaxFloat32
			most = max(most, a)
		}
		d, inverse := most/127, 127/most
		switch {
		case !finite:
			d, inverse = float32(math.NaN()), 0
		case most < q8Tiny:
			d, inverse = 0, 0
		}
		var sums [2]int32
		for i, v := range x[:32] {
			q := int32(0)
			if inverse != 0 {
				q = int32(math.RoundToEven(float64(v * inverse)))
			}
			dst[i] = byte(int8(q))
			sums[i/16] += q
		}
		binary.LittleEndian.PutUint32(dst[32:], math.Float32bits(d))
		binary.LittleEndian.PutUint32(dst[36:], math.Float32bits(d*float32(sums[0]+sums[1])))
		binary.LittleEndian.PutUint32(dst[40:], uint32(-32*sums[0]))
		binary.LittleEndian.PutUint32(dst[44:], uint32(-32*sums[1]))
	}
}

// q8Format says what the numbers of blocks are in products with activations of 8 bits. For each 32 numbers
// there are two factors: step and least, for numbers step·q − least; or in halves the steps of 16 numbers
// each, for numbers step·(q−32).
type q8Format struct {
	halves bool
	unpack func(q []uint8, factors []float32, b []byte) // one block
}

// q8Formats has the formats with such products. What they unpack is, but for the last operation, what
// their widening computes.
var q8Formats = [numDTypes]q8Format{
	Q4_0: {false, func(q []uint8, factors []float32, b []byte) {
		d := half(b)
		factors[0], factors[1] = d, 8*d
		unpackNibbles(q, b[2:], 0)
	}},
	Q4_1: {false, func(q []uint8, factors []float32, b []byte) {
		factors[0], factors[1] = half(b), -half(b[2:])
		unpackNibbles(q, b[4:], 0)
	}},
	Q5_0: {false, func(q []uint8, factors []float32, b []byte) {
		d := half(b)
		factors[0], factors[1] = d, 16*d
		unpackNibbles(q, b[6:], binary.LittleEndian.Uint32(b[2:]))
	}},
	Q5_1: {false, func(q []uint8, factors []float32, b []byte) {
		factors[0], factors[1] = half(b), -half(b[2:])
		unpackNibbles(q, b[8:], binary.LittleEndian.Uint32(b[4:]))
	}},
	Q4_K: {false, unpackQ4_K},
	Q5_K: {false, unpackQ5_K},
	Q6_K: {true, unpackQ6_K},
}

// unpackNibbles unpacks 32 numbers of four bits, and a fifth one each.
func unpackNibbles(q []uint8, b []byte, high uint32) {
	for i, v := range b[:16] {
		q[i], q[i+16] = v&15|byte(high>>i&1)<<4, v>>4|byte(high>>(i+16)&1)<<4
	}
}

func unpackQ4_K(q []uint8, factors []float32, b []byte) {
	unpackScaleK(factors, b)
	for c := range 4 {
		lo, hi := q[64*c:][:32], q[64*c+32:][:32]
		for l, v := range b[16+32*c:][:32] {
			lo[l], hi[l] = v&15, v>>4
		}
	}
}

func unpackQ5_K(q []uint8, factors []float32, b []byte) {
	unpackScaleK(factors, b)
	high := b[16:48]
	for c := range 4 {
		lo, hi := q[64*c:][:32], q[64*c+32:][:32]
		for l, v := range b[48+32*c:][:32] {
			h := high[l] >> (2 * c)
			lo[l], hi[l] = v&15|h&1<<4, v>>4|h>>1&1<<4
		}
	}
}

// unpackScaleK unpacks the steps and minimums of Q4_K and Q5_K.
func unpackScaleK(factors []float32, b []byte) {
	d, dmin := half(b), half(b[2:])
	for j := range 8 {
		scale, least := scaleK(b[4:16], j)
		factors[2*j], factors[2*j+1] = d*scale, dmin*least
	}
}

func unpackQ6_K(q []uint8, factors []float32, b []byte) {
	d := half(b[208:])
	for i, s := range b[192:208] {
		factors[i] = d * float32(int8(s))
	}
	for n := range 2 {
		low, high, sub := b[64*n:][:64], b[128+32*n:][:32], q[128*n:][:128]
		for l, h := range high {
			sub[l], sub[32+l] = low[l]&15|h&3<<4, low[32+l]&15|h>>2&3<<4
			sub[64+l], sub[96+l] = low[l]>>4|h>>4&3<<4, low[32+l]>>4|h>>6<<4
		}
	}
}

// q8Generic is the reference of products with activations of 8 bits.
func q8Generic() rounding {
	r := rounding{group: 1, size: q8Size, round: roundQ8Generic}
	for d := range q8Formats {
		if q8Formats[d].unpack == nil {
			continue
		}
		r.products[d] = func(dst []float32, ldd int, x []byte, w []byte, ldw int, m, n, k int, acc bool) {
			productQ8Generic(DType(d), dst, ldd, x, w, ldw, m, n, k, acc)
		}
	}
	return r
}

// productQ8Generic takes each row of w apart once, two rows at a time, whose numbers share a word, so that a
// multiplication makes two products.
func productQ8Generic(d DType, dst []float32, ldd int, x []byte, w []byte, ldw int, m, n, k int, acc bool) {
	f := &q8Formats[d]
	numbers, size := d.Block()
	b := getBuffer(2*k + k/2 + 2*k/16)
	defer b.put()
	pairs := View[int64](BytesOf(b.data[:2*k]))
	q := BytesOf(b.data[2*k:][:k/2])
	factors := b.data[2*k+k/2:][:2*k/16]
	row := q8Size(k)
	for j := 0; j < n; j += 2 {
		cols := min(2, n-j)
		for c := range 2 {
			src := w[(j+min(c, cols-1))*ldw:] // a row that doesn't exist is the one before it
			for p := 0; p < k; p += numbers {
				f.unpack(q[c*k+p:][:numbers], factors[c*k/16+p/16:][:numbers/16], src[p/numbers*size:][:size])
			}
		}
		upper := q[k:][:len(pairs)]
		for p, v := range q[:len(pairs)] {
			pairs[p] = int64(v) | int64(upper[p])<<32
		}
		for i := range m {
			y := dotQ8(f.halves, x[i*row:], pairs, factors[:k/16], factors[k/16:])
			for c, d := range dst[i*ldd+j:][:cols] {
				if acc {
					y[c] += d
				}
				dst[i*ldd+j+c] = y[c]
			}
		}
	}
}

// dotQ8 is two neighbouring elements of the product. No multiplication is fused with an addition.
func dotQ8(halves bool, x []byte, pairs []int64, factors, factors1 []float32) (sums [2]float32) {
	for ; len(pairs) > 0; x, pairs, factors, factors1 = x[q8Unit:], pairs[32:], factors[2:], factors1[2:] {
		xs, qs := (*[q8Unit]byte)(x), (*[32]int64)(pairs)
		var first, last int64
		for i := range 16 {
			first += qs[i] * int64(int8(xs[i]))
			last += qs[i+16] * int64(int8(xs[i+16]))
		}
		word := func(at int) uint32 { return binary.LittleEndian.Uint32(xs[at:]) }
		d, total := math.Float32frombits(word(32)), math.Float32frombits(word(36))
		for c, f := range [2][]float32{factors, factors1} {
			a, b := int32(first), int32(last)
			first, last = (first-int64(a))>>32, (last-int64(b))>>32
			if halves {
				t := float32(float32(a+int32(word(40))) * f[0])
				t += float32(float32(b+int32(word(44))) * f[1])
				sums[c] += float32(t * d)
				continue
			}
			sums[c] += float32(float32(float32(a+b)*f[0]) * d)
			sums[c] -= float32(f[1] * total)
		}
	}
	return sums
}
