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

// x⁵⁴⁴ and x⁴⁸⁰ modulo the generator, bit-reversed: what moves 128 bits on by 64 bytes (Gopal et al., "Fast CRC
// Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009).
DATA foldBy64<>+0(SB)/8, $0x154442bd4
DATA foldBy64<>+8(SB)/8, $0x1c6e41596
GLOBL foldBy64<>(SB), RODATA|NOPTR, $16

// func sumExponentsAVX2(p *byte, n int, fold *[64]byte, mask, one uint64) uint64
//
// Returns the OR of (w & mask) + one over the n/8 words w at p, n a multiple of 64 and not 0, and folds the bytes,
// the first 64 of them XOR fold, into 64 of the same CRC-32.
//
//	SI p, CX n, DI fold, Y0 mask, Y1 one, X2-X5 the folded bytes, X6 constants, Y7-Y8 the OR of every other vector
//	loop: 64 bytes, which are read twice
TEXT ·sumExponentsAVX2(SB), NOSPLIT, $0-48
	MOVQ         p+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         fold+16(FP), DI
	VPBROADCASTQ mask+24(FP), Y0
	VPBROADCASTQ one+32(FP), Y1
	VMOVDQU      0(DI), X2
	VMOVDQU      16(DI), X3
	VMOVDQU      32(DI), X4
	VMOVDQU      48(DI), X5
	VMOVDQU      foldBy64<>(SB), X6
	VPXOR        Y7, Y7, Y7
	VPXOR        Y8, Y8, Y8
	JMP          enter

loop:
	VPCLMULQDQ $0x00, X6, X2, X9
	VPCLMULQDQ $0x11, X6, X2, X2
	VPCLMULQDQ $0x00, X6, X3, X10
	VPCLMULQDQ $0x11, X6, X3, X3
	VPCLMULQDQ $0x00, X6, X4, X11
	VPCLMULQDQ $0x11, X6, X4, X4
	VPCLMULQDQ $0x00, X6, X5, X12
	VPCLMULQDQ $0x11, X6, X5, X5
	VPXOR      X9, X2, X2
	VPXOR      X10, X3, X3
	VPXOR      X11, X4, X4
	VPXOR      X12, X5, X5

enter:
	PREFETCHT0 4096(SI)
	VPXOR      0(SI), X2, X2
	VPXOR      16(SI), X3, X3
	VPXOR      32(SI), X4, X4
	VPXOR      48(SI), X5, X5
	VPAND      0(SI), Y0, Y13
	VPAND      32(SI), Y0, Y14
	VPADDQ     Y13, Y1, Y13
	VPADDQ     Y14, Y1, Y14
	VPOR       Y13, Y7, Y7
	VPOR       Y14, Y8, Y8
	ADDQ       $64, SI
	SUBQ       $64, CX
	JNE        loop

	VMOVDQU      X2, 0(DI)
	VMOVDQU      X3, 16(DI)
	VMOVDQU      X4, 32(DI)
	VMOVDQU      X5, 48(DI)
	VPOR         Y8, Y7, Y7
	VEXTRACTI128 $1, Y7, X8
	VPOR         X8, X7, X7
	VPSRLDQ      $8, X7, X8
	VPOR         X8, X7, X7
	VMOVQ        X7, AX
	MOVQ         AX, ret+40(FP)
	VZEROUPPER
	RET
