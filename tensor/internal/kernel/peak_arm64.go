//go:build !purego

package kernel

//go:noescape
func peakNEON(n int)

// peakFlopsNEON is what one step of peakNEON computes.
const peakFlopsNEON = 24 * 4 * 2
