//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

//go:noescape
func roundQ8AVX2(dst *byte, x *float32, units int)

//go:noescape
func unpackQ4_0AVX2(a *q8Args)

//go:noescape
func unpackQ4_1AVX2(a *q8Args)

//go:noescape
func unpackQ5_0AVX2(a *q8Args)

//go:noescape
func unpackQ5_1AVX2(a *q8Args)

//go:noescape
func unpackQ4_KAVX2(a *q8Args)

//go:noescape
func unpackQ5_KAVX2(a *q8Args)

//go:noescape
func unpackQ6_KAVX2(a *q8Args)

//go:noescape
func unpackQ4_0AVX512(a *q8Args)

//go:noescape
func unpackQ4_1AVX512(a *q8Args)

//go:noescape
func unpackQ5_0AVX512(a *q8Args)

//go:noescape
func unpackQ5_1AVX512(a *q8Args)

//go:noescape
func unpackQ4_KAVX512(a *q8Args)

//go:noescape
func unpackQ5_KAVX512(a *q8Args)

//go:noescape
func unpackQ6_KAVX512(a *q8Args)

//go:noescape
func dotQ8AVX2(a *q8Args)

//go:noescape
func dotQ8HalvesAVX2(a *q8Args)

//go:noescape
func dotQ8AVX512(a *q8Args)

//go:noescape
func dotQ8HalvesAVX512(a *q8Args)

var q8AVX2 = q8Kernel{
	lanes: 8, rows: 4, round: roundQ8,
	dot: func(a *q8Args, halves bool) {
		if halves {
			dotQ8HalvesAVX2(a)
		} else {
			dotQ8AVX2(a)
		}
	},
	unpack: [numDTypes]func(a *q8Args){
		Q4_0: unpackQ4_0AVX2,
		Q4_1: unpackQ4_1AVX2,
		Q5_0: unpackQ5_0AVX2,
		Q5_1: unpackQ5_1AVX2,
		Q4_K: unpackQ4_KAVX2,
		Q5_K: unpackQ5_KAVX2,
		Q6_K: unpackQ6_KAVX2,
	},
}

// hasVNNI reports whether the CPU multiplies and adds four bytes at once, which the first ones with AVX-512
// don't: they use AVX2's products.
var hasVNNI = cpu.X86.HasAVX512VNNI

var q8VNNI = q8Kernel{
	lanes: 16, rows: 8, round: roundQ8,
	dot: func(a *q8Args, halves bool) {
		if halves {
			dotQ8HalvesAVX512(a)
		} else {
			dotQ8AVX512(a)
		}
	},
	unpack: [numDTypes]func(a *q8Args){
		Q4_0: unpackQ4_0AVX512,
		Q4_1: unpackQ4_1AVX512,
		Q5_0: unpackQ5_0AVX512,
		Q5_1: unpackQ5_1AVX512,
		Q4_K: unpackQ4_KAVX512,
		Q5_K: unpackQ5_KAVX512,
		Q6_K: unpackQ6_KAVX512,
	},
}

func roundQ8(dst []byte, x []float32, k int) {
	if k >= 32 {
		roundQ8AVX2(&dst[0], &x[0], k/32)
	}
}
