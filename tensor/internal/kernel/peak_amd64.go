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

// readBlock is the numbers of a block that readAVX2 reads.
const readBlock = 8 * 4096 / 4

//go:noescape
func readAVX2(x *float32, blocks int)

// read reads x, but for what doesn't fill a block.
func read(x []float32) {
	if len(x) >= readBlock {
		readAVX2(&x[0], len(x)/readBlock)
	}
}
