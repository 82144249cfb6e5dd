//go:build !purego

package store

import "golang.org/x/sys/cpu"

//go:noescape
func orExponentsAVX2(p *byte, n int, mask, one uint64) uint64

// orExponents returns the OR of (w & mask) + one over the words of as much of b as it does, a
// multiple of 256 bytes, and how much that is.
func orExponents(b []byte, e exponents) (bad uint64, n int) {
	n = len(b) &^ 255
	if !cpu.X86.HasAVX2 || n == 0 {
		return 0, 0
	}
	return orExponentsAVX2(&b[0], n, e.mask, e.one), n
}
