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
