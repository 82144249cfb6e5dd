//go:build !purego

#include "textflag.h"

// func orExponentsAVX2(p *byte, n int, mask, one uint64) uint64
//
// Returns the OR of (w & mask) + one over the n/8 words w at p; n is a multiple of 256.
//
//	SI p, CX n, Y0 mask, Y1 one, Y2-Y5 the OR of every fourth vector
//	loop: 8 vectors of 32 bytes
TEXT ·orExponentsAVX2(SB), NOSPLIT, $0-40
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	VPBROADCASTQ mask+16(FP), Y0
	VPBROADCASTQ one+24(FP), Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	CMPQ CX, $0
	JE   done

loop:
	PREFETCHT0 4096(SI)
	PREFETCHT0 4160(SI)
	PREFETCHT0 4224(SI)
	PREFETCHT0 4288(SI)
	VPAND  (SI), Y0, Y6
	VPAND  32(SI), Y0, Y7
	VPAND  64(SI), Y0, Y8
	VPAND  96(SI), Y0, Y9
	VPAND  128(SI), Y0, Y10
	VPAND  160(SI), Y0, Y11
	VPAND  192(SI), Y0, Y12
	VPAND  224(SI), Y0, Y13
	VPADDQ Y6, Y1, Y6
	VPADDQ Y7, Y1, Y7
	VPADDQ Y8, Y1, Y8
	VPADDQ Y9, Y1, Y9
	VPADDQ Y10, Y1, Y10
	VPADDQ Y11, Y1, Y11
	VPADDQ Y12, Y1, Y12
	VPADDQ Y13, Y1, Y13
	VPOR   Y6, Y2, Y2
	VPOR   Y7, Y3, Y3
	VPOR   Y8, Y4, Y4
	VPOR   Y9, Y5, Y5
	VPOR   Y10, Y2, Y2
	VPOR   Y11, Y3, Y3
	VPOR   Y12, Y4, Y4
	VPOR   Y13, Y5, Y5
	ADDQ   $256, SI
	SUBQ   $256, CX
	JNE    loop

done:
	VPOR         Y3, Y2, Y2
	VPOR         Y5, Y4, Y4
	VPOR         Y4, Y2, Y2
	VEXTRACTI128 $1, Y2, X3
	VPOR         X3, X2, X2
	VPSRLDQ      $8, X2, X3
	VPOR         X3, X2, X2
	VMOVQ        X2, AX
	MOVQ         AX, ret+32(FP)
	VZEROUPPER
	RET
