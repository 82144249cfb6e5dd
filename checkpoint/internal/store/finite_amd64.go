//go:build !purego

package store

import (
	"hash/crc32"

	"golang.org/x/sys/cpu"
)

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

//go:noescape
func sumExponentsAVX2(p *byte, n int, fold *[64]byte, mask, one uint64) uint64

// sumExponents is orExponents that also returns the CRC-32 of what it does.
func sumExponents(b []byte, e exponents) (sum uint32, bad uint64, n int) {
	n = len(b) &^ 63
	if !cpu.X86.HasAVX2 || !cpu.X86.HasPCLMULQDQ || n == 0 {
		return 0, 0, 0
	}
	const start = 0xff // a checksum begins with ones, and Update turns its own round
	fold := [64]byte{start, start, start, start}
	bad = sumExponentsAVX2(&b[0], n, &fold, e.mask, e.one)
	return crc32.Update(^uint32(0), crc32.IEEETable, fold[:]), bad, n
}
