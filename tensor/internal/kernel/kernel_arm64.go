//go:build !purego

package kernel

// archImpls lists the assembly kernels that this CPU can run: every arm64 CPU has what NEON's use.
func archImpls() []impl {
	im := generic
	im.name = "neon"
	gemmNEON(&im)
	vecNEON(&im)
	blocksNEON(&im)
	q8NEON.put(&im)
	im.peak = func(n int) int { peakNEON(n); return n * peakFlopsNEON }
	return []impl{im}
}
