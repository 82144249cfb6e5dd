package kernel

// TransposeGap is numbers to leave between the rows of a transposed operand: with a power of two as their
// distance they would share a few places of the cache.
const TransposeGap = 16

// Transpose computes dst[j·ldd+i] = src[i·lds+j] for i < rows and j < cols. dst must not overlap src.
func Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix("Transpose", "dst", len(dst), ldd, cols, rows)
	checkMatrix("Transpose", "src", len(src), lds, rows, cols)
	active.transpose(dst, ldd, src, lds, rows, cols)
}

// Transpose16 is Transpose of numbers of 16 bits.
func Transpose16(dst []uint16, ldd int, src []uint16, lds, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix("Transpose16", "dst", len(dst), ldd, cols, rows)
	checkMatrix("Transpose16", "src", len(src), lds, rows, cols)
	const high, wide = 32, 16 // of a tile: 32 numbers fill a line of the cache
	for top := 0; top < rows; top += high {
		bottom := min(top+high, rows)
		for left := 0; left < cols; left += wide {
			n := min(wide, cols-left)
			i := top
			for ; i+8 <= bottom; i += 8 {
				at := i*lds + left
				a, b, c, d := src[at:][:n], src[at+lds:][:n], src[at+2*lds:][:n], src[at+3*lds:][:n]
				at += 4 * lds
				e, f, g, h := src[at:][:n], src[at+lds:][:n], src[at+2*lds:][:n], src[at+3*lds:][:n]
				for j := range n {
					to := (*[8]uint16)(dst[(left+j)*ldd+i:])
					to[0], to[1], to[2], to[3], to[4], to[5], to[6], to[7] = a[j], b[j], c[j], d[j], e[j], f[j], g[j], h[j]
				}
			}
			for ; i < bottom; i++ {
				for j, x := range src[i*lds+left:][:n] {
					dst[(left+j)*ldd+i] = x
				}
			}
		}
	}
}
