//go:build !purego

package kernel

// vecAVX2 puts the AVX2 vector kernels into im.
func vecAVX2(im *impl) {}

// vecAVX512 puts the AVX-512 vector kernels into im, which has the AVX2 ones.
func vecAVX512(im *impl) {}
