//go:build !purego && (amd64 || arm64)

package kernel

import (
	"unsafe"

	"microrwkv/tensor/internal/freelist"
)

// What the products with activations of 8 bits of all instruction sets share.
//
// As many rows of w as a vector has lanes are taken apart together, into a panel in a cache: so each lane
// has the sums of its own row, in the order of the reference, whatever the number of rows of x, and
// nothing is ever added across lanes. A panel has for each 32 numbers ten vectors: eight of four numbers
// (bytes) of each row, then two of factors, see q8Format.

// q8Args are the arguments of the assembly. Distances are in bytes.
type q8Args struct {
	acc, x, panel, w unsafe.Pointer
	ldacc, ldx, ldw  int
	ahead            int // from what is read of w to what is prefetched, which need not exist
	units            int // 32 numbers each
	blocks           int
	rows             int // of x
	resume           int // not 0: start from the sums in acc
}

// q8Kernel is the assembly of an instruction set.
type q8Kernel struct {
	lanes  int
	rows   int                                  // of x in a call, at most
	dot    func(a *q8Args, halves bool)         // acc = sums of rows of x by the panel's rows
	unpack [numDTypes]func(a *q8Args)           // panel = rows of w
	round  func(dst []byte, x []float32, k int) // one row
}

// q8Work is what a product works in. It is on the heap, for it goes through calls of functions in
// variables.
type q8Work struct {
	args  q8Args
	panel []float32
	state []float32
	rows  []byte
}

var q8Works = freelist.New[q8Work]()

// q8Chunk is how many numbers of each row a panel has, at most: it fits the first cache.
const q8Chunk = 1024

const (
	// q8Few is the rows of x for which the memory is what a product waits for. The rows of a panel then are
	// an equal part of all rows apart, so that the panels read long runs of memory, which a CPU fetches
	// faster than many short ones.
	q8Few = 4

	q8Ahead = 512 // bytes between what is read of such a run and what is prefetched
)

// put puts the products into im.
func (kn *q8Kernel) put(im *impl) {
	r := rounding{group: 1, size: q8Size}
	r.round = func(dst []byte, x []float32, _, _, k int) { kn.round(dst, x, k) }
	for d := range q8Formats {
		if kn.unpack[d] == nil {
			continue
		}
		r.products[d] = func(dst []float32, ldd int, x []byte, w []byte, ldw int, m, n, k int, acc bool) {
			kn.product(DType(d), dst, ldd, x, w, ldw, m, n, k, acc)
		}
	}
	im.roundings[Q8Activations] = r
}

func (kn *q8Kernel) product(d DType, dst []float32, ldd int, x []byte, w []byte, ldw int, m, n, k int, acc bool) {
	work := q8Works.Get()
	defer q8Works.Put(work)
	numbers, size := d.Block()
	chunk := q8Chunk / numbers * numbers
	panel := 10 * kn.lanes * min(chunk, k) / 32
	work.panel = freelist.Grown(work.panel, panel+16)
	halves := q8Formats[d].halves
	a, row := &work.args, q8Size(k)
	*a = q8Args{ldx: row, panel: unsafe.Pointer(&aligned(work.panel)[0])}
	apart := 1 // from a row of a panel to its next one
	if m <= q8Few {
		apart = n / kn.lanes
	}
	for j := 0; j < n; j += kn.lanes {
		cols := min(kn.lanes, n-j)
		if cols < kn.lanes {
			apart = 1
		}
		first := j
		if apart > 1 {
			first = j / kn.lanes
		}
		out, ldo := dst[j:], ldd
		if acc || cols < kn.lanes || apart > 1 { // the sums can't be where they belong before they are complete
			work.state = freelist.Grown(work.state, m*kn.lanes)
			out, ldo = work.state, kn.lanes
		}
		for p := 0; p < k; p += chunk {
			part := min(chunk, k-p)
			a.blocks, a.units, a.resume = part/numbers, part/32, p
			src := w[first*ldw+p/numbers*size:]
			a.w, a.ldw, a.ahead = unsafe.Pointer(&src[0]), apart*ldw, kn.lanes*ldw
			if apart > 1 {
				a.ahead = q8Ahead
			}
			if cols < kn.lanes {
				kn.copyRows(work, src, ldw, cols, a.blocks*size)
			}
			kn.unpack[d](a)
			groups := (m + kn.rows - 1) / kn.rows
			for i, g := 0, 0; g < groups; g++ {
				a.rows = (m - i) / (groups - g)
				a.acc, a.ldacc = unsafe.Pointer(&out[i*ldo]), 4*ldo
				a.x = unsafe.Pointer(&x[i*row+p/32*q8Unit])
				kn.dot(a, halves)
				i += a.rows
			}
		}
		if &out[0] == &dst[j] {
			continue
		}
		for i := range m {
			to := dst[i*ldd+first:]
			for c, v := range out[i*ldo:][:cols] {
				if acc {
					v += to[c*apart]
				}
				to[c*apart] = v
			}
		}
	}
	*a = q8Args{} // keep no operands alive
}

// copyRows makes cols rows of size bytes as many as there are lanes. What the lanes without a row compute
// is dropped.
func (kn *q8Kernel) copyRows(work *q8Work, src []byte, ldw, cols, size int) {
	work.rows = freelist.Grown(work.rows, kn.lanes*size)
	rows := work.rows[:kn.lanes*size]
	for r := range cols {
		copy(rows[r*size:][:size], src[r*ldw:])
	}
	work.args.w, work.args.ldw = unsafe.Pointer(&rows[0]), size
}
