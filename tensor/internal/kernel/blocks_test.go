package kernel

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// randomBlocks returns n blocks of a quantized format, of random bits with scales near 1.
func randomBlocks(rng *rand.Rand, d DType, n int) []byte {
	_, size := d.Block()
	b := make([]byte, n*size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	for i := range n {
		for _, at := range d.Scales() {
			binary.LittleEndian.PutUint16(b[i*size+at:], uint16(rng.Uint32())&0x83ff|0x3000+uint16(rng.Uint32())&0xc00)
		}
	}
	return b
}

// eachBlocked runs a subtest for every format of blocks.
func eachBlocked(t *testing.T, f func(t *testing.T, d DType)) {
	for d := F32; d < numDTypes; d++ {
		if numbers, _ := d.Block(); numbers > 1 {
			t.Run(d.String(), func(t *testing.T) { f(t, d) })
		}
	}
}

// Every implementation's widening gives the bits of the reference.
func TestWidenBlocks(t *testing.T) {
	eachBlocked(t, func(t *testing.T, d DType) {
		eachImpl(t, func(t *testing.T, im *impl) {
			numbers, _ := d.Block()
			src := randomBlocks(newRand(), d, 5)
			got, want := make([]float32, 5*numbers), make([]float32, 5*numbers)
			im.widen[d](got, src)
			dtypes[d].widen(want, src)
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("number %d: %g, want %g", i, got[i], want[i])
				}
			}
		})
	})
}

// Products of blocks are those of the widened numbers, within the roundings of a sum in any order, and a
// row of them has the same bits alone and among others, wherever its weights lie.
func TestBlockProducts(t *testing.T) {
	eachBlocked(t, func(t *testing.T, d DType) {
		eachImpl(t, func(t *testing.T, im *impl) {
			rng := newRand()
			numbers, _ := d.Block()
			type size struct{ m, n, blocks int }
			sizes := []size{{1, 1, 1}, {1, 37, 3}, {3, 5, 2}, {7, 34, 5}, {40, 3, 1}}
			if im.few[d].product != nil || im.products[d] != nil { // every tile, with every rest
				for m := 1; m <= 25; m++ {
					for n := 1 + m%2; n <= 11; n += 2 {
						sizes = append(sizes, size{m, n, 1 + m%3})
					}
				}
				sizes = append(sizes, size{1, 300, 2}, size{2, 71, 4}, size{16, 71, 4}, size{33, 66, 3})
			}
			for _, c := range sizes {
				k := c.blocks * numbers
				x, w := randoms(rng, c.m*k), randomBlocks(rng, d, c.n*c.blocks)
				row := d.Bytes(k)
				got, wide := make([]float32, c.m*c.n), make([]float32, k)
				im.product(d, got, c.n, x, k, w, row, c.m, c.n, k, false)
				for j := range c.n {
					dtypes[d].widen(wide, w[j*row:][:row])
					for i := range c.m {
						want, scale := 0.0, 0.0
						for p, v := range wide {
							want += float64(v) * float64(x[i*k+p])
							scale += math.Abs(float64(v) * float64(x[i*k+p]))
						}
						if bound := float64(k+8) * 0x1p-24 * scale; !(math.Abs(float64(got[i*c.n+j])-want) <= bound) {
							t.Fatalf("%+v: element %d, %d is %g, want %g ± %g", c, i, j, got[i*c.n+j], want, bound)
						}
						var alone [1]float32
						im.product(d, alone[:], 1, x[i*k:], k, w[j*row:], row, 1, 1, k, false)
						if alone[0] != got[i*c.n+j] {
							t.Fatalf("%+v: element %d, %d is %g, alone %g", c, i, j, got[i*c.n+j], alone[0])
						}
					}
				}
				added := newMatrix(rng, c.m, c.n, 2, 1)
				before := added.clone()
				im.product(d, added.slice(), added.ld, x, k, w, row, c.m, c.n, k, true)
				added.checkGuards(t)
				for i := range c.m {
					for j, v := range before.row(i) {
						if want := got[i*c.n+j] + v; added.row(i)[j] != want {
							t.Fatalf("%+v: added to %g: %g, want %g", c, v, added.row(i)[j], want)
						}
					}
				}
			}
		})
	})
}
