//go:build !purego

#include "textflag.h"

// func Pause()
//
// 16 PAUSE instructions: some hundred cycles in which a sibling thread has the core.
TEXT ·Pause(SB), NOSPLIT, $0-0
	MOVL $16, CX

loop:
	PAUSE
	DECL CX
	JNZ loop
	RET
