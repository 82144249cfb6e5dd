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

// func prefetch(x *float32, lines int)
//
//	for lines { prefetch a cache line of x into the second-level cache }
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), SI
	MOVQ lines+8(FP), CX
	TESTQ CX, CX
	JZ   prefetchDone

prefetchLoop:
	PREFETCHT1 (SI)
	ADDQ $64, SI
	DECQ CX
	JNZ  prefetchLoop

prefetchDone:
	RET
