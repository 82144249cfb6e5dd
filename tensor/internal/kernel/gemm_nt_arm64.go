//go:build !purego

package kernel

import "unsafe"

// gemmNEON puts the products into im.
func gemmNEON(im *impl) {
	for _, t := range [...]DType{F32, BF16, F16} {
		im.products[t] = func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
			ntGemm(dst, ldd, x, ldx, unsafe.Pointer(&w[0]), t, ldw/t.size(), m, n, k, acc)
		}
	}
	im.gemmNN = gemmNNNEON
}

// ntArgs are the arguments of a row of tiles: rows rows of x by tiles·ntTile rows of w. Distances
// are in bytes.
type ntArgs struct {
	dst, x, w  unsafe.Pointer
	ldd, ldx   int
	w1, w2, w3 int // rows 1, 2, 3 of a tile's w
	tileW      int // from a tile's w to the next one's
	ahead      int // from what is read of w to what is prefetched
	rows       int
	tiles      int
	k          int
	add        int // not 0: add the sums to dst
}

//go:noescape
func ntF32NEON(a *ntArgs)

//go:noescape
func ntBF16NEON(a *ntArgs)

//go:noescape
func ntF16NEON(a *ntArgs)

// run computes a row of tiles. The calls are direct, not through function values, so that a can be
// on the caller's stack.
func (t DType) run(a *ntArgs) {
	switch t {
	case F32:
		ntF32NEON(a)
	case BF16:
		ntBF16NEON(a)
	default:
		ntF16NEON(a)
	}
}

const (
	ntRows = 6 // rows of x in a tile, at most

	ntCall = 1 << 17 // products in a call of the assembly, at most, unless one tile has more

	// ntFew is the number of groups of rows of x up to which a line of w is still in L1 when the
	// last group needs it, and widening it for each is cheaper than storing it widened.
	ntFew = 4

	ntNear = 32 << 10  // bytes of w that L1 holds until they are needed
	ntL2   = 256 << 10 // bytes of w that L2 holds beside x
)

// ntBlock is the number of rows of w that all rows of x visit before the next ones.
func ntBlock(groups, n, k int) int {
	switch {
	case groups == 1:
		return n
	case groups <= ntFew: // keep each line of w in L1 until its last use
		return 2 * ntTile
	}
	return max(ntL2/(4*k)/ntTile*ntTile, 8*ntTile) // x is read again for each block
}

// ntGemm computes dst = x·wᵀ, w of type t.
//
// The rows of x are cut into groups of almost the same size, at most ntRows. A block of w, from the
// memory for the first group, is in a cache for the others. Weights of half size are widened as they
// are read by few groups, and once for many.
func ntGemm(dst []float32, ldd int, x []float32, ldx int, w unsafe.Pointer, t DType, ldw int, m, n, k int, acc bool) {
	groups := (m + ntRows - 1) / ntRows
	block := ntBlock(groups, n, k)
	var wide []float32
	if t != F32 && groups > ntFew {
		buf := getBuffer(min(block, n) * k)
		defer buf.put()
		wide = buf.data
	}
	for j := 0; j < n; j += block {
		cols := min(block, n-j)
		wj, tj, ldj := unsafe.Add(w, j*ldw*t.size()), t, ldw
		if wide != nil {
			t.widenRows(wide, wj, ldw, cols, k)
			wj, tj, ldj = unsafe.Pointer(&wide[0]), F32, k
		}
		for i, g := 0, 0; g < groups; g++ {
			a := ntArgs{
				dst: unsafe.Pointer(&dst[i*ldd+j]), ldd: 4 * ldd,
				x: unsafe.Pointer(&x[i*ldx]), ldx: 4 * ldx,
				w:    wj,
				rows: (m - i) / (groups - g),
				k:    k,
				add:  btoi(acc),
			}
			if g == 0 {
				a.ahead = ntAhead(ldj*tj.size(), a.rows)
			}
			i += a.rows
			tj.tiles(a, ldj, cols)
		}
	}
}

// ntAhead is how far to prefetch, in bytes, when rows of w are row bytes apart: the same place of
// the next tile, or nearer if L1 wouldn't hold it until it is needed.
func ntAhead(row, rows int) int {
	tile := ntTile * row
	if rows == 1 {
		tile *= 2 // the assembly computes two at a time
	}
	if tile > ntNear {
		return 1 << 10
	}
	return tile
}

// tiles computes cols columns: whole tiles, then what is left through a tile of which some columns
// are dropped.
func (t DType) tiles(a ntArgs, ldw, cols int) {
	row := ldw * t.size()
	a.w1, a.w2, a.w3, a.tileW = row, 2*row, 3*row, ntTile*row
	dst, w := a.dst, a.w
	// Assembly isn't preempted: a call takes some tens of microseconds at most.
	most := max(ntCall/(ntTile*a.rows*a.k), 1)
	c := 0
	for ; c+ntTile <= cols; c += ntTile * a.tiles {
		a.tiles = min((cols-c)/ntTile, most)
		a.dst, a.w = unsafe.Add(dst, 4*c), unsafe.Add(w, c*row)
		t.run(&a)
	}
	if c == cols {
		return
	}
	rest := cols - c
	// The columns that don't exist read the last row of w.
	a.w1, a.w2, a.w3 = min(1, rest-1)*row, min(2, rest-1)*row, min(3, rest-1)*row
	var out [ntRows * ntTile]float32
	ldd, add := a.ldd, a.add
	a.dst, a.w = unsafe.Pointer(&out), unsafe.Add(w, c*row)
	a.ldd, a.add, a.tiles = 4*ntTile, 0, 1
	t.run(&a)
	putRest(unsafe.Add(dst, 4*c), ldd, out[:], a.rows, rest, add != 0)
}

// widenRows converts rows rows of w to float32, next to each other.
func (t DType) widenRows(wide []float32, w unsafe.Pointer, ldw, rows, k int) {
	for r := range rows {
		dst, src := wide[r*k:][:k], unsafe.Slice((*uint16)(unsafe.Add(w, 2*r*ldw)), k)
		if t == BF16 {
			widenBF16NEON(dst, src)
		} else {
			widenF16NEON(dst, src)
		}
	}
}
