//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

//go:noescape
func roundQ8NEON(dst *byte, x *float32, units int)

//go:noescape
func unpackQ4_0NEON(a *q8Args)

//go:noescape
func unpackQ4_1NEON(a *q8Args)

//go:noescape
func unpackQ5_0NEON(a *q8Args)

//go:noescape
func unpackQ5_1NEON(a *q8Args)

//go:noescape
func unpackQ4_KNEON(a *q8Args)

//go:noescape
func unpackQ5_KNEON(a *q8Args)

//go:noescape
func unpackQ6_KNEON(a *q8Args)

//go:noescape
func dotQ8NEON(a *q8Args)

//go:noescape
func dotQ8HalvesNEON(a *q8Args)

//go:noescape
func dotQ8NEONSDOT(a *q8Args)

//go:noescape
func dotQ8HalvesNEONSDOT(a *q8Args)

// hasSDOT reports whether the CPU multiplies and adds four bytes at once, which ARMv8.0 doesn't.
var hasSDOT = cpu.ARM64.HasASIMDDP

var q8NEON = q8Kernel{
	lanes: 4, rows: 4,
	round: func(dst []byte, x []float32, k int) {
		if k >= 32 {
			roundQ8NEON(&dst[0], &x[0], k/32)
		}
	},
	dot: func(a *q8Args, halves bool) {
		switch {
		case halves && hasSDOT:
			dotQ8HalvesNEONSDOT(a)
		case halves:
			dotQ8HalvesNEON(a)
		case hasSDOT:
			dotQ8NEONSDOT(a)
		default:
			dotQ8NEON(a)
		}
	},
	unpack: [numDTypes]func(a *q8Args){
		Q4_0: unpackQ4_0NEON,
		Q4_1: unpackQ4_1NEON,
		Q5_0: unpackQ5_0NEON,
		Q5_1: unpackQ5_1NEON,
		Q4_K: unpackQ4_KNEON,
		Q5_K: unpackQ5_KNEON,
		Q6_K: unpackQ6_KNEON,
	},
}
