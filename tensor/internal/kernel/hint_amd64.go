//go:build !purego

package kernel

// Pause takes part of a microsecond in which it leaves the core's resources to others: the body
// of a loop that waits for another goroutine.
//
//go:noescape
func Pause()

// Prefetch begins to fetch x into the cache next to the core's first.
func Prefetch(x []float32) {
	if len(x) > 0 {
		prefetch(&x[0], (len(x)+15)/16)
	}
}

//go:noescape
func prefetch(x *float32, lines int)
