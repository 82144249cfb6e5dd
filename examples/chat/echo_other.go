//go:build !linux && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

package main

// hideTyping does nothing: what is typed during an answer is shown.
func hideTyping() (restore func()) { return func() {} }
