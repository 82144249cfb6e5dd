package kernel

// Transpose computes dst[j·ldd+i] = src[i·lds+j] for i < rows and j < cols.
func Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	checkMatrix("Transpose", "dst", len(dst), ldd, cols, rows)
	checkMatrix("Transpose", "src", len(src), lds, rows, cols)
	i := 0
	for ; i+8 <= rows; i += 8 {
		s0, s1, s2, s3 := src[i*lds:][:cols], src[(i+1)*lds:][:cols], src[(i+2)*lds:][:cols], src[(i+3)*lds:][:cols]
		s4, s5, s6, s7 := src[(i+4)*lds:][:cols], src[(i+5)*lds:][:cols], src[(i+6)*lds:][:cols], src[(i+7)*lds:][:cols]
		for j, x := range s0 {
			d := (*[8]float32)(dst[j*ldd+i:])
			d[0], d[1], d[2], d[3] = x, s1[j], s2[j], s3[j]
			d[4], d[5], d[6], d[7] = s4[j], s5[j], s6[j], s7[j]
		}
	}
	for ; i < rows; i++ {
		for j, x := range src[i*lds:][:cols] {
			dst[j*ldd+i] = x
		}
	}
}
