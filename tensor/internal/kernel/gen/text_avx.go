package main

import "fmt"

// binary is a function of dst, a and b; op computes V0 from what is at (SI)(AX*1) and (DX)(AX*1),
// after constants have been loaded.
func binary(name, doc, constants, op string) functionAVX {
	return functionAVX{name, "dst, a, b *float32, n int", doc, `
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
` + constants + `loop:
` + op + `
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`}
}

// unary is a function of dst and x; op turns V4 into V0 and may use V0 to V7.
func unary(name, doc, op string) functionAVX {
	return functionAVX{name, "dst, x *float32, n int", doc, `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
	CONSTS
loop:
	VMOVUPS (SI)(AX*1), V4
` + op + `
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`}
}

// reduction adds up with op, which adds what is at (SI)(AX*1)+offset to an accumulator. Four of
// them hide the addition's latency; they are joined in a fixed order.
func reduction(name, signature, doc, load string, op func(offset, acc string) string) functionAVX {
	return functionAVX{name, signature, doc, load + `
	SHLQ $2, CX
	XORQ AX, AX
	VXORPS V0, V0, V0
	VXORPS V4, V4, V4
	VXORPS V5, V5, V5
	VXORPS V6, V6, V6
	MOVQ CX, BX
	SUBQ $(3*W), BX
	JLE rest
loop:
` + op("0*W", "V0") + op("1*W", "V4") + op("2*W", "V5") + op("3*W", "V6") + `
	ADDQ $W4, AX
	CMPQ AX, BX
	JLT loop
rest:
	CMPQ AX, CX
	JGE done
one:
` + op("0*W", "V0") + `
	ADDQ $W, AX
	CMPQ AX, CX
	JLT one
done:
	VADDPS V4, V0, V0
	VADDPS V6, V5, V5
	VADDPS V5, V0, V0
	REDUCE
	VMOVSS X0, ret+` + result(signature) + `(FP)
	VZEROUPPER
	RET
`}
}

// result returns where the result of a function with these arguments is.
func result(signature string) string {
	return fmt.Sprint((functionAVX{signature: signature}.size() + 7) / 8 * 8)
}

var functionsAVX = []functionAVX{
	binary("add", "dst = a + b", "", `	VMOVUPS (SI)(AX*1), V0
	VADDPS (DX)(AX*1), V0, V0`),
	binary("mul", "dst = a ⊙ b", "", `	VMOVUPS (SI)(AX*1), V0
	VMULPS (DX)(AX*1), V0, V0`),
	binary("squareReLUGrad", "dst = 2·a·√b", "", `	VSQRTPS (DX)(AX*1), V0
	VMULPS (SI)(AX*1), V0, V0
	VADDPS V0, V0, V0`),
	{"axpy", "dst, x *float32, n int, a float32", "dst += a·x", `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS a+24(FP), V1
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VMOVUPS (DI)(AX*1), V0
	VFMADD231PS (SI)(AX*1), V1, V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"scale", "dst, x *float32, n int, a float32", "dst = a·x", `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS a+24(FP), V1
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VMULPS (SI)(AX*1), V1, V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"mix", "dst, x, prev, maa *float32, n int", "dst = x + (prev−x) ⊙ maa", `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ prev+16(FP), DX
	MOVQ maa+24(FP), R8
	MOVQ n+32(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VMOVUPS (SI)(AX*1), V0
	VMOVUPS (DX)(AX*1), V1
	VSUBPS V0, V1, V1
	VFMADD231PS (R8)(AX*1), V1, V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"mixGrad", "dx, s, d, next, mix, diff *float32, n int", "dx += d + (next−d) ⊙ mix; s += d ⊙ diff", `
	MOVQ dx+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ d+16(FP), DX
	MOVQ next+24(FP), R8
	MOVQ mix+32(FP), R9
	MOVQ diff+40(FP), R10
	MOVQ n+48(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VMOVUPS (DX)(AX*1), V0
	VMOVUPS (R8)(AX*1), V1
	VMOVUPS (SI)(AX*1), V2
	VFMADD231PS (R10)(AX*1), V0, V2
	VSUBPS V0, V1, V1
	VMOVUPS V2, (SI)(AX*1)
	VFMADD231PS (R9)(AX*1), V1, V0
	VADDPS (DI)(AX*1), V0, V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"adam", "p, m, v, grad, f *float32, n int", `One step of AdamW by the factors at f: clip, 1−β1, β2, 1−β2, 1/√(1−β2^t), eps, keep, step.
No multiplication is fused with an addition: the reference isn't either.`, `
	MOVQ p+0(FP), DI
	MOVQ m+8(FP), SI
	MOVQ v+16(FP), DX
	MOVQ grad+24(FP), R8
	MOVQ f+32(FP), R9
	MOVQ n+40(FP), CX
	VBROADCASTSS 0(R9), V5
	VBROADCASTSS 4(R9), V6
	VBROADCASTSS 8(R9), V7
	VBROADCASTSS 12(R9), V8
	VBROADCASTSS 16(R9), V9
	VBROADCASTSS 20(R9), V10
	VBROADCASTSS 24(R9), V11
	VBROADCASTSS 28(R9), V12
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VMULPS (R8)(AX*1), V5, V0
	VMOVUPS (SI)(AX*1), V1
	VSUBPS V1, V0, V2
	VMULPS V6, V2, V2
	VADDPS V2, V1, V1
	VMOVUPS V1, (SI)(AX*1)
	VMULPS V0, V8, V2
	VMULPS V0, V2, V2
	VMULPS (DX)(AX*1), V7, V3
	VADDPS V2, V3, V3
	VMOVUPS V3, (DX)(AX*1)
	VSQRTPS V3, V3
	VMULPS V9, V3, V3
	VADDPS V10, V3, V3
	VMULPS V1, V12, V1
	VDIVPS V3, V1, V1
	VMULPS (DI)(AX*1), V11, V0
	VSUBPS V1, V0, V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"transpose", "dst, src *float32, ldd, lds, n int", `Eight rows of src, lds bytes apart, become eight columns of dst, whose rows are ldd bytes apart; n is a
multiple of 4, the numbers of a row. Rows i and i+4 share a register.
AX: rows 4 to 7 of src; R9: 3·lds; R11: 3·ldd.`, `
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ ldd+16(FP), BX
	MOVQ lds+24(FP), R8
	MOVQ n+32(FP), CX
	LEAQ (R8)(R8*2), R9
	LEAQ (BX)(BX*2), R11
	LEAQ (SI)(R8*4), AX
loop:
	VMOVUPS (SI), X0
	VMOVUPS (SI)(R8*1), X1
	VMOVUPS (SI)(R8*2), X2
	VMOVUPS (SI)(R9*1), X3
	VINSERTF128 $1, (AX), Y0, Y0
	VINSERTF128 $1, (AX)(R8*1), Y1, Y1
	VINSERTF128 $1, (AX)(R8*2), Y2, Y2
	VINSERTF128 $1, (AX)(R9*1), Y3, Y3
	VUNPCKLPS Y1, Y0, Y4
	VUNPCKHPS Y1, Y0, Y5
	VUNPCKLPS Y3, Y2, Y6
	VUNPCKHPS Y3, Y2, Y7
	VUNPCKLPD Y6, Y4, Y0
	VUNPCKHPD Y6, Y4, Y1
	VUNPCKLPD Y7, Y5, Y2
	VUNPCKHPD Y7, Y5, Y3
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, (DI)(BX*1)
	VMOVUPS Y2, (DI)(BX*2)
	VMOVUPS Y3, (DI)(R11*1)
	ADDQ $16, SI
	ADDQ $16, AX
	LEAQ (DI)(BX*4), DI
	SUBQ $4, CX
	JG loop
	VZEROUPPER
	RET
`},
	{"norm", "dst, x *float32, n int, mean float32, rstd float32", "dst = (x−mean)·rstd", `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS mean+24(FP), V1
	VBROADCASTSS rstd+28(FP), V2
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VMOVUPS (SI)(AX*1), V0
	VSUBPS V1, V0, V0
	VMULPS V2, V0, V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	unary("squareReLU", "dst = max(x, 0)²; NaN passes: MAX returns its second source then", `	VXORPS V1, V1, V1
	VMAXPS V4, V1, V0
	VMULPS V0, V0, V0`),
	unary("exp", "dst = exp(x)", `	VMOVAPS V4, V0
	EXP
`),
	unary("sigmoid", "dst = 1/(1+exp(−x))", `	SIGMOID
`),
	unary("silu", "dst = x·sigmoid(x)", `	SIGMOID
	VMULPS V4, V0, V0`),
	unary("tanh", "dst = tanh(x): x + x³·P(x²) where |x| is small, else 1 − 2/(exp(2|x|)+1) with x's sign", `	TANH
`),
	{"expSum", "dst, x *float32, n int, shift float32", "dst = exp(x−shift); returns Σ dst", `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS shift+24(FP), V13
	SHLQ $2, CX
	XORQ AX, AX
	VXORPS V12, V12, V12
	CONSTS
loop:
	VMOVUPS (SI)(AX*1), V0
	VSUBPS V13, V0, V0
	EXP
	VMOVUPS V0, (DI)(AX*1)
	VADDPS V0, V12, V12
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VMOVAPS V12, V0
	REDUCE
	VMOVSS X0, ret+32(FP)
	VZEROUPPER
	RET
`},
	reduction("dot", "x, y *float32, n int", "Σ x·y", `
	MOVQ x+0(FP), SI
	MOVQ y+8(FP), DX
	MOVQ n+16(FP), CX`, func(offset, acc string) string {
		return "\tVMOVUPS (" + offset + ")(SI)(AX*1), V1\n\tVFMADD231PS (" + offset + ")(DX)(AX*1), V1, " + acc + "\n"
	}),
	reduction("sum", "x *float32, n int", "Σ x", `
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX`, func(offset, acc string) string {
		return "\tVADDPS (" + offset + ")(SI)(AX*1), " + acc + ", " + acc + "\n"
	}),
	reduction("sumSquares", "x *float32, n int, mean float32", "Σ (x−mean)²", `
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	VBROADCASTSS mean+16(FP), V7`, func(offset, acc string) string {
		return "\tVMOVUPS (" + offset + ")(SI)(AX*1), V1\n\tVSUBPS V7, V1, V1\n\tVFMADD231PS V1, V1, " + acc + "\n"
	}),
	{"max", "x *float32, n int", "the largest element", `
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
	VMOVUPS (SI), V0
loop:
	VMAXPS (SI)(AX*1), V0, V0
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
512:	VEXTRACTF64X4 $1, V0, Y1
512:	VMAXPS Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VMAXPS X1, X0, X0
	VPERMILPD $1, X0, X1
	VMAXPS X1, X0, X0
	VMOVSHDUP X0, X1
	VMAXSS X1, X0, X0
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET
`},
	{"widenBF16", "dst *float32, src *uint16, n int", "a bfloat16 is the upper half of a float32", `
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VPMOVZXWD (SI), V0
	VPSLLD $16, V0, V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $(W/2), SI
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"widenF16", "dst *float32, src *uint16, n int", "VCVTPH2PS widens exactly, denormals too", `
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
loop:
	VCVTPH2PS (SI), V0
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $(W/2), SI
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"wkv5", "y, s, r, k, v *float32, n int, w float32, u float32", `One token of one head: for each block of columns, y and v stay in registers while the rows of s
pass: t = k_i·v; y += r_i·(s_i + u·t); s_i = w·s_i + t.
R8: column in bytes; R9: s at that column; AX: row; R10: bytes of a row.`, `
	MOVQ y+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ r+16(FP), DX
	MOVQ k+24(FP), BX
	MOVQ v+32(FP), R11
	MOVQ n+40(FP), CX
	VBROADCASTSS w+48(FP), V8
	VBROADCASTSS u+52(FP), V9
	MOVQ CX, R10
	SHLQ $2, R10
	XORQ R8, R8
columns:
	LEAQ (SI)(R8*1), R9
	VMOVUPS (R11)(R8*1), V5
	VXORPS V0, V0, V0
	XORQ AX, AX
rows:
	VBROADCASTSS (BX)(AX*4), V1
	VMULPS V5, V1, V1
	VMOVUPS (R9), V2
	VMOVAPS V2, V3
	VFMADD231PS V9, V1, V3
	VFMADD231PS V8, V2, V1
	VBROADCASTSS (DX)(AX*4), V4
	VFMADD231PS V4, V3, V0
	VMOVUPS V1, (R9)
	ADDQ R10, R9
	INCQ AX
	CMPQ AX, CX
	JLT rows
	VMOVUPS V0, (DI)(R8*1)
	ADDQ $W, R8
	CMPQ R8, R10
	JLT columns
	VZEROUPPER
	RET
`},
	{"wkv7", "y, s, r, w, k, v, a, b *float32, n int", `One token of one head: each row i of s is read for its product with a, then updated,
s_i = s_i ⊙ w − (s_i·a)·b + v_i·k, and multiplied by r at once.
R9: row of s; R13: row; AX: column in bytes.`, `
	MOVQ y+0(FP), DI
	MOVQ s+8(FP), R9
	MOVQ r+16(FP), DX
	MOVQ w+24(FP), BX
	MOVQ k+32(FP), R8
	MOVQ v+40(FP), R10
	MOVQ a+48(FP), R11
	MOVQ b+56(FP), R12
	MOVQ n+64(FP), CX
	SHLQ $2, CX
	XORQ R13, R13
rows:
	XORQ AX, AX
	VXORPS V0, V0, V0
first:
	VMOVUPS (R9)(AX*1), V1
	VFMADD231PS (R11)(AX*1), V1, V0
	ADDQ $W, AX
	CMPQ AX, CX
	JLT first
	REDUCE
	VBROADCASTSS X0, V5
	VBROADCASTSS (R10)(R13*1), V6
	VXORPS V0, V0, V0
	XORQ AX, AX
second:
	VMOVUPS (R9)(AX*1), V1
	VMULPS (BX)(AX*1), V1, V1
	VFNMADD231PS (R12)(AX*1), V5, V1
	VFMADD231PS (R8)(AX*1), V6, V1
	VMOVUPS V1, (R9)(AX*1)
	VFMADD231PS (DX)(AX*1), V1, V0
	ADDQ $W, AX
	CMPQ AX, CX
	JLT second
	REDUCE
	VMOVSS X0, (DI)(R13*1)
	ADDQ CX, R9
	ADDQ $4, R13
	CMPQ R13, CX
	JLT rows
	VZEROUPPER
	RET
`},
}
