//go:build !purego && (amd64 || arm64)

package kernel

import "unsafe"

// What the products x·wᵀ of all instruction sets share.

// ntTile is the number of rows of w in a tile.
const ntTile = 4

// putRest puts the first rest sums of each row of a tile in their places, dst and ldd bytes after one
// another, or adds them there.
func putRest(dst unsafe.Pointer, ldd int, tile []float32, rows, rest int, add bool) {
	for r := range rows {
		d := unsafe.Slice((*float32)(unsafe.Add(dst, r*ldd)), rest)
		for c, sum := range tile[r*ntTile:][:rest] {
			if add {
				d[c] += sum
			} else {
				d[c] = sum
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
