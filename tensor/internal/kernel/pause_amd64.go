//go:build !purego

package kernel

// Pause takes part of a microsecond in which it leaves the core's resources to others: the body
// of a loop that waits for another goroutine.
//
//go:noescape
func Pause()
