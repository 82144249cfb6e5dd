//go:build !purego

package kernel

func tryAVX2(t *trial, x []float32, least, most float32)
