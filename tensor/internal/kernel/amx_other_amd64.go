//go:build !linux && !purego

package kernel

// hasAMX is false where it isn't known how a process asks for AMX's tiles.
func hasAMX() bool { return false }
