//go:build !purego

package kernel

import "unsafe"

//go:noescape
func ntQ8_0NEON(a *ntArgs)

//go:noescape
func widenQ8_0NEON(dst *float32, src *byte, blocks int)

//go:noescape
func widenQ4_0NEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ4_1NEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ5_0NEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ5_1NEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenIQ4_NLNEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenIQ4_XSNEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ2_KNEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ3_KNEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ4_KNEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ5_KNEON(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ6_KNEON(dst *float32, src *byte, factors *float32)

// blocksNEON puts what the assembly does with blocks into im. The calls are direct, so that factors are on the
// stack.
func blocksNEON(im *impl) {
	im.few[Q8_0].rows, im.few[Q8_0].product = 1, rowQ8NEON
	im.widen[Q8_0] = func(dst []float32, src []byte) { widenQ8_0NEON(&dst[0], &src[0], len(dst)/32) }
	im.widen[Q4_0] = blocks(32, 18, func(dst []float32, b []byte) {
		var f factors
		f.half(b)
		widenQ4_0NEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q4_1] = blocks(32, 20, func(dst []float32, b []byte) {
		var f factors
		f.affine(b)
		widenQ4_1NEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q5_0] = blocks(32, 22, func(dst []float32, b []byte) {
		var f factors
		f.half(b)
		widenQ5_0NEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q5_1] = blocks(32, 24, func(dst []float32, b []byte) {
		var f factors
		f.affine(b)
		widenQ5_1NEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[IQ4_NL] = blocks(32, 18, func(dst []float32, b []byte) {
		var f factors
		f.half(b)
		widenIQ4_NLNEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[IQ4_XS] = blocks(256, 136, func(dst []float32, b []byte) {
		var f factors
		f.iq4XS(b)
		widenIQ4_XSNEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q2_K] = blocks(256, 84, func(dst []float32, b []byte) {
		var f factors
		f.q2K(b)
		widenQ2_KNEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q3_K] = blocks(256, 110, func(dst []float32, b []byte) {
		var f factors
		f.q3K(b)
		widenQ3_KNEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q4_K] = blocks(256, 144, func(dst []float32, b []byte) {
		var f factors
		f.scaleK(b)
		widenQ4_KNEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q5_K] = blocks(256, 176, func(dst []float32, b []byte) {
		var f factors
		f.scaleK(b)
		widenQ5_KNEON(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q6_K] = blocks(256, 210, func(dst []float32, b []byte) {
		var f factors
		f.q6K(b)
		widenQ6_KNEON(&dst[0], &b[0], &f[0][0])
	})
}

// rowQ8NEON computes dst = x·wᵀ for one row of x with the bits of the product with widened weights.
func rowQ8NEON(dst []float32, _ int, x []float32, _ int, w []byte, ldw int, _, n, k int, acc bool) {
	a := ntArgs{
		dst: unsafe.Pointer(&dst[0]), x: unsafe.Pointer(&x[0]), w: unsafe.Pointer(&w[0]),
		w1: ldw, w2: 2 * ldw, w3: 3 * ldw, tileW: ntTile * ldw, ahead: ntAhead(ldw, 1), rows: 1, k: k, add: btoi(acc),
	}
	most := max(ntCall/(ntTile*k), 2)
	c := 0
	for ; c+ntTile <= n; c += ntTile * a.tiles {
		a.tiles = min((n-c)/ntTile, most)
		a.dst, a.w = unsafe.Pointer(&dst[c]), unsafe.Pointer(&w[c*ldw])
		ntQ8_0NEON(&a)
	}
	if rest := n - c; rest > 0 { // the columns that don't exist read the last row of w
		var out [ntTile]float32
		a.dst, a.w, a.tiles, a.add = unsafe.Pointer(&out), unsafe.Pointer(&w[c*ldw]), 1, 0
		a.w1, a.w2, a.w3 = min(1, rest-1)*ldw, min(2, rest-1)*ldw, min(3, rest-1)*ldw
		ntQ8_0NEON(&a)
		putRest(unsafe.Pointer(&dst[c]), 0, out[:], 1, rest, acc)
	}
}

// affine is for blocks of 32 numbers with a scale and what is added.
func (f *factors) affine(b []byte) {
	d, m := half(b), half(b[2:])
	f[0], f[1] = [2]float32{d, -m}, [2]float32{d, -m}
}

// scaleK is for Q4_K and Q5_K.
func (f *factors) scaleK(b []byte) {
	d, dmin := half(b), half(b[2:])
	for j := range 8 {
		scale, least := scaleK(b[4:16], j)
		f[2*j] = [2]float32{d * scale, dmin * least}
		f[2*j+1] = f[2*j]
	}
}

func (f *factors) q6K(b []byte) {
	d := half(b[208:])
	for i, s := range b[192:208] {
		f[i][0] = d * float32(int8(s))
	}
}
