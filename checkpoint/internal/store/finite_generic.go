//go:build purego || !amd64

package store

// orExponents would do a part of b with vectors; there are none here.
func orExponents([]byte, exponents) (bad uint64, n int) { return 0, 0 }

func sumExponents([]byte, exponents) (sum uint32, bad uint64, n int) { return 0, 0, 0 }
