//go:build !purego

package kernel

import "unsafe"

// nnArgs are the arguments of a tile of dst = a·b: rows rows of a by vecs vectors of columns.
// Distances are in bytes.
type nnArgs struct {
	dst, a, b     unsafe.Pointer
	ldd, lda, ldb int
	rows, vecs, k int
	mask          int // AVX-512: the last vector's columns, a bit each; AVX2: if not 0, how many columns a single vector has
	resume        int // not 0: start from dst, not from zero
	add           int // not 0: add the sums to dst
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
	nnKernelAVX2.gemm(dst, ldd, a, lda, b, ldb, m, n, k, acc)
}

func gemmNNAVX512(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	nnKernelAVX512.gemm(dst, ldd, a, lda, b, ldb, m, n, k, acc)
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

// gemm computes dst = a·b.
//
// A tile's columns, a panel, are read for every group of rows; they are packed, row after row of
// the panel, if there are enough of both. A long k is cut in chunks, between which the sums are in
// dst: the order of the additions is the same.
func (kn *nnKernel) gemm(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	chunks := (k + nnChunk - 1) / nnChunk
	if acc && chunks > 1 {
		kn.addStrips(dst, ldd, a, lda, b, ldb, m, n, k)
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
		cols := min(nnBlock, n-j)
		for p := 0; p < k; p += chunk {
			depth := min(chunk, k-p)
			if packed != nil {
				kn.pack(packed, b[p*ldb+j:], ldb, depth, cols, most)
			}
			for i, g := 0, 0; g < groups; g++ {
				rows := (m - i) / (groups - g)
				t := nnArgs{
					a: unsafe.Pointer(&a[i*lda+p]), lda: 4 * lda,
					ldd: 4 * ldd, ldb: 4 * ldb,
					rows: rows, k: depth,
					resume: btoi(p > 0), add: btoi(acc),
				}
				for c := 0; c < cols; {
					t.vecs = kn.panel(cols-c, most)
					width := min(t.vecs*kn.lanes, cols-c)
					switch {
					case kn.avx512:
						t.mask = 0xffff >> (t.vecs*kn.lanes - width)
					case width < kn.lanes:
						t.mask = width
					}
					t.dst = unsafe.Pointer(&dst[i*ldd+j+c])
					if packed != nil {
						t.b, t.ldb = unsafe.Pointer(&packed[c*depth]), 4*t.vecs*kn.lanes
					} else {
						t.b = unsafe.Pointer(&b[p*ldb+j+c])
					}
					kn.run(&t)
					c += width
				}
				i += rows
			}
		}
	}
}

// panel is the width, in vectors, of the next panel when cols columns are left: panels are of
// almost the same size, at most most. In AVX2 columns that don't fill a vector are a panel.
func (kn *nnKernel) panel(cols, most int) int {
	vecs := (cols + kn.lanes - 1) / kn.lanes
	if !kn.avx512 && vecs > 1 {
		vecs = cols / kn.lanes
	}
	panels := (vecs + most - 1) / most
	return (vecs + panels - 1) / panels
}

// pack copies depth rows of cols columns of b, panel after panel.
func (kn *nnKernel) pack(packed, b []float32, ldb, depth, cols, most int) {
	for c := 0; c < cols; {
		vecs := kn.panel(cols-c, most)
		width := min(vecs*kn.lanes, cols-c)
		panel := packed[c*depth:]
		for p := range depth {
			copy(panel[p*vecs*kn.lanes:][:width], b[p*ldb+c:])
		}
		c += width
	}
}

// addStrips computes dst += a·b for a k of several chunks: the sums must be complete before they
// are added.
func (kn *nnKernel) addStrips(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int) {
	buf := getBuffer(nnStrip * n)
	defer buf.put()
	for i := 0; i < m; i += nnStrip {
		rows := min(nnStrip, m-i)
		kn.gemm(buf.data, n, a[i*lda:], lda, b, ldb, rows, n, k, false)
		for r := range rows {
			d := dst[(i+r)*ldd:][:n]
			for c, v := range buf.data[r*n:][:n] {
				d[c] += v
			}
		}
	}
}
