//go:build !linux

package task

// Threads are moved on Linux alone: elsewhere they have no number.
func threadID() uint32                                       { return 0 }
func bringHere(uint32, func(uint) bool) (from uint, ok bool) { return 0, false }
func goTo(uint)                                              {}
func yieldCPU()                                              {}
