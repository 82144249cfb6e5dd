//go:build !purego

package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// Products of bfloat16, whose sums are float32: VDPBF16PS of AVX-512, and TDPBF16PS of AMX. Both take denormals
// for zeros.

//go:noescape
func ntPairsAVX512(a *ntArgs)

//go:noescape
func roundBF16Vec(dst *uint16, x *float32, n int)

//go:noescape
func amxRound(dst *byte, x *float32, ldx, rows, k int)

//go:noescape
func amxProduct(a *amxArgs)

// amxArgs are the arguments of a product of 1 to 32 rows of w with rows of x in groups of 16. Distances are in
// bytes. Rows of w that fill tiles of 16 are read whether or not they are columns of dst.
type amxArgs struct {
	dst, x, w unsafe.Pointer
	scratch   unsafe.Pointer // 4 KB
	ldd, ldw  int
	group     int // bytes of a group of x
	rows      int // of x
	cols      int // rows of w
	steps     int // 32 numbers of k each
	fetch     uintptr
	add       int // not 0: add the sums to dst
}

const (
	bf16Step = 32 // numbers of k in a step
	amxRows  = 16 // of a tile
)

// bf16Steps is how many steps k numbers take, the last perhaps with zeros.
func bf16Steps(k int) int { return (k + bf16Step - 1) / bf16Step }

// ntPairs is the product of rows whose numbers are pairs of bfloat16.
var ntPairs = ntKernel{lanes: 16, rows: 6, avx512: true, pairs: true}

// bf16AVX512 puts the products of bfloat16 into im if the CPU has VDPBF16PS.
func bf16AVX512(im *impl) {
	if !cpu.X86.HasAVX512BF16 {
		return
	}
	r := &im.roundings[BF16Activations]
	*r = rounding{
		group: 1,
		size:  func(k int) int { return 2 * bf16Step * bf16Steps(k) },
		round: func(dst []byte, x []float32, ldx, m, k int) { roundBF16Vec(&View[uint16](dst)[0], &x[0], k) },
	}
	for _, t := range [...]DType{F32, BF16, F16} {
		r.products[t] = func(dst []float32, ldd int, x []byte, w []byte, ldw int, m, n, k int, acc bool) {
			pairs, ldx := View[float32](x), bf16Step/2*bf16Steps(k)
			if t == BF16 && k%2 == 0 && ldw%4 == 0 {
				ntPairs.gemm(dst, ldd, pairs, ldx, unsafe.Pointer(&w[0]), F32, ldw/4, m, n, k/2, acc)
				return
			}
			overBF16(t, w, ldw, n, k, func(panel []byte, j, cols int) {
				ntPairs.gemm(dst[j:], ldd, pairs, ldx, unsafe.Pointer(&panel[0]), F32, ldx, m, cols, ldx, acc)
			})
		}
	}
}

// bf16AMX puts the products on AMX tiles into im.
func bf16AMX(im *impl) {
	r := &im.roundings[BF16Activations]
	*r = rounding{
		group: amxRows,
		size:  func(k int) int { return amxRows * 2 * bf16Step * bf16Steps(k) },
		round: func(dst []byte, x []float32, ldx, m, k int) { amxRound(&dst[0], &x[0], 4*ldx, m, k) },
	}
	for _, t := range [...]DType{F32, BF16, F16} {
		r.products[t] = func(dst []float32, ldd int, x []byte, w []byte, ldw int, m, n, k int, acc bool) {
			const panel = 2 * amxRows
			scratch := getBuffer(4*amxRows*amxRows + 16)
			defer scratch.put()
			a := amxArgs{
				x: unsafe.Pointer(&x[0]), ldd: 4 * ldd, group: r.size(k), rows: m, steps: bf16Steps(k), add: btoi(acc),
				scratch: unsafe.Pointer(&aligned(scratch.data)[0]),
			}
			j := 0
			if t == BF16 && k%bf16Step == 0 { // whole tiles are read where they lie
				for ; n-j >= amxRows; j += a.cols {
					a.cols = min(n-j, panel) / amxRows * amxRows
					a.dst, a.w, a.ldw = unsafe.Pointer(&dst[j]), unsafe.Pointer(&w[j*ldw]), ldw
					a.fetch = uintptr(a.w) + uintptr(a.cols*ldw)
					amxProduct(&a)
				}
				if j == n {
					return
				}
			}
			a.fetch, a.ldw = 0, 2*bf16Step*a.steps
			overBF16(t, w[j*ldw:], ldw, n-j, k, func(wide []byte, from, cols int) {
				for c := 0; c < cols; c += panel {
					a.cols = min(cols-c, panel)
					a.dst, a.w = unsafe.Pointer(&dst[j+from+c]), unsafe.Pointer(&wide[c*a.ldw])
					amxProduct(&a)
				}
			})
		}
	}
}

// overBF16 rounds rows of w of type t to bfloat16, whole steps of them, some rows at a time that stay in a
// cache, and calls f with them, the first row's number and how many they are. Behind them are zeros up to
// a whole number of tiles.
func overBF16(t DType, w []byte, ldw, n, k int, f func(rows []byte, from, cols int)) {
	length := bf16Step * bf16Steps(k)
	rows := min(max(wideNumbers/length/amxRows, 1)*amxRows, (n+amxRows-1)/amxRows*amxRows)
	b := getBuffer(rows*length/2 + k)
	defer b.put()
	wide, numbers := BytesOf(b.data[k:][:rows*length/2]), b.data[:k]
	row := t.Bytes(k)
	for j := 0; j < n; j += rows {
		cols := min(rows, n-j)
		for r := range cols {
			src := w[(j+r)*ldw:][:row]
			if t == F32 {
				numbers = View[float32](src)
			} else {
				ntAVX512.widen(numbers, unsafe.Pointer(&src[0]), t, 0, 1, k)
			}
			roundBF16Vec(&View[uint16](wide)[r*length], &numbers[0], k)
		}
		clear(wide[2*cols*length:])
		f(wide, j, cols)
	}
}
