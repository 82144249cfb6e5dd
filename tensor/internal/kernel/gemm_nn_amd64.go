//go:build !purego

package kernel

// nnKernel is the tiles of a product a·b for an instruction set.
type nnKernel struct {
	lanes  int   // float32 numbers of a vector
	rows   []int // of a tile, from the most
	avx512 bool
}

var (
	nnAVX2   = nnKernel{lanes: 8, rows: []int{6, 4, 2, 1}}
	nnAVX512 = nnKernel{lanes: 16, rows: []int{12, 8, 4, 2, 1}, avx512: true}
)

const (
	nnDepth    = 256 // numbers of k in a block: 32 KiB of b, what the L1 cache holds
	nnPackRows = 48  // from so many rows of a on, copying b into order pays
	nnMaxCols  = 32  // columns of a tile, at most, but for tiles of one row
	nnMaxRows  = 12
)

// nnBuffer holds a block of b in the order that tiles read it, and a tile that is wider than what
// is left of dst.
type nnBuffer struct {
	b    [nnDepth * nnMaxCols]float32
	tile [nnMaxRows * nnMaxCols]float32
}

var nnBuffers = make(chan *nnBuffer, 64)

func gemmNNAVX2(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	nnAVX2.gemm(dst, ldd, a, lda, b, ldb, m, n, k, acc)
}

func gemmNNAVX512(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	nnAVX512.gemm(dst, ldd, a, lda, b, ldb, m, n, k, acc)
}

// gemm sums blocks of nnDepth products, in the order of k, and adds the blocks' sums to dst one
// after another.
func (kn *nnKernel) gemm(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	var buf *nnBuffer
	select {
	case buf = <-nnBuffers:
	default:
		buf = new(nnBuffer)
	}
	for k0 := 0; k0 < k; k0 += nnDepth {
		depth := min(nnDepth, k-k0)
		for c := 0; c < n; {
			left := n - c
			switch {
			case m == 1 && left >= 4*kn.lanes:
				c += kn.panel(buf, dst[c:], ldd, a[k0:], lda, b[k0*ldb+c:], ldb, m, 4, 4*kn.lanes, depth, acc || k0 > 0)
			case left >= 2*kn.lanes:
				c += kn.panel(buf, dst[c:], ldd, a[k0:], lda, b[k0*ldb+c:], ldb, m, 2, 2*kn.lanes, depth, acc || k0 > 0)
			default:
				c += kn.panel(buf, dst[c:], ldd, a[k0:], lda, b[k0*ldb+c:], ldb, m, 1, min(left, kn.lanes), depth, acc || k0 > 0)
			}
		}
	}
	select {
	case nnBuffers <- buf:
	default:
	}
}

// panel computes width columns, at most vectors of them, of all rows. It returns width.
func (kn *nnKernel) panel(buf *nnBuffer, dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, vectors, width, depth int, acc bool) int {
	full := vectors * kn.lanes
	if width < full || (m >= nnPackRows && ldb > full) {
		for i := range depth {
			row := buf.b[i*full:][:full]
			clear(row[copy(row, b[i*ldb:][:width]):])
		}
		b, ldb = buf.b[:], full
	}
	add := 0
	if acc {
		add = 1
	}
	for r, size := 0, 0; r < m; r += kn.rows[size] {
		for kn.rows[size] > m-r {
			size++
		}
		rows := kn.rows[size]
		if width == full {
			kn.tile(rows, vectors, &dst[r*ldd], ldd, &a[r*lda], lda, &b[0], ldb, depth, add)
			continue
		}
		kn.tile(rows, vectors, &buf.tile[0], full, &a[r*lda], lda, &b[0], ldb, depth, 0)
		for i := range rows {
			d, t := dst[(r+i)*ldd:][:width], buf.tile[i*full:][:width]
			if !acc {
				copy(d, t)
				continue
			}
			for j := range d {
				d[j] += t[j]
			}
		}
	}
	return width
}

// tile computes a tile. The calls are direct, so that nothing escapes.
func (kn *nnKernel) tile(rows, vectors int, dst *float32, ldd int, a *float32, lda int, b *float32, ldb, k, add int) {
	if kn.avx512 {
		nnTileAVX512(rows, vectors, dst, ldd, a, lda, b, ldb, k, add)
	} else {
		nnTileAVX2(rows, vectors, dst, ldd, a, lda, b, ldb, k, add)
	}
}
