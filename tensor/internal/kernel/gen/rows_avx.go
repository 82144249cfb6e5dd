package main

import "fmt"

// The operations on rows: what they are made of is in functionsAVX, and they have its bits.

// inFours adds up a part of CX bytes, as reduction does: op adds what is at an offset to the accumulators of
// number i. BX is CX − 3·W.
func inFours(label string, op func(offset string, i int) string) string {
	return `	XORQ AX, AX
	TESTQ BX, BX
	JLE ` + label + `Rest
` + label + `:
` + op("0*W", 0) + op("1*W", 1) + op("2*W", 2) + op("3*W", 3) + `
	ADDQ $W4, AX
	CMPQ AX, BX
	JLT ` + label + `
` + label + `Rest:
	CMPQ AX, CX
	JGE ` + label + `Done
` + label + `One:
` + op("0*W", 0) + `
	ADDQ $W, AX
	CMPQ AX, CX
	JLT ` + label + `One
` + label + `Done:
`
}

// joined adds up four accumulators, in X0.
func joined(a, b, c, d string) string {
	return fmt.Sprintf(`
	VADDPS %s, %s, V0
	VADDPS %s, %s, V1
	VADDPS V1, V0, V0
	REDUCE
`, b, a, d, c)
}

// sums are the accumulators of one sum, slopes of another.
var (
	sums   = [4]string{"V0", "V4", "V5", "V6"}
	slopes = [4]string{"V9", "V10", "V11", "V12"}
)

// clearAll clears registers.
func clearAll(registers [4]string) (text string) {
	for _, r := range registers {
		text += fmt.Sprintf("\tVXORPS %s, %s, %s\n", r, r, r)
	}
	return text
}

var rowFunctionsAVX = []functionAVX{
	{"normalize", "dst, x, gain, bias, rstd *float32, groups, size int, eps float32", `dst = (x − mean)·rstd ⊙ gain + bias for each part of x, with rstd = 1/√(var + eps), which is kept unless
it is nil; a nil gain is 1, a nil bias 0.
X8: size; X9: 1 in float64; V7: mean; V2: rstd.`, `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ gain+16(FP), R8
	MOVQ bias+24(FP), R9
	MOVQ rstd+32(FP), R10
	MOVQ groups+40(FP), R11
	MOVQ size+48(FP), CX
	VXORPS X8, X8, X8
	VCVTSI2SSQ CX, X8, X8
	MOVQ $0x3ff0000000000000, AX
	VMOVQ AX, X9
	SHLQ $2, CX
	MOVQ CX, BX
	SUBQ $(3*W), BX
group:
` + clearAll(sums) + inFours("sum", func(offset string, i int) string {
		return "\tVADDPS (" + offset + ")(SI)(AX*1), " + sums[i] + ", " + sums[i] + "\n"
	}) + joined("V0", "V4", "V5", "V6") + `
	VDIVSS X8, X0, X0
	VBROADCASTSS X0, V7
` + clearAll(sums) + inFours("squares", func(offset string, i int) string {
		return "\tVMOVUPS (" + offset + ")(SI)(AX*1), V1\n\tVSUBPS V7, V1, V1\n\tVFMADD231PS V1, V1, " + sums[i] + "\n"
	}) + joined("V0", "V4", "V5", "V6") + `
	VDIVSS X8, X0, X0
	VADDSS eps+56(FP), X0, X0
	VCVTSS2SD X0, X0, X0
	VSQRTSD X0, X0, X0
	VDIVSD X0, X9, X0
	VCVTSD2SS X0, X0, X0
	VBROADCASTSS X0, V2
	TESTQ R10, R10
	JEQ unkept
	VMOVSS X0, (R10)
	ADDQ $4, R10
unkept:
	XORQ AX, AX
loop:
	VMOVUPS (SI)(AX*1), V0
	VSUBPS V7, V0, V0
	VMULPS V2, V0, V0
	TESTQ R8, R8
	JEQ noGain
	VMULPS (R8)(AX*1), V0, V0
noGain:
	TESTQ R9, R9
	JEQ noBias
	VADDPS (R9)(AX*1), V0, V0
noBias:
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	ADDQ CX, DI
	ADDQ CX, SI
	TESTQ R8, R8
	JEQ sameGain
	ADDQ CX, R8
sameGain:
	TESTQ R9, R9
	JEQ sameBias
	ADDQ CX, R9
sameBias:
	DECQ R11
	JNE group
	VZEROUPPER
	RET
`},
	{"normGrad", "dx, dgain, dbias, dy, hat, gain, rstd *float32, groups, size, add int", `Goes back over normalize: with g = dy ⊙ gain, dx is or gets rstd·(g − mean(g) − hat·mean(g⊙hat)) for each
part, dgain gets dy ⊙ hat and dbias dy, unless they are nil. A nil gain is 1.
X8: size; V7: mean; V2: slope·rstd; V3: rstd.`, `
	MOVQ dx+0(FP), DI
	MOVQ dgain+8(FP), R8
	MOVQ dbias+16(FP), R9
	MOVQ dy+24(FP), SI
	MOVQ hat+32(FP), DX
	MOVQ gain+40(FP), R10
	MOVQ rstd+48(FP), R11
	MOVQ groups+56(FP), R12
	MOVQ size+64(FP), CX
	MOVQ add+72(FP), R13
	VXORPS X8, X8, X8
	VCVTSI2SSQ CX, X8, X8
	SHLQ $2, CX
	MOVQ CX, BX
	SUBQ $(3*W), BX
group:
	TESTQ R9, R9
	JEQ noBias
	XORQ AX, AX
bias:
	VMOVUPS (R9)(AX*1), V0
	VADDPS (SI)(AX*1), V0, V0
	VMOVUPS V0, (R9)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT bias
	ADDQ CX, R9
noBias:
	TESTQ R8, R8
	JEQ noGain
	XORQ AX, AX
gain:
	VMOVUPS (SI)(AX*1), V0
	VMULPS (DX)(AX*1), V0, V0
	VADDPS (R8)(AX*1), V0, V0
	VMOVUPS V0, (R8)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT gain
	ADDQ CX, R8
noGain:
` + clearAll(sums) + clearAll(slopes) + `
	TESTQ R10, R10
	JEQ plain
` + inFours("scaled", func(offset string, i int) string {
		return "\tVMOVUPS (" + offset + ")(SI)(AX*1), V1\n\tVMULPS (" + offset + ")(R10)(AX*1), V1, V1\n" + sumAndSlope(offset, i)
	}) + `
	JMP summed
plain:
` + inFours("unscaled", func(offset string, i int) string {
		return "\tVMOVUPS (" + offset + ")(SI)(AX*1), V1\n" + sumAndSlope(offset, i)
	}) + `
summed:
` + joined("V0", "V4", "V5", "V6") + `
	VDIVSS X8, X0, X0
	VBROADCASTSS X0, V7
` + joined("V9", "V10", "V11", "V12") + `
	VDIVSS X8, X0, X0
	VMULSS (R11), X0, X0
	VBROADCASTSS X0, V2
	VBROADCASTSS (R11), V3
	XORQ AX, AX
loop:
	VMOVUPS (SI)(AX*1), V0
	TESTQ R10, R10
	JEQ unscaled2
	VMULPS (R10)(AX*1), V0, V0
unscaled2:
	VSUBPS V7, V0, V0
	VMULPS V3, V0, V0
	VFNMADD231PS (DX)(AX*1), V2, V0
	TESTQ R13, R13
	JEQ store
	VADDPS (DI)(AX*1), V0, V0
store:
	VMOVUPS V0, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	ADDQ CX, DI
	ADDQ CX, SI
	ADDQ CX, DX
	ADDQ $4, R11
	TESTQ R10, R10
	JEQ next
	ADDQ CX, R10
next:
	DECQ R12
	JNE group
	VZEROUPPER
	RET
`},
	{"gateGrad", "dz, dn, d, z, hat, gain, bias *float32, n int", `Goes back over (hat ⊙ gain + bias) ⊙ silu(z) from its gradient d: dn is the norm's, dz that of z.
V0: sigmoid(z); V5: silu(z), then its derivative s + silu − silu·s; V6: d.`, `
	MOVQ dz+0(FP), DI
	MOVQ dn+8(FP), SI
	MOVQ d+16(FP), DX
	MOVQ z+24(FP), R8
	MOVQ hat+32(FP), R9
	MOVQ gain+40(FP), R10
	MOVQ bias+48(FP), R11
	MOVQ n+56(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
	CONSTS
loop:
	VMOVUPS (R8)(AX*1), V4
	SIGMOID
	VMULPS V0, V4, V5
	VMOVUPS (DX)(AX*1), V6
	VMULPS V5, V6, V7
	VMOVUPS V7, (SI)(AX*1)
	VMOVUPS (R9)(AX*1), V7
	VMULPS (R10)(AX*1), V7, V7
	VADDPS (R11)(AX*1), V7, V7
	VMULPS V7, V6, V7
	VMULPS V0, V5, V12
	VSUBPS V12, V5, V5
	VADDPS V0, V5, V5
	VMULPS V5, V7, V7
	VMOVUPS V7, (DI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, CX
	JLT loop
	VZEROUPPER
	RET
`},
	{"mixRows", "dst, x, prev, mix *float32, ldd, ldx, rows, n int", `dst = x + (prev − x) ⊙ mix for rows that are ldd and ldx bytes apart, of which each is the next one's prev.
V1: the row before; V3: mix.`, `
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ prev+16(FP), DX
	MOVQ mix+24(FP), R8
	MOVQ ldd+32(FP), R9
	MOVQ ldx+40(FP), R10
	MOVQ n+56(FP), CX
	SHLQ $2, CX
	XORQ AX, AX
column:
	LEAQ (DI)(AX*1), R11
	LEAQ (SI)(AX*1), R12
	MOVQ rows+48(FP), BX
	VMOVUPS (DX)(AX*1), V1
	VMOVUPS (R8)(AX*1), V3
loop:
	VMOVUPS (R12), V0
	VSUBPS V0, V1, V2
	VMOVAPS V0, V1
	VFMADD231PS V3, V2, V0
	VMOVUPS V0, (R11)
	ADDQ R9, R11
	ADDQ R10, R12
	DECQ BX
	JNE loop
	ADDQ $W, AX
	CMPQ AX, CX
	JLT column
	VZEROUPPER
	RET
`},
	{"mixGradRows", "dx, s, d, x, mix *float32, lddx, ldd, ldx, rows, n, ends int", `Goes back over mixRows, for rows that are lddx, ldd and ldx bytes apart: dx is or gets d + (next−d) ⊙ mix
with the row of d after this one, s gets d ⊙ (prev−x) of all rows. Bits of ends: 1, there is no row of x before the
first; 2, there is none of d after the last; 4, dx gets.
V0: d; V4: the row before; V5: mix; V6: s.`, `
	MOVQ s+8(FP), SI
	MOVQ mix+32(FP), R9
	MOVQ lddx+40(FP), R10
	MOVQ ldd+48(FP), R11
	MOVQ ldx+56(FP), R12
	MOVQ n+72(FP), R8
	MOVQ ends+80(FP), R13
	SHLQ $2, R8
	XORQ AX, AX
column:
	MOVQ dx+0(FP), DI
	MOVQ d+16(FP), DX
	MOVQ x+24(FP), BX
	MOVQ rows+64(FP), CX
	ADDQ AX, DI
	ADDQ AX, DX
	ADDQ AX, BX
	VMOVUPS (R9)(AX*1), V5
	VMOVUPS (SI)(AX*1), V6
	VMOVUPS (DX), V0
	VXORPS V4, V4, V4
	TESTQ $1, R13
	JNE loop
	SUBQ R12, BX
	VMOVUPS (BX), V4
	ADDQ R12, BX
loop:
	VMOVUPS (BX), V3
	VSUBPS V3, V4, V2
	VMOVAPS V3, V4
	VFMADD231PS V2, V0, V6
	ADDQ R11, DX
	VXORPS V1, V1, V1
	CMPQ CX, $1
	JNE inner
	TESTQ $2, R13
	JNE outer
inner:
	VMOVUPS (DX), V1
outer:
	VSUBPS V0, V1, V2
	VFMADD231PS V5, V2, V0
	VXORPS V7, V7, V7
	TESTQ $4, R13
	JEQ fresh
	VMOVUPS (DI), V7
fresh:
	VADDPS V7, V0, V0
	VMOVUPS V0, (DI)
	VMOVAPS V1, V0
	ADDQ R10, DI
	ADDQ R12, BX
	DECQ CX
	JNE loop
	VMOVUPS V6, (SI)(AX*1)
	ADDQ $W, AX
	CMPQ AX, R8
	JLT column
	VZEROUPPER
	RET
`},
}

// sumAndSlope adds g, which is V1, to the sums of g and of g ⊙ hat.
func sumAndSlope(offset string, i int) string {
	return fmt.Sprintf("\tVADDPS V1, %s, %[1]s\n\tVFMADD231PS (%s)(DX)(AX*1), V1, %s\n", sums[i], offset, slopes[i])
}
