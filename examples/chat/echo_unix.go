//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// hideTyping keeps the terminal from showing what is typed, which would stand within an answer; it is
// kept for the next message. It returns what brings the terminal back to how it was.
func hideTyping() (restore func()) {
	fd := int(os.Stdin.Fd())
	old, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil { // no terminal
		return func() {}
	}
	now := *old
	now.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(fd, setTermios, &now) != nil {
		return func() {}
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, old) }
}
