//go:build !purego

package kernel

import (
	"encoding/binary"
	"unsafe"
)

//go:noescape
func ntQ8_0AVX2(a *ntArgs)

//go:noescape
func ntQ8_0AVX512(a *ntArgs)

//go:noescape
func widenQ8_0AVX2(dst *float32, src *byte, blocks int)

//go:noescape
func widenQ8_0AVX512(dst *float32, src *byte, blocks int)

// nibbles says what the numbers of a block are, see widenSymmetric and widenAffine.
type nibbles struct {
	step float32
	bias int32
	add  float32
	high uint32 // the fifth bit of each
}

//go:noescape
func widenSymmetric(dst *float32, src *byte, p *nibbles)

//go:noescape
func widenAffine(dst *float32, src *byte, p *nibbles)

//go:noescape
func widenQ5_KBlocks(dst *float32, src *byte, blocks int)

//go:noescape
func widenQ4_KBlocks(dst *float32, src *byte, blocks int)

//go:noescape
func widenQ6_KBlocks(dst *float32, src *byte, blocks int)

//go:noescape
func widenIQ4_NLAVX2(dst *float32, src *byte, factors *float32)

//go:noescape
func widenIQ4_XSAVX2(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ2_KAVX2(dst *float32, src *byte, factors *float32)

//go:noescape
func widenQ3_KAVX2(dst *float32, src *byte, factors *float32)

// putBlocks puts what the assembly does with blocks into im.
func (kn *ntKernel) putBlocks(im *impl) {
	im.few[Q8_0].rows, im.few[Q8_0].product = 4*kn.rows, kn.gemmQ8
	im.widen[Q8_0] = func(dst []float32, src []byte) { widenQ8_0AVX2(&dst[0], &src[0], len(dst)/32) }
	if kn.avx512 {
		im.few[Q8_0].rows, im.few[Q8_0].product = 0, nil
		im.products[Q8_0] = kn.gemmQ8 // the first rows of x widen for all others
		im.widen[Q8_0] = func(dst []float32, src []byte) { widenQ8_0AVX512(&dst[0], &src[0], len(dst)/32) }
	}
	im.widen[Q4_0] = blocks(32, 18, func(dst []float32, b []byte) { widenSymmetric(&dst[0], &b[2], &nibbles{step: half(b), bias: 8}) })
	im.widen[Q5_0] = blocks(32, 22, func(dst []float32, b []byte) {
		widenSymmetric(&dst[0], &b[6], &nibbles{step: half(b), bias: 16, high: binary.LittleEndian.Uint32(b[2:])})
	})
	im.widen[Q4_1] = blocks(32, 20, func(dst []float32, b []byte) { widenAffine(&dst[0], &b[4], &nibbles{step: half(b), add: half(b[2:])}) })
	im.widen[Q5_1] = blocks(32, 24, func(dst []float32, b []byte) {
		widenAffine(&dst[0], &b[8], &nibbles{step: half(b), add: half(b[2:]), high: binary.LittleEndian.Uint32(b[4:])})
	})
	// The calls are direct, so that factors are on the stack.
	im.widen[IQ4_NL] = blocks(32, 18, func(dst []float32, b []byte) {
		var f factors
		f.half(b)
		widenIQ4_NLAVX2(&dst[0], &b[0], &f[0][0])
	})
	im.widen[IQ4_XS] = blocks(256, 136, func(dst []float32, b []byte) {
		var f factors
		f.iq4XS(b)
		widenIQ4_XSAVX2(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q2_K] = blocks(256, 84, func(dst []float32, b []byte) {
		var f factors
		f.q2K(b)
		widenQ2_KAVX2(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q3_K] = blocks(256, 110, func(dst []float32, b []byte) {
		var f factors
		f.q3K(b)
		widenQ3_KAVX2(&dst[0], &b[0], &f[0][0])
	})
	im.widen[Q4_K] = func(dst []float32, src []byte) { widenQ4_KBlocks(&dst[0], &src[0], len(dst)/256) }
	im.widen[Q5_K] = func(dst []float32, src []byte) { widenQ5_KBlocks(&dst[0], &src[0], len(dst)/256) }
	im.widen[Q6_K] = func(dst []float32, src []byte) { widenQ6_KBlocks(&dst[0], &src[0], len(dst)/256) }
}

// rowQ8 computes dst = x·wᵀ for one row of x, as row does for weights without blocks: with the bits of the
// product with widened weights.
func (kn *ntKernel) rowQ8(dst, x []float32, w []byte, ldw, n, k int, acc bool) {
	quarter := n / ntTile
	var out [ntTile * rowTiles]float32
	a := ntArgs{
		dst: unsafe.Pointer(&out), x: unsafe.Pointer(&x[0]), w1: quarter * ldw, w2: 2 * quarter * ldw, w3: 3 * quarter * ldw,
		tileW: ldw, rows: 1, steps: k / 32, fetchStep: ntAhead,
	}
	most := min(max(ntCall/(ntTile*k), 1), rowTiles)
	for r := 0; r < quarter; r += a.tiles {
		a.tiles, a.w = min(most, quarter-r), unsafe.Pointer(&w[r*ldw])
		kn.runQ8(&a)
		for c := range ntTile {
			d := dst[c*quarter+r:][:a.tiles]
			for i := range d {
				if acc {
					d[i] += out[ntTile*i+c]
				} else {
					d[i] = out[ntTile*i+c]
				}
			}
		}
	}
	if rest := n % ntTile; rest > 0 {
		a.dst, a.w, a.fetchStep, a.add = unsafe.Pointer(&dst[n-rest]), unsafe.Pointer(&w[(n-rest)*ldw]), 0, btoi(acc)
		kn.restQ8(a, ldw, rest)
	}
}

// restQ8 computes the last columns, fewer than a tile has.
func (kn *ntKernel) restQ8(a ntArgs, ldw, rest int) {
	var out [6 * ntTile]float32
	dst, ldd, add := a.dst, a.ldd, a.add
	// The columns that don't exist read the last row of w.
	a.w1, a.w2, a.w3 = min(1, rest-1)*ldw, min(2, rest-1)*ldw, min(3, rest-1)*ldw
	a.dst, a.ldd, a.add, a.tiles = unsafe.Pointer(&out), 4*ntTile, 0, 1
	kn.runQ8(&a)
	putRest(dst, ldd, out[:], a.rows, rest, add != 0)
}

const (
	// q8Block is the rows of w that all groups of rows of x visit before the next ones: they stay in a cache.
	q8Block = 8 * ntTile

	// q8Alone is the rows of x up to which each group widens the weights for itself: the groups are so small
	// that storing them costs as much.
	q8Alone = 8

	q8Gap = 16 // numbers between widened rows, which then don't share sets of a cache
)

// gemmQ8 computes dst = x·wᵀ, with the bits of the product with widened weights: a group of rows of x widens
// the weights in registers. With AVX-512 the first of several groups leaves them widened for the others, unless
// the groups are small; with AVX2 it is for few rows.
func (kn *ntKernel) gemmQ8(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
	if m == 1 {
		kn.rowQ8(dst, x, w, ldw, n, k, acc)
		return
	}
	groups := (m + kn.rows - 1) / kn.rows
	var wide []float32
	ldwide := k + q8Gap
	if kn.avx512 && m > q8Alone {
		b := getBuffer(min(q8Block, n+ntTile-1)*ldwide + 16)
		defer b.put()
		wide = aligned(b.data)
	}
	for j := 0; j < n; j += q8Block {
		cols := min(q8Block, n-j)
		for i, g := 0, 0; g < groups; g++ {
			a := ntArgs{
				dst: unsafe.Pointer(&dst[i*ldd+j]), ldd: 4 * ldd, x: unsafe.Pointer(&x[i*ldx]), ldx: 4 * ldx,
				rows: (m - i + groups - g - 1) / (groups - g), add: btoi(acc),
			}
			i += a.rows
			if wide != nil && g > 0 {
				a.w, a.steps = unsafe.Pointer(&wide[0]), k/kn.lanes
				kn.tiles(F32, a, ldwide, cols)
				continue
			}
			a.w, a.w1, a.w2, a.w3, a.tileW = unsafe.Pointer(&w[j*ldw]), ldw, 2*ldw, 3*ldw, ntTile*ldw
			a.steps, a.tiles = k/32, cols/ntTile
			if wide != nil {
				a.wide, a.ldwide = unsafe.Pointer(&wide[0]), 4*ldwide
			}
			if g == 0 {
				a.fetchStep = ntTile * ldw // the next tile
			}
			if a.tiles > 0 {
				kn.runQ8(&a)
			}
			if rest := cols % ntTile; rest > 0 {
				a.dst, a.w, a.fetchStep = unsafe.Add(a.dst, 4*(cols-rest)), unsafe.Add(a.w, (cols-rest)*ldw), 0
				if wide != nil {
					a.wide = unsafe.Add(a.wide, (cols-rest)*a.ldwide)
				}
				kn.restQ8(a, ldw, rest)
			}
		}
	}
}

func (kn *ntKernel) runQ8(a *ntArgs) {
	if kn.avx512 {
		ntQ8_0AVX512(a)
	} else {
		ntQ8_0AVX2(a)
	}
}
