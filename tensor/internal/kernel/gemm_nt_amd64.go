//go:build !purego

package kernel

import "unsafe"

// ntArgs are the arguments of a row of tiles: rows rows of x by tiles·cols(rows) rows of w. Distances are
// in bytes.
type ntArgs struct {
	dst, x, w  unsafe.Pointer
	state      unsafe.Pointer
	ldd, ldx   int
	w1, w2, w3 int     // rows 1, 2 and, if there is one, 3 of a tile's w
	tileW      int     // from a tile's w to the next one's
	fetch      uintptr // what to prefetch; need not exist
	fetchStep  int     // from one prefetched address to the next; 0: don't
	rows       int
	tiles      int
	steps      int            // whole vectors of k
	tail       int            // numbers of k after them
	tailMask   int            // 2^tail − 1
	resume     int            // not 0: start from the accumulators in state
	save       int            // not 0: leave the accumulators in state, not their sums in dst
	add        int            // not 0: add the sums to dst
	wide       unsafe.Pointer // where the widened rows of w are left, of Q8_0; or nil
	ldwide     int
}

// ntKernel is the assembly for an instruction set.
type ntKernel struct {
	lanes  int // float32 numbers of a vector
	rows   int // of x in a tile of ntTile rows of w, at most
	avx512 bool
	pairs  bool // numbers are pairs of bfloat16, as large as a float32
}

var (
	ntAVX2   = ntKernel{lanes: 8, rows: 3}
	ntAVX512 = ntKernel{lanes: 16, rows: 6, avx512: true}
)

//go:noescape
func ntF32AVX2(a *ntArgs)

//go:noescape
func ntBF16AVX2(a *ntArgs)

//go:noescape
func ntF16AVX2(a *ntArgs)

//go:noescape
func ntF32AVX512(a *ntArgs)

//go:noescape
func ntBF16AVX512(a *ntArgs)

//go:noescape
func ntF16AVX512(a *ntArgs)

// run computes a row of tiles. The calls are direct, not through function values, so that a
// can be on the caller's stack.
func (kn *ntKernel) run(t DType, a *ntArgs) {
	switch {
	case kn.pairs:
		ntPairsAVX512(a)
	case kn.avx512 && t == F32:
		ntF32AVX512(a)
	case kn.avx512 && t == BF16:
		ntBF16AVX512(a)
	case kn.avx512:
		ntF16AVX512(a)
	case t == F32:
		ntF32AVX2(a)
	case t == BF16:
		ntBF16AVX2(a)
	default:
		ntF16AVX2(a)
	}
}

// put puts the products of the types that the assembly reads into im.
func (kn *ntKernel) put(im *impl) {
	for _, t := range [...]DType{F32, BF16, F16} {
		im.products[t] = func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
			kn.gemm(dst, ldd, x, ldx, unsafe.Pointer(&w[0]), t, ldw/t.size(), m, n, k, acc)
		}
	}
}

const (
	ntCall = 1 << 20 // products in a call of the assembly, at most, unless one tile has more

	ntUnroll = 4 // vectors of k in a turn of the assembly's loop

	// ntChunk is how much of k, at most, is summed between two visits of the accumulators: a
	// tile's rows of x and of w then fit L1.
	ntChunk = 1152

	// ntFew is the number of groups of rows of x up to which widening w for each of them is cheaper
	// than storing it widened.
	ntFew = 4

	// ntFetchers is the largest number of groups of rows of x that prefetch.
	ntFetchers = 8

	// ntAhead is the bytes between what is read for one row of x and what is prefetched.
	ntAhead = 1024

	// ntBlock is the memory, in bytes, of the weights that groups of rows of x share before the next ones,
	// which are prefetched meanwhile: both fit a L2 cache of half a megabyte. With 16 rows of bfloat16, 192 KB
	// take a tenth to a fifth less time than 64.
	ntBlock = 192 << 10

	// ntL2 is the memory, in bytes, that operands may take in L2.
	ntL2 = 1 << 20
)

const (
	// ntManyRows is the largest number of rows of x in a tile of AVX-512, of ntNarrow rows of w.
	ntManyRows = 8
	ntNarrow   = 3
)

// cols is the number of rows of w in a tile of rows rows of x.
func (kn *ntKernel) cols(rows int) int {
	if rows > kn.rows {
		return ntNarrow
	}
	return ntTile
}

// group is the number of rows of x, at most, in the tiles of m rows. Tiles of many rows pay where one takes all of
// them, so that w is read once, and k is so short that they stay in L1.
func (kn *ntKernel) group(m, k int) int {
	if kn.avx512 && !kn.pairs && m > kn.rows && m <= ntManyRows && k <= ntChunk {
		return ntManyRows
	}
	return kn.rows
}

// blockRows is the number of rows of w that all rows of x visit before the next ones.
func (kn *ntKernel) blockRows(t DType, m, n, k int) int {
	switch {
	case m <= kn.group(m, k):
		return n
	case m*k*4 <= ntL2: // x stays in L2, and a group of its rows in L1 meanwhile
		return max(ntBlock/(k*t.size())/ntTile, 8) * ntTile
	}
	// x is read again for each block: make blocks large, so that it happens rarely.
	return max(ntL2/(4*k)/ntTile*ntTile, 8*ntTile)
}

// gemm computes dst = x·wᵀ, w of type t.
//
// The rows of x are cut into groups of almost the same size, at most kn.rows. A block of w, from
// the memory for the first group, is in a cache for the others, which meanwhile prefetch the next
// block, a part each. Weights of half size are widened as they are read by few groups, and once
// for many. When k is long it is cut in chunks; the accumulators then wait in memory,
// which changes no bits.
func (kn *ntKernel) gemm(dst []float32, ldd int, x []float32, ldx int, w unsafe.Pointer, t DType, ldw int, m, n, k int, acc bool) {
	most := kn.group(m, k)
	groups := (m + most - 1) / most
	widen := t != F32 && (groups > ntFew || !kn.avx512 && k%kn.lanes != 0)
	if m == 1 && !widen {
		kn.row(dst, x, w, t, ldw, n, k, acc)
		return
	}
	block, chunk := kn.blockRows(t, m, n, k), k
	if widen {
		block = min(block, 32*ntTile)
	}
	stateLen, wideLen := 0, 0
	if k > ntChunk && groups > 1 {
		chunk = ntChunk
		stateLen = kn.rows * (min(block, n) + ntTile - 1) * kn.lanes
	}
	if widen {
		wideLen = min(block, n) * k
	}
	var state, wide []float32
	if stateLen+wideLen > 0 {
		b := getBuffer(stateLen + wideLen)
		defer b.put()
		state, wide = b.data[:stateLen], b.data[stateLen:][:wideLen]
	}
	for j := 0; j < n; j += block {
		cols := min(block, n-j)
		wj, tj, ldj := unsafe.Add(w, j*ldw*t.size()), t, ldw
		if widen {
			kn.widen(wide, wj, t, ldw, cols, k)
			wj, tj, ldj = unsafe.Pointer(&wide[0]), F32, k
		}
		fetch := uintptr(w) + uintptr((j+cols)*ldw*t.size())
		if groups == 1 {
			fetch = uintptr(w) + uintptr(kn.cols(m)*ldw*t.size())
		}
		for i, g := 0, 0; g < groups; g++ {
			rows := (m - i) / (groups - g)
			for p := 0; p < k; p += chunk {
				part := min(chunk, k-p)
				a := ntArgs{
					dst: unsafe.Pointer(&dst[i*ldd+j]), ldd: 4 * ldd,
					x: unsafe.Pointer(&x[i*ldx+p]), ldx: 4 * ldx,
					w:     unsafe.Add(wj, p*tj.size()),
					rows:  rows,
					steps: part / kn.lanes, tail: part % kn.lanes, tailMask: 1<<(part%kn.lanes) - 1,
					resume: btoi(p > 0), save: btoi(p+part < k), add: btoi(acc),
				}
				if stateLen > 0 {
					a.state = unsafe.Pointer(&state[0])
				}
				// The first groups share the prefetching: each does a piece of the chunk.
				fetchers := min(groups, ntFetchers)
				piece := part * tj.size() / fetchers
				a.fetch = fetch + uintptr(p*tj.size()+g*piece)
				if lines := part / (ntUnroll * kn.lanes) * ntUnroll * kn.lanes * tj.size() / 64; lines > 0 && g < fetchers {
					a.fetchStep = (piece + lines - 1) / lines
				}
				kn.tiles(tj, a, ldj, cols)
			}
			i += rows
		}
	}
}

// rowTiles is the tiles that row computes before it puts their sums in their places.
const rowTiles = 64

// row computes dst = x·wᵀ for one row of x.
//
// A tile's rows of w are a quarter of all rows apart, so that the tiles read four long runs of
// memory, which a CPU fetches faster than many short ones. Their sums are put in their places
// afterwards.
func (kn *ntKernel) row(dst, x []float32, w unsafe.Pointer, t DType, ldw, n, k int, acc bool) {
	row, quarter := ldw*t.size(), n/ntTile
	var out [ntTile * rowTiles]float32
	a := ntArgs{
		dst: unsafe.Pointer(&out), x: unsafe.Pointer(&x[0]),
		w1: quarter * row, w2: 2 * quarter * row, w3: 3 * quarter * row, tileW: row,
		fetchStep: 64, rows: 1,
		steps: k / kn.lanes, tail: k % kn.lanes, tailMask: 1<<(k%kn.lanes) - 1,
	}
	most := min(max(ntCall/(ntTile*(a.steps+1)*kn.lanes), 1), rowTiles)
	for r := 0; r < quarter; r += a.tiles {
		a.tiles = min(most, quarter-r)
		a.w = unsafe.Add(w, r*row)
		a.fetch = uintptr(a.w) + ntAhead
		kn.run(t, &a)
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
		a.dst, a.w = unsafe.Pointer(&dst[n-rest]), unsafe.Add(w, (n-rest)*row)
		a.fetch, a.fetchStep, a.add = uintptr(a.w), 0, btoi(acc)
		kn.tiles(t, a, ldw, rest)
	}
}

// tiles computes cols columns: whole tiles, then what is left through a tile of which some
// columns are dropped.
func (kn *ntKernel) tiles(t DType, a ntArgs, ldw, cols int) {
	row, wide := ldw*t.size(), kn.cols(a.rows)
	a.w1, a.w2, a.w3, a.tileW = row, 2*row, 3*row, wide*row
	dst, w, state, fetch := a.dst, a.w, a.state, a.fetch
	colState := 0 // bytes of the accumulators of a column
	if state != nil {
		colState = a.rows * kn.lanes * 4
	}
	// Assembly isn't preempted: a call takes some tens of microseconds at most.
	most := max(ntCall/(wide*a.rows*(a.steps+1)*kn.lanes), 2)
	c := 0
	for ; c+wide <= cols; c += wide * a.tiles {
		a.tiles = min((cols-c)/wide, most)
		a.dst, a.w, a.state = unsafe.Add(dst, 4*c), unsafe.Add(w, c*row), unsafe.Add(state, c*colState)
		a.fetch = fetch + uintptr(c*row)
		kn.run(t, &a)
	}
	if c == cols {
		return
	}
	rest := cols - c
	// The columns that don't exist read the last row of w.
	a.w1, a.w2, a.w3 = min(1, rest-1)*row, min(2, rest-1)*row, min(3, rest-1)*row
	var out [ntManyRows * ntTile]float32
	ldd, add := a.ldd, a.add
	a.dst, a.w, a.state = unsafe.Pointer(&out), unsafe.Add(w, c*row), unsafe.Add(state, c*colState)
	a.ldd, a.add, a.tiles = 4*ntTile, 0, 1
	kn.run(t, &a)
	if a.save != 0 {
		return
	}
	putRest(unsafe.Add(dst, 4*c), ldd, out[:], a.rows, rest, add != 0)
}

// widen converts rows rows of w to float32, next to each other.
func (kn *ntKernel) widen(wide []float32, w unsafe.Pointer, t DType, ldw, rows, k int) {
	for r := range rows {
		dst, src := wide[r*k:][:k], unsafe.Slice((*uint16)(unsafe.Add(w, 2*r*ldw)), k)
		switch {
		case kn.avx512 && t == BF16:
			widenBF16VecAVX512(dst, src)
		case kn.avx512:
			widenF16VecAVX512(dst, src)
		case t == BF16:
			widenBF16VecAVX2(dst, src)
		default:
			widenF16VecAVX2(dst, src)
		}
	}
}
