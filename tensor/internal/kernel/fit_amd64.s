//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// func tryAVX2(t *trial, x []float32, least, most float32)
//
//	DI t, SI x, CX its numbers, Y0-Y4 Σq, Σq², Σe, Σqe, Σe², Y10 least, Y11 most, Y12 step, Y13 inverse, Y14 zero
//	half: 8 lanes    loop: a number, which all lanes round
TEXT ·tryAVX2(SB), NOSPLIT, $0-40
	MOVQ         t+0(FP), DI
	MOVQ         x_base+8(FP), SI
	MOVQ         x_len+16(FP), CX
	VBROADCASTSS least+32(FP), Y10
	VBROADCASTSS most+36(FP), Y11
	MOVQ         $2, DX

half:
	VMOVUPS trial_step(DI), Y12
	VMOVUPS trial_inverse(DI), Y13
	VMOVUPS trial_zero(DI), Y14
	VXORPS  Y0, Y0, Y0
	VXORPS  Y1, Y1, Y1
	VXORPS  Y2, Y2, Y2
	VXORPS  Y3, Y3, Y3
	VXORPS  Y4, Y4, Y4
	MOVQ    SI, BX
	MOVQ    CX, AX
	TESTQ   AX, AX
	JE      store

loop:
	VBROADCASTSS (BX), Y5
	VSUBPS       Y14, Y5, Y5
	VMULPS       Y13, Y5, Y6
	VROUNDPS     $0, Y6, Y6  // to nearest, ties to even
	VMAXPS       Y10, Y6, Y6 // a NaN becomes least
	VMINPS       Y11, Y6, Y6
	VFNMADD231PS Y12, Y6, Y5
	VADDPS       Y6, Y0, Y0
	VFMADD231PS  Y6, Y6, Y1
	VADDPS       Y5, Y2, Y2
	VFMADD231PS  Y5, Y6, Y3
	VFMADD231PS  Y5, Y5, Y4
	ADDQ         $4, BX
	DECQ         AX
	JNE          loop

store:
	VMOVUPS Y0, trial_q(DI)
	VMOVUPS Y1, trial_qq(DI)
	VMOVUPS Y2, trial_e(DI)
	VMOVUPS Y3, trial_qe(DI)
	VMOVUPS Y4, trial_ee(DI)
	ADDQ    $32, DI
	DECQ    DX
	JNE     half
	VZEROUPPER
	RET
