package main

// Softmaxes down the columns of matrices, whose numbers of columns n are multiples of 16: a column's numbers
// meet in one lane, so that nothing is added across a register.
// DI: x, or s; R10: d; R8: ld in bytes; AX: row of x; R11: row of d; BX: rows left; R9: columns left.
var columnsAVX = []functionAVX{
	{"expColumns", "x, most, sums *float32, ld, rows, n int", "For each column most = its largest element; x = exp(x−most); sums = Σ x", `
	MOVQ x+0(FP), DI
	MOVQ most+8(FP), SI
	MOVQ sums+16(FP), DX
	MOVQ ld+24(FP), R8
	MOVQ rows+32(FP), CX
	MOVQ n+40(FP), R9
	CONSTS
columns:
	VMOVUPS (DI), V5
	MOVQ DI, AX
	MOVQ CX, BX
max:
	VMAXPS (AX), V5, V5
	ADDQ R8, AX
	DECQ BX
	JNZ max
	VMOVUPS V5, (SI)
	VXORPS V6, V6, V6
	MOVQ DI, AX
	MOVQ CX, BX
exp:
	VMOVUPS (AX), V0
	VSUBPS V5, V0, V0
	EXP
	VMOVUPS V0, (AX)
	VADDPS V0, V6, V6
	ADDQ R8, AX
	DECQ BX
	JNZ exp
	VMOVUPS V6, (DX)
	ADDQ $W, DI
	ADDQ $W, SI
	ADDQ $W, DX
	SUBQ $(W/4), R9
	JG columns
	VZEROUPPER
	RET
`},
	{"gradColumns", "s, d, most, factors *float32, ld, rows, n int", "For each column s = exp(s−most); d = s ⊙ (d − factor·Σ s⊙d)", `
	MOVQ s+0(FP), DI
	MOVQ d+8(FP), R10
	MOVQ most+16(FP), SI
	MOVQ factors+24(FP), DX
	MOVQ ld+32(FP), R8
	MOVQ rows+40(FP), CX
	MOVQ n+48(FP), R9
	CONSTS
columns:
	VMOVUPS (SI), V5
	VXORPS V6, V6, V6
	MOVQ DI, AX
	MOVQ R10, R11
	MOVQ CX, BX
exp:
	VMOVUPS (AX), V0
	VSUBPS V5, V0, V0
	EXP
	VMOVUPS V0, (AX)
	VFMADD231PS (R11), V0, V6
	ADDQ R8, AX
	ADDQ R8, R11
	DECQ BX
	JNZ exp
	VMULPS (DX), V6, V6
	MOVQ DI, AX
	MOVQ R10, R11
	MOVQ CX, BX
grad:
	VMOVUPS (R11), V0
	VSUBPS V6, V0, V0
	VMULPS (AX), V0, V0
	VMOVUPS V0, (R11)
	ADDQ R8, AX
	ADDQ R8, R11
	DECQ BX
	JNZ grad
	ADDQ $W, DI
	ADDQ $W, R10
	ADDQ $W, SI
	ADDQ $W, DX
	SUBQ $(W/4), R9
	JG columns
	VZEROUPPER
	RET
`},
}

// columnShapes are the Go functions around them.
const columnShapes = `
func expColumnsVecISA(_ *impl, x []float32, ld, rows, n int, most, sums []float32) {
	expColumnsISA(&x[0], &most[0], &sums[0], 4*ld, rows, n)
}

func gradColumnsVecISA(_ *impl, s, d []float32, ld, rows, n int, most, factors []float32) {
	gradColumnsISA(&s[0], &d[0], &most[0], &factors[0], 4*ld, rows, n)
}
`
