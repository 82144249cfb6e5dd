//go:build !purego

package kernel

import (
	"syscall"

	"golang.org/x/sys/cpu"
)

// hasAMX reports whether the CPU has AMX's tiles of bfloat16 and Linux lets this process use them, which it
// wants to be asked for, once: they make the state of a thread 8 KB larger (Linux, Documentation/arch/x86/xstate.rst).
func hasAMX() bool {
	if c := &cpu.X86; !c.HasAMXTile || !c.HasAMXBF16 || !c.HasAVX512BF16 {
		return false
	}
	const (
		archReqXCompPerm = 0x1023
		xtileData        = 18
	)
	_, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, archReqXCompPerm, xtileData, 0)
	return errno == 0
}
