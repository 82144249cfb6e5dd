//go:build !purego

package kernel

import (
	"encoding/binary"
	"unsafe"
)

//go:noescape
func rowQ8_0AVX2(a *ntArgs)

//go:noescape
func rowQ8_0AVX512(a *ntArgs)

//go:noescape
func widenQ8_0Blocks(dst *float32, src *byte, blocks int)

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

// putBlocks puts what the assembly does with blocks into im.
func (kn *ntKernel) putBlocks(im *impl) {
	im.row[Q8_0] = kn.rowQ8
	im.widen[Q8_0] = func(dst []float32, src []byte) { widenQ8_0Blocks(&dst[0], &src[0], len(dst)/32) }
	im.widen[Q4_0] = blocks(32, 18, func(dst []float32, b []byte) { widenSymmetric(&dst[0], &b[2], &nibbles{step: half(b), bias: 8}) })
	im.widen[Q5_0] = blocks(32, 22, func(dst []float32, b []byte) {
		widenSymmetric(&dst[0], &b[6], &nibbles{step: half(b), bias: 16, high: binary.LittleEndian.Uint32(b[2:])})
	})
	im.widen[Q4_1] = blocks(32, 20, func(dst []float32, b []byte) { widenAffine(&dst[0], &b[4], &nibbles{step: half(b), add: half(b[2:])}) })
	im.widen[Q5_1] = blocks(32, 24, func(dst []float32, b []byte) {
		widenAffine(&dst[0], &b[8], &nibbles{step: half(b), add: half(b[2:]), high: binary.LittleEndian.Uint32(b[4:])})
	})
	im.widen[Q4_K] = func(dst []float32, src []byte) { widenQ4_KBlocks(&dst[0], &src[0], len(dst)/256) }
	im.widen[Q5_K] = func(dst []float32, src []byte) { widenQ5_KBlocks(&dst[0], &src[0], len(dst)/256) }
	im.widen[Q6_K] = func(dst []float32, src []byte) { widenQ6_KBlocks(&dst[0], &src[0], len(dst)/256) }
}

// rowQ8 computes dst = x·wᵀ for one row of x, as row does for weights without blocks: with the bits of the
// product with widened weights.
func (kn *ntKernel) rowQ8(dst, x []float32, w []byte, ldw, n, k int, acc bool) {
	const numbers = 32
	quarter := n / ntTile
	var out [ntTile * rowTiles]float32
	a := ntArgs{
		dst: unsafe.Pointer(&out), x: unsafe.Pointer(&x[0]), w1: quarter * ldw, w2: 2 * quarter * ldw, w3: 3 * quarter * ldw,
		tileW: ldw, steps: k / numbers,
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
	if rest := n % ntTile; rest > 0 { // the columns that don't exist read the last row
		a.w, a.tiles = unsafe.Pointer(&w[(n-rest)*ldw]), 1
		a.w1, a.w2, a.w3 = min(1, rest-1)*ldw, min(2, rest-1)*ldw, min(3, rest-1)*ldw
		kn.runQ8(&a)
		putRest(unsafe.Pointer(&dst[n-rest]), 0, out[:], 1, rest, acc)
	}
}

func (kn *ntKernel) runQ8(a *ntArgs) {
	if kn.avx512 {
		rowQ8_0AVX512(a)
	} else {
		rowQ8_0AVX2(a)
	}
}
