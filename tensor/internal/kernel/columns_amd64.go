//go:build !purego

package kernel

//go:noescape
func expColumnsAVX2(x, most, sums *float32, ld, rows, n int)

//go:noescape
func expColumnsAVX512(x, most, sums *float32, ld, rows, n int)

//go:noescape
func gradColumnsAVX2(s, d, most, factors *float32, ld, rows, n int)

//go:noescape
func gradColumnsAVX512(s, d, most, factors *float32, ld, rows, n int)

// columnsAVX2 puts the softmaxes of columns into im.
func columnsAVX2(im *impl) {
	im.expColumns = func(x []float32, ld, rows, n int, most, sums []float32) {
		expColumnsAVX2(&x[0], &most[0], &sums[0], 4*ld, rows, n)
	}
	im.gradColumns = func(s, d []float32, ld, rows, n int, most, factors []float32) {
		gradColumnsAVX2(&s[0], &d[0], &most[0], &factors[0], 4*ld, rows, n)
	}
}

// columnsAVX512 is columnsAVX2 for AVX-512.
func columnsAVX512(im *impl) {
	im.expColumns = func(x []float32, ld, rows, n int, most, sums []float32) {
		expColumnsAVX512(&x[0], &most[0], &sums[0], 4*ld, rows, n)
	}
	im.gradColumns = func(s, d []float32, ld, rows, n int, most, factors []float32) {
		gradColumnsAVX512(&s[0], &d[0], &most[0], &factors[0], 4*ld, rows, n)
	}
}
