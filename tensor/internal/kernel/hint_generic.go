//go:build purego || !amd64

package kernel

import "runtime"

// Pause takes part of a microsecond in which other goroutines may run: the body of a loop that
// waits for one of them.
func Pause() { runtime.Gosched() }

// Prefetch begins to fetch x into the cache next to the core's first, where there is an
// instruction for it.
func Prefetch(x []float32) {}
