//go:build !purego

package kernel

//go:generate go run ./vecgen
