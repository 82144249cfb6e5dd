//go:build linux

package kernel

import (
	"fmt"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// edge is memory behind which there is a page that can't be touched.
type edge []byte

// newEdge returns size bytes, a multiple of the page size.
func newEdge(t *testing.T, size int) edge {
	t.Helper()
	page := syscall.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return edge(mem[:size:size])
}

// floats returns the last n numbers before the page, bits the last n of 16 bits.
func (e edge) floats(n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&e[len(e)-4*n])), n)
}

func (e edge) bits(n int) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(&e[len(e)-2*n])), n)
}

// eachBound runs a test of the operands' ends with each implementation. Calls go by call, which names
// what faults.
func eachBound(t *testing.T, test func(t *testing.T, im *impl, call func(what string, f func()))) {
	eachImpl(t, func(t *testing.T, im *impl) {
		debug.SetPanicOnFault(true) // of this goroutine, which ends with the test
		test(t, im, func(what string, f func()) {
			defer func() {
				if err := recover(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}()
			f()
		})
	})
}

const edgeSize = 64 << 10

// TestBounds lets every operand end where memory ends: no kernel may read or write beyond, as the
// last weight of a mapped file may be the last of its page.
func TestBounds(t *testing.T) {
	x, y, z, dst := newEdge(t, edgeSize), newEdge(t, edgeSize), newEdge(t, edgeSize), newEdge(t, edgeSize)
	eachBound(t, func(t *testing.T, im *impl, call func(what string, f func())) {
		for n := 1; n <= 70; n++ {
			d, o := dst.floats(n), operands{x.floats(n), y.floats(n), z.floats(n)}
			for _, op := range elementwise {
				call(fmt.Sprintf("%s of %d", op.name, n), func() { op.run(im, d, o) })
			}
			call(fmt.Sprintf("reductions and widening of %d", n), func() {
				im.axpy(d, 2, o.a)
				im.expSum(d, o.a, 1)
				im.dot(o.a, o.b)
				im.sum(o.a)
				im.sumSquares(o.a, 1)
				im.max(o.a)
				im.widen[BF16](d, BytesOf(x.bits(n)))
				im.widen[F16](d, BytesOf(x.bits(n)))
			})
		}
		for _, n := range []int{1, 3, 4, 6, 8, 16, 17, 32} {
			call(fmt.Sprintf("recurrences of %d", n), func() {
				s, o := x.floats(n*n), y.floats(n)
				im.wkv5(dst.floats(n), s, o, o, z.floats(n), 1, 1)
				im.wkv7(dst.floats(n), s, o, o, o, z.floats(n), o, o)
			})
		}
		eachProduct(func(m, n, k int) {
			call(fmt.Sprintf("products of m=%d n=%d k=%d", m, n, k), func() {
				d, x := dst.floats(m*n), x.floats(m*k)
				im.product(F32, d, n, x, k, BytesOf(y.floats(n*k)), 4*k, m, n, k, false)
				im.gemmNN(d, n, x, k, y.floats(k*n), n, m, n, k, true)
			})
		})
	})
}

// TestBoundsOf16Bits is TestBounds of the products with weights of 16 bits.
func TestBoundsOf16Bits(t *testing.T) {
	x, y, dst := newEdge(t, edgeSize), newEdge(t, edgeSize), newEdge(t, edgeSize)
	eachBound(t, func(t *testing.T, im *impl, call func(what string, f func())) {
		eachProduct(func(m, n, k int) {
			d, x, y := dst.floats(m*n), x.floats(m*k), BytesOf(y.bits(n*k))
			for _, kind := range []DType{BF16, F16} {
				call(fmt.Sprintf("%v product of m=%d n=%d k=%d", kind, m, n, k), func() {
					im.product(kind, d, n, x, k, y, 2*k, m, n, k, kind == BF16)
				})
			}
		})
	})
}

// eachProduct calls f with sizes of all tiles and their rests.
func eachProduct(f func(m, n, k int)) {
	for _, m := range []int{1, 2, 3, 5, 6, 7, 26} {
		for n := 1; n <= 21; n += 1 + n/9 {
			for k := 1; k <= 75; k += 1 + k/9 {
				f(m, n, k)
			}
		}
	}
}

// TestBoundsQ8 is TestBounds of rounding activations to 8 bits and the products with them.
func TestBoundsQ8(t *testing.T) {
	x, w, dst := newEdge(t, edgeSize), newEdge(t, edgeSize), newEdge(t, edgeSize)
	eachBound(t, func(t *testing.T, im *impl, call func(what string, f func())) {
		r := &im.roundings[Q8Activations]
		for k := 32; k <= 512; k += 32 {
			call(fmt.Sprintf("rounding %d", k), func() { r.round(dst[len(dst)-q8Size(k):], x.floats(k), k, 1, k) })
		}
		for d, product := range r.products {
			if product == nil {
				continue
			}
			d := DType(d)
			numbers, _ := d.Block()
			for _, m := range []int{1, 2, 5, 9} {
				for n := 1; n <= 35; n += 1 + n/9 {
					for _, k := range []int{numbers, 2 * numbers} {
						row := d.Bytes(k)
						call(fmt.Sprintf("product of m=%d n=%d k=%d with %v", m, n, k, d), func() {
							product(dst.floats(m*n), n, x[len(x)-m*q8Size(k):], w[len(w)-n*row:], row, m, n, k, n%2 == 0)
						})
					}
				}
			}
		}
	})
}

// TestBoundsOfBlocks is TestBounds of widening blocks and of the products with them.
func TestBoundsOfBlocks(t *testing.T) {
	x, w, dst := newEdge(t, edgeSize), newEdge(t, edgeSize), newEdge(t, edgeSize)
	eachBound(t, func(t *testing.T, im *impl, call func(what string, f func())) {
		for d := Q8_0; d < numDTypes; d++ {
			numbers, size := d.Block()
			for blocks := 1; blocks <= 5; blocks++ {
				call(fmt.Sprintf("widening %d blocks of %v", blocks, d), func() {
					im.widen[d](dst.floats(blocks*numbers), w[len(w)-blocks*size:])
				})
			}
			for _, m := range []int{1, 2, 5, 9} {
				for n := 1; n <= 12; n++ {
					k := numbers * (1 + n%2)
					call(fmt.Sprintf("product of m=%d n=%d k=%d with %v", m, n, k, d), func() {
						im.product(d, dst.floats(m*n), n, x.floats(m*k), k, w[len(w)-d.Bytes(n*k):], d.Bytes(k), m, n, k, n%3 == 0)
					})
				}
			}
		}
	})
}

// TestBoundsOfBF16Products is TestBounds of products whose activations are rounded to bfloat16.
func TestBoundsOfBF16Products(t *testing.T) {
	x, y, dst := newEdge(t, edgeSize), newEdge(t, edgeSize), newEdge(t, edgeSize)
	eachBound(t, func(t *testing.T, im *impl, call func(what string, f func())) {
		if im.roundings[BF16Activations].products[BF16] == nil {
			return
		}
		eachProduct(func(m, n, k int) {
			d, x := dst.floats(m*n), x.floats(m*k)
			call(fmt.Sprintf("product of m=%d n=%d k=%d", m, n, k), func() {
				roundedProduct(im, BF16Activations, BF16, d, n, x, k, BytesOf(y.bits(n*k)), 2*k, m, n, k, true)
				roundedProduct(im, BF16Activations, F32, d, n, x, k, BytesOf(y.floats(n*k)), 4*k, m, n, k, false)
			})
		})
	})
}
