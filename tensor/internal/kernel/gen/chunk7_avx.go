package main

// What a chunk of RWKV-7's backward pass does beside products, column by column. n and all distances are bytes.
var chunk7FunctionsAVX = []functionAVX{
	{"prepare7", "r, w, k, a, b, pow, out *float32, ld, plane, rows, n int", `pow = 1, w_0, w_0·w_1, … and with P that of a row, Q that of the one before: r·P, −a·Q, k/P and b/P in planes of
out. Rows of the operands are ld apart, those of pow and out n.
V0: Q; V1: P; V3: 1/P; V8: 1; V9: the sign.`, `
	MOVQ ld+56(FP), BX
	MOVQ plane+64(FP), R12
	LEAQ (R12)(R12*2), R13
	VMOVUPS ·vecOne(SB), V8
	VMOVUPS ·vecSign(SB), V9
	XORQ AX, AX
column:
	MOVQ r+0(FP), SI
	MOVQ w+8(FP), DX
	MOVQ k+16(FP), R8
	MOVQ a+24(FP), R9
	MOVQ b+32(FP), R10
	MOVQ pow+40(FP), R11
	MOVQ out+48(FP), DI
	MOVQ rows+72(FP), CX
	ADDQ AX, SI
	ADDQ AX, DX
	ADDQ AX, R8
	ADDQ AX, R9
	ADDQ AX, R10
	ADDQ AX, R11
	ADDQ AX, DI
	VMOVAPS V8, V0
	VMOVUPS V0, (R11)
loop:
	VMULPS (DX), V0, V1
	ADDQ n+80(FP), R11
	VMOVUPS V1, (R11)
	VMULPS (SI), V1, V2
	VMOVUPS V2, (DI)
	VMULPS (R9), V0, V2
	VXORPS V9, V2, V2
	VMOVUPS V2, (DI)(R12*1)
	VDIVPS V1, V8, V3
	VMULPS (R8), V3, V2
	VMOVUPS V2, (DI)(R12*2)
	VMULPS (R10), V3, V2
	VMOVUPS V2, (DI)(R13*1)
	VMOVAPS V1, V0
	ADDQ BX, SI
	ADDQ BX, DX
	ADDQ BX, R8
	ADDQ BX, R9
	ADDQ BX, R10
	ADDQ n+80(FP), DI
	DECQ CX
	JNE loop
	ADDQ $W, AX
	CMPQ AX, n+80(FP)
	JLT column
	VZEROUPPER
	RET
`},
	{"decay7", "d, s, pow, log *float32, rows, n int", `log = Σ d ⊙ s over the rows, and d ← d ⊙ pow.`, `
	MOVQ pow+16(FP), R8
	MOVQ log+24(FP), R9
	MOVQ n+40(FP), BX
	XORQ AX, AX
column:
	MOVQ d+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ rows+32(FP), CX
	ADDQ AX, DI
	ADDQ AX, SI
	VMOVUPS (R8)(AX*1), V1
	VXORPS V0, V0, V0
loop:
	VMOVUPS (DI), V2
	VMULPS (SI), V2, V3
	VADDPS V3, V0, V0
	VMULPS V1, V2, V2
	VMOVUPS V2, (DI)
	ADDQ BX, DI
	ADDQ BX, SI
	DECQ CX
	JNE loop
	VMOVUPS V0, (R9)(AX*1)
	ADDQ $W, AX
	CMPQ AX, BX
	JLT column
	VZEROUPPER
	RET
`},
	{"solve7", "x, m *float32, stepX, stepI, stepJ, rows, n int", `x_i += m[i,j]·x_j for each row j and all rows i after it. Rows of x are stepX apart, and numbers of m stepI and
stepJ; m points to the one of i = 1 and j = 0.`, `
	MOVQ stepX+16(FP), R8
	MOVQ stepI+24(FP), R9
	MOVQ stepJ+32(FP), R12
	ADDQ R9, R12
	XORQ AX, AX
column:
	MOVQ x+0(FP), DI
	MOVQ m+8(FP), SI
	MOVQ rows+40(FP), CX
	ADDQ AX, DI
	JMP next
row:
	VMOVUPS (DI), V0
	MOVQ DI, R10
	MOVQ SI, R11
	MOVQ CX, BX
loop:
	ADDQ R8, R10
	VBROADCASTSS (R11), V1
	VMOVUPS (R10), V2
	VFMADD231PS V1, V0, V2
	VMOVUPS V2, (R10)
	ADDQ R9, R11
	DECQ BX
	JNE loop
	ADDQ R8, DI
	ADDQ R12, SI
next:
	DECQ CX
	JNE row
	ADDQ $W, AX
	CMPQ AX, n+48(FP)
	JLT column
	VZEROUPPER
	RET
`},
	{"finish7", "dr, dw, dk, da, db, out, dOut, pow, log *float32, ld, plane, rows, n int", `Goes back over prepare7 from its planes out and their gradients dOut, from the last row on, which the pointers
are at; pow at that row's P. log is the gradient of ln P by what comes after the chunk, dw that of ln w.
V0: the gradient of ln P so far; V7: P; V8: 1; V9: the sign.`, `
	MOVQ plane+80(FP), R12
	LEAQ (R12)(R12*2), R13
	VMOVUPS ·vecOne(SB), V8
	VMOVUPS ·vecSign(SB), V9
	XORQ AX, AX
column:
	MOVQ log+64(FP), CX
	VMOVUPS (CX)(AX*1), V0
	MOVQ dr+0(FP), R8
	MOVQ dw+8(FP), R9
	MOVQ dk+16(FP), R10
	MOVQ da+24(FP), R11
	MOVQ db+32(FP), BX
	MOVQ out+40(FP), SI
	MOVQ dOut+48(FP), DI
	MOVQ pow+56(FP), DX
	MOVQ rows+88(FP), CX
	ADDQ AX, R8
	ADDQ AX, R9
	ADDQ AX, R10
	ADDQ AX, R11
	ADDQ AX, BX
	ADDQ AX, SI
	ADDQ AX, DI
	ADDQ AX, DX
loop:
	VMOVUPS (DI), V1
	VMULPS (SI), V1, V2
	VMOVUPS (DI)(R12*2), V3
	VMULPS (SI)(R12*2), V3, V4
	VSUBPS V4, V2, V2
	VMOVUPS (DI)(R13*1), V5
	VMULPS (SI)(R13*1), V5, V4
	VSUBPS V4, V2, V2
	VADDPS V2, V0, V0
	VMOVUPS V0, (R9)
	VMOVUPS (DI)(R12*1), V6
	VMULPS (SI)(R12*1), V6, V4
	VADDPS V4, V0, V0
	VMOVUPS (DX), V7
	VMULPS V7, V1, V1
	VMOVUPS V1, (R8)
	VDIVPS V7, V8, V4
	VMULPS V4, V3, V3
	VMOVUPS V3, (R10)
	VMULPS V4, V5, V5
	VMOVUPS V5, (BX)
	SUBQ n+96(FP), DX
	VMULPS (DX), V6, V6
	VXORPS V9, V6, V6
	VMOVUPS V6, (R11)
	SUBQ ld+72(FP), R8
	SUBQ ld+72(FP), R9
	SUBQ ld+72(FP), R10
	SUBQ ld+72(FP), R11
	SUBQ ld+72(FP), BX
	SUBQ n+96(FP), SI
	SUBQ n+96(FP), DI
	DECQ CX
	JNE loop
	ADDQ $W, AX
	CMPQ AX, n+96(FP)
	JLT column
	VZEROUPPER
	RET
`},
}

// chunk7Shapes are the Go functions around them; rows that aren't whole blocks of 16 numbers are left to the
// reference.
const chunk7Shapes = `
func prepare7VecISA(c *Chunk7, r, w, k, a, b []float32, ld int) {
	if c.N%16 != 0 {
		prepare7Generic(c, r, w, k, a, b, ld)
		return
	}
	prepare7ISA(&r[0], &w[0], &k[0], &a[0], &b[0], &c.Pow[0], &c.Planes[0], 4*ld, 4*c.Rows*c.N, c.Rows, 4*c.N)
}

func decay7VecISA(d, s, pow, log []float32) {
	n := len(pow)
	if n%16 != 0 {
		decay7Generic(d, s, pow, log)
		return
	}
	decay7ISA(&d[0], &s[0], &pow[0], &log[0], len(d)/n, 4*n)
}

func solve7VecISA(im *impl, x, m []float32, ld, rows, n int, back bool) {
	if n%16 != 0 {
		solve7Parts(im, x, m, ld, rows, n, back)
		return
	}
	if back {
		last := rows - 1
		solve7ISA(&x[last*n], &m[last*ld+last-1], -4*n, -4, -4*ld, rows, 4*n)
		return
	}
	solve7ISA(&x[0], &m[ld], 4*n, 4*ld, 4, rows, 4*n)
}

func finish7VecISA(c *Chunk7, dr, dw, dk, da, db, planes, log []float32, ld int) {
	if c.N%16 != 0 {
		finish7Generic(c, dr, dw, dk, da, db, planes, log, ld)
		return
	}
	last := c.Rows - 1
	at, in := last*ld, last*c.N
	finish7ISA(&dr[at], &dw[at], &dk[at], &da[at], &db[at], &c.Planes[in], &planes[in], &c.Pow[in+c.N], &log[0], 4*ld, 4*c.Rows*c.N, c.Rows, 4*c.N)
}
`
