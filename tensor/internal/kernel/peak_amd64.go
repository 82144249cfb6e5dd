//go:build !purego

package kernel

//go:noescape
func peakAVX2(n int)

//go:noescape
func peakAVX512(n int)

// peakFlops is what one step of peakAVX2 and peakAVX512 computes.
const (
	peakFlopsAVX2   = 12 * 8 * 2
	peakFlopsAVX512 = 12 * 16 * 2
)
