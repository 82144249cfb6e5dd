//go:build !purego

package kernel

import "unsafe"

// nnArgs are the arguments of a tile of dst = a·b: rows rows of a by vecs vectors of columns.
// Distances are in bytes.
type nnArgs struct {
	dst, a, b     unsafe.Pointer
	ldd, lda, ldb int
	step          int // of a from k to k
	rows, vecs, k int
	mask          int // AVX-512: the last vector's columns, a bit each; AVX2: if not 0, how many columns a single vector has
	resume        int // not 0: start from dst, not from zero
	add           int // not 0: add the sums to dst
	next          int // from a to the rows that tiles need next, to be fetched into the cache, or 0
	ahead         int // not 0: no tile has read this part of b, so that it is fetched ahead
}

// nnKernel is the assembly for an instruction set.
type nnKernel struct {
	lanes  int // float32 numbers of a vector
	rows   int // of a in a tile, at most
	avx512 bool
}

var (
	nnKernelAVX2   = nnKernel{lanes: 8, rows: 4}
	nnKernelAVX512 = nnKernel{lanes: 16, rows: 8, avx512: true}
)

//go:noescape
func nnAVX2(t *nnArgs)

//go:noescape
func nnAVX512(t *nnArgs)

// run computes a tile. The calls are direct, not through function values, so that t can be on
// the caller's stack.
func (kn *nnKernel) run(t *nnArgs) {
	if kn.avx512 {
		nnAVX512(t)
	} else {
		nnAVX2(t)
	}
}

// vecs is the largest width of a tile, in vectors, by its number of rows.
func (kn *nnKernel) vecs(rows int) int {
	switch {
	case rows == 1, rows == 2 && kn.avx512:
		return 8
	case rows == 2:
		return 4
	}
	return 3
}

func gemmNNAVX2(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	nnKernelAVX2.gemm(dst, ldd, a, lda, 1, b, ldb, m, n, k, acc)
}

func gemmTNAVX2(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	nnKernelAVX2.gemm(dst, ldd, a, 1, lda, b, ldb, m, n, k, acc)
}

func gemmNNAVX512(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	nnKernelAVX512.gemm(dst, ldd, a, lda, 1, b, ldb, m, n, k, acc)
}

func gemmTNAVX512(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	nnKernelAVX512.gemm(dst, ldd, a, 1, lda, b, ldb, m, n, k, acc)
}

const (
	// nnChunk is how much of k, at most, is summed between two visits of dst: a tile's rows of a
	// then stay in L1 while the panels of b pass.
	nnChunk = 512

	// nnBlock is the number of columns of b, at most, that are packed together: with nnChunk rows
	// they fit L2.
	nnBlock = 384

	// nnPackRows, nnPackSize and nnPackApart say from what number of rows of a, what number of elements
	// between the first and the last of a chunk of b, and what distance of its rows packing b pays:
	// rows that are near each other are read from L2 as fast, without being copied.
	nnPackRows  = 24
	nnPackApart = 513
	nnPackSize  = 64 << 10

	// nnStrip is the number of rows that are summed beside dst if they can't be there.
	nnStrip = 64
)

// gemm computes dst = a·b, a[i, p] being a[i·lda+p·step].
//
// A tile's columns, a panel, are read for every group of rows; they are packed, row after row of
// the panel, if there are enough of both. A long k is cut in chunks, between which the sums are in
// dst: the order of the additions is the same.
func (kn *nnKernel) gemm(dst []float32, ldd int, a []float32, lda, step int, b []float32, ldb int, m, n, k int, acc bool) {
	chunks := (k + nnChunk - 1) / nnChunk
	if acc && chunks > 1 {
		kn.addStrips(dst, ldd, a, lda, step, b, ldb, m, n, k)
		return
	}
	chunk := (k + chunks - 1) / chunks
	var packed []float32
	if m >= nnPackRows && ldb >= nnPackApart && chunk*ldb >= nnPackSize {
		buf := getBuffer(chunk * (min(n, nnBlock) + kn.lanes))
		defer buf.put()
		packed = buf.data
	}
	groups := (m + kn.rows - 1) / kn.rows
	most := kn.vecs((m + groups - 1) / groups) // widest panel that all groups can use
	for j := 0; j < n; j += nnBlock {
		cut := kn.cut(min(nnBlock, n-j), most)
		for p := 0; p < k; p += chunk {
			t := nnArgs{
				ldd: 4 * ldd, lda: 4 * lda, step: 4 * step, ldb: 4 * ldb, k: min(chunk, k-p),
				resume: btoi(p > 0), add: btoi(acc),
			}
			if packed != nil {
				kn.pack(packed, b[p*ldb+j:], ldb, t.k, &cut)
				kn.tiles(&t, dst[j:], a[p*step:], packed, m, groups, &cut, true)
			} else {
				kn.tiles(&t, dst[j:], a[p*step:], b[p*ldb+j:], m, groups, &cut, false)
			}
		}
	}
}

// tiles computes m rows of dst, in groups of almost the same size, over the columns and the chunk of k that
// dst, a and b begin with, b packed or not. The caller has set what all tiles share.
func (kn *nnKernel) tiles(t *nnArgs, dst, a, b []float32, m, groups int, cut *nnCut, packed bool) {
	least, larger := m/groups, m%groups // so many groups, the last, have one row more
	for i, g := 0, 0; g < groups; g++ {
		t.rows, t.next, t.ahead = least, 0, btoi(g == 0 && groups > 1)
		if g >= groups-larger {
			t.rows++
		}
		if g < groups-1 && t.step == 4 { // else they are in the cache lines of this group
			t.next = t.rows * t.lda
		}
		t.a = unsafe.Pointer(&a[i*t.lda/4])
		for q, c := 0, 0; q < cut.panels; q++ {
			vecs, cols := cut.panel(q, kn.lanes)
			t.vecs, t.mask = vecs, kn.mask(vecs, cols)
			t.dst = unsafe.Pointer(&dst[i*t.ldd/4+c])
			if packed {
				t.b, t.ldb = unsafe.Pointer(&b[c*t.k]), 4*vecs*kn.lanes
			} else {
				t.b = unsafe.Pointer(&b[c])
			}
			kn.run(t)
			t.next = 0
			c += cols
		}
		i += t.rows
	}
}

// mask returns the mask of a tile of some vectors that has so many columns.
func (kn *nnKernel) mask(vecs, cols int) int {
	switch {
	case kn.avx512:
		return 0xffff >> (vecs*kn.lanes - cols)
	case cols < kn.lanes:
		return cols
	}
	return 0
}

// nnCut is columns cut into panels of almost the same size.
type nnCut struct {
	panels             int
	vecs, wider        int // vectors of a panel; so many panels, the first, have one more
	lastVecs, lastCols int // of the last panel, which may end within a vector
}

// cut cuts columns into panels of at most so many vectors. In AVX2 columns that don't fill a vector are a
// panel.
func (kn *nnKernel) cut(cols, most int) nnCut {
	vecs, rest := cols/kn.lanes, cols%kn.lanes
	if kn.avx512 && rest > 0 {
		vecs++
	}
	c := nnCut{panels: (vecs + most - 1) / most}
	if c.panels > 0 {
		c.vecs, c.wider = vecs/c.panels, vecs%c.panels
		c.lastVecs, c.lastCols = c.vecs, c.vecs*kn.lanes
	}
	switch {
	case rest == 0:
	case kn.avx512:
		c.lastCols -= kn.lanes - rest
	default:
		c.panels, c.lastVecs, c.lastCols = c.panels+1, 1, rest
	}
	return c
}

// panel returns the vectors and columns of panel q.
func (c *nnCut) panel(q, lanes int) (vecs, cols int) {
	if q == c.panels-1 {
		return c.lastVecs, c.lastCols
	}
	vecs = c.vecs
	if q < c.wider {
		vecs++
	}
	return vecs, vecs * lanes
}

// pack copies depth rows of b, panel after panel.
func (kn *nnKernel) pack(packed, b []float32, ldb, depth int, cut *nnCut) {
	for q, c := 0, 0; q < cut.panels; q++ {
		vecs, cols := cut.panel(q, kn.lanes)
		panel := packed[c*depth:]
		for p := range depth {
			copy(panel[p*vecs*kn.lanes:][:cols], b[p*ldb+c:])
		}
		c += cols
	}
}

// addStrips computes dst += a·b for a k of several chunks: the sums must be complete before they
// are added.
func (kn *nnKernel) addStrips(dst []float32, ldd int, a []float32, lda, step int, b []float32, ldb int, m, n, k int) {
	buf := getBuffer(nnStrip * n)
	defer buf.put()
	for i := 0; i < m; i += nnStrip {
		rows := min(nnStrip, m-i)
		kn.gemm(buf.data, n, a[i*lda:], lda, step, b, ldb, rows, n, k, false)
		for r := range rows {
			d := dst[(i+r)*ldd:][:n]
			for c, v := range buf.data[r*n:][:n] {
				d[c] += v
			}
		}
	}
}
