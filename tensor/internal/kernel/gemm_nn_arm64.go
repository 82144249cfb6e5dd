//go:build !purego

package kernel

import "unsafe"

// nnArgs are the arguments of a tile of dst = a·b: rows rows of a by vecs vectors of columns.
// Distances are in bytes.
type nnArgs struct {
	dst, a, b     unsafe.Pointer
	ldd, lda, ldb int
	rows, vecs, k int
	resume        int // not 0: start from dst, not from zero
	add           int // not 0: add the sums to dst
}

//go:noescape
func nnNEON(t *nnArgs)

const (
	nnLanes = 4 // float32 numbers of a vector
	nnRows  = 6 // rows of a in a tile, at most

	// nnChunk is how much of k, at most, is summed between two visits of dst: a panel of b is then
	// in L1 while all rows of a pass.
	nnChunk = 256

	// nnPackRows and nnPackSize say from what number of rows of a, and what number of elements
	// between the first and the last of a chunk of b, packing b pays.
	nnPackRows = 24
	nnPackSize = 32 << 10

	// nnStrip is the number of rows that are summed beside dst if they can't be there.
	nnStrip = 64
)

// nnVecs is the largest width of a tile, in vectors, by its number of rows.
func nnVecs(rows int) int {
	if rows <= 2 {
		return 8
	}
	return 4
}

// gemmNNNEON computes dst = a·b.
//
// A tile's columns, a panel, are read by every group of rows; they are packed, row after row of
// the panel, if there are enough of both, and always if they don't fill a vector. A long k is cut
// in chunks, between which the sums are in dst: the order of the additions is the same.
func gemmNNNEON(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	if acc && k > nnChunk {
		nnAddStrips(dst, ldd, a, lda, b, ldb, m, n, k)
		return
	}
	chunk := min(k, nnChunk)
	groups := (m + nnRows - 1) / nnRows
	most := nnVecs((m + groups - 1) / groups) // widest panel that all groups can use
	pack := m >= nnPackRows && chunk*ldb >= nnPackSize
	var packed []float32
	if pack || n%nnLanes != 0 {
		buf := getBuffer(chunk * most * nnLanes)
		defer buf.put()
		packed = buf.data
	}
	for p := 0; p < k; p += chunk {
		t := nnArgs{ldd: 4 * ldd, lda: 4 * lda, k: min(chunk, k-p)}
		if p > 0 {
			t.resume = 1
		}
		if acc {
			t.add = 1
		}
		for j, width := 0, 0; j < n; j += width {
			t.vecs = nnPanel(n-j, most)
			width = min(t.vecs*nnLanes, n-j)
			t.b, t.ldb = unsafe.Pointer(&b[p*ldb+j]), 4*ldb
			if pack || width < nnLanes {
				for q := range t.k {
					copy(packed[q*t.vecs*nnLanes:][:width], b[(p+q)*ldb+j:])
				}
				t.b, t.ldb = unsafe.Pointer(&packed[0]), 4*t.vecs*nnLanes
			}
			for i, g := 0, 0; g < groups; g++ {
				t.rows = (m - i) / (groups - g)
				t.a = unsafe.Pointer(&a[i*lda+p])
				if d := dst[i*ldd+j:]; width < nnLanes {
					nnNarrow(t, d, ldd, width)
				} else {
					t.dst = unsafe.Pointer(&d[0])
					nnNEON(&t)
				}
				i += t.rows
			}
		}
	}
}

// nnPanel is the width, in vectors, of the next panel when cols columns are left: panels are of
// almost the same size, at most most. Columns that don't fill a vector are a panel.
func nnPanel(cols, most int) int {
	vecs := max(cols/nnLanes, 1)
	panels := (vecs + most - 1) / most
	return (vecs + panels - 1) / panels
}

// nnNarrow computes a tile of width columns, less than a vector, beside dst: t.b has whole vectors.
func nnNarrow(t nnArgs, dst []float32, ldd, width int) {
	var out [nnRows * nnLanes]float32
	if t.resume != 0 {
		for r := range t.rows {
			copy(out[r*nnLanes:], dst[r*ldd:][:width])
		}
	}
	add := t.add != 0
	t.dst, t.ldd, t.add = unsafe.Pointer(&out), 4*nnLanes, 0
	nnNEON(&t)
	for r := range t.rows {
		d := dst[r*ldd:][:width]
		for c := range d {
			if add {
				d[c] += out[r*nnLanes+c]
			} else {
				d[c] = out[r*nnLanes+c]
			}
		}
	}
}

// nnAddStrips computes dst += a·b for a k of several chunks: the sums must be complete before they
// are added.
func nnAddStrips(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int) {
	buf := getBuffer(min(nnStrip, m) * n)
	defer buf.put()
	for i := 0; i < m; i += nnStrip {
		rows := min(nnStrip, m-i)
		gemmNNNEON(buf.data, n, a[i*lda:], lda, b, ldb, rows, n, k, false)
		for r := range rows {
			d := dst[(i+r)*ldd:][:n]
			addNEON(d, d, buf.data[r*n:])
		}
	}
}
