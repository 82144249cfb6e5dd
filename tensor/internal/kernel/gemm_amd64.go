//go:build !purego

package kernel

// gemmAVX2 puts the AVX2 products into im.
func gemmAVX2(im *impl) {
	ntAVX2.put(im)
	ntAVX2.putBlocks(im)
	im.gemmNN, im.gemmTN = gemmNNAVX2, gemmTNAVX2
	im.peak = func(n int) int { peakAVX2(n); return n * peakFlopsAVX2 }
	im.read = read
}

// gemmAVX512 puts the AVX-512 products into im.
func gemmAVX512(im *impl) {
	ntAVX512.put(im)
	ntAVX512.putBlocks(im)
	im.gemmNN, im.gemmTN = gemmNNAVX512, gemmTNAVX512
	im.peak = func(n int) int { peakAVX512(n); return n * peakFlopsAVX512 }
}
