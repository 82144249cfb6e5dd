package main

import "fmt"

// dot writes the products of panels: of step·q − least, or of numbers q−32 with steps for halves.
func (f *q8File) dot(halves bool) {
	name, body := "dotQ8", "acc += d·(step·Σ q·x) − least·dΣx"
	if halves {
		name, body = "dotQ8Halves", "acc += d·(step·Σ (q−32)·x + step·Σ (q−32)·x), a sum for each half"
	}
	name += f.name
	f.line(`
// func %s(a *q8Args)
//
//	acc = 0, or a.acc if a.resume
//	for a.units { %s }
TEXT ·%s(SB), NOSPLIT, $0-8`, name, body, name)
	f.op("MOVQ a+0(FP), DI")
	f.op("MOVQ q8Args_acc(DI), DX")
	f.op("MOVQ q8Args_x(DI), SI")
	f.op("MOVQ q8Args_panel(DI), R8")
	f.op("MOVQ q8Args_ldx(DI), R9")
	f.op("MOVQ q8Args_units(DI), CX")
	f.indexes()
	f.op("MOVQ q8Args_rows(DI), AX")
	rows := f.q8Rows()
	for r := rows; r > 1; r-- {
		f.pair(fmt.Sprintf("CMPQ AX, $%d", r), fmt.Sprintf("JEQ rows%d", r))
	}
	for r := 1; r <= rows; r++ {
		f.dotRows(halves, r)
	}
	f.label("done")
	f.op("VZEROUPPER")
	f.op("RET")
}

// q8Rows is the largest number of rows of x in a tile.
func (f *q8File) q8Rows() int {
	if f.lanes == 16 {
		return 8
	}
	return 4
}

// xRow is the address of what is off bytes from where a row of x is.
func (f *q8File) xRow(r, off int) string { return fmt.Sprintf("%d(SI)%s", off, q8Index[r]) }

// dotRows writes the loop for that many rows of x.
func (f *q8File) dotRows(halves bool, rows int) {
	f.label("rows%d", rows)
	f.zero(f.isa, rows)
	f.pair("CMPQ q8Args_resume(DI), $0", fmt.Sprintf("JEQ rows%d_loop", rows))
	f.eachAcc(rows, func(r int, addr string) { f.op("VMOVUPS %s, %s", addr, f.v(r)) })
	f.op("PCALIGN $32")
	f.label("rows%d_loop", rows)
	f.pack(func() {
		if f.lanes == 16 {
			f.unitVNNI(halves, rows)
		} else {
			f.unitAVX2(halves, rows)
		}
	})
	f.op("ADDQ $48, SI")
	f.op("ADDQ $%d, R8", f.unit())
	f.pair("DECQ CX", fmt.Sprintf("JNZ rows%d_loop", rows))
	f.eachAcc(rows, func(r int, addr string) { f.op("VMOVUPS %s, %s", f.v(r), addr) })
	f.op("JMP done")
}

// eachAcc does do with every row of the sums and its place; it changes AX and BX.
func (f *q8File) eachAcc(rows int, do func(r int, addr string)) {
	f.op("MOVQ DX, AX")
	if rows > 1 {
		f.op("MOVQ q8Args_ldacc(DI), BX")
	}
	for r := range rows {
		if r > 0 {
			f.op("ADDQ BX, AX")
		}
		do(r, "(AX)")
	}
}

// unitVNNI adds 32 numbers of k. The sums of integers begin in registers 8 to 15, those of the second
// halves in 16 to 23; few rows have several, so that no addition waits for the one before it.
func (f *q8File) unitVNNI(halves bool, rows int) {
	parts, chains := 1, max(4/rows, 1)
	if halves {
		parts, chains = 2, max(2/rows, 1)
	}
	sum := func(part, r, chain int) int { return 8 + (part*rows+r)*chains + chain }
	for part := range parts {
		for r := range rows {
			for c := range chains {
				if reg := f.v(sum(part, r, c)); halves && c == 0 {
					f.op("VPBROADCASTD %s, %s", f.xRow(r, 40+4*part), reg)
				} else {
					f.op("VPXORD %s, %s, %s", reg, reg, reg)
				}
			}
		}
		for d := 8 / parts * part; d < 8/parts*(part+1); d++ {
			f.op("VMOVUPS %d(R8), Z%d", d*f.bytes(), 30+d%2)
			for r := range rows {
				f.op("VPDPBUSD.BCST %s, Z%d, %s", f.xRow(r, 4*d), 30+d%2, f.v(sum(part, r, d%chains)))
			}
		}
	}
	for part := range parts {
		for r := range rows {
			for step := chains / 2; step > 0; step /= 2 {
				for c := range step {
					f.op("VPADDD %s, %s, %s", f.v(sum(part, r, c+step)), f.v(sum(part, r, c)), f.v(sum(part, r, c)))
				}
			}
			f.op("VCVTDQ2PS %s, %s", f.v(sum(part, r, 0)), f.v(sum(part, r, 0)))
		}
	}
	f.op("VMOVUPS %d(R8), Z30", 8*f.bytes())
	f.op("VMOVUPS %d(R8), Z31", 9*f.bytes())
	for r := range rows {
		f.op("VMULPS Z30, %s, %s", f.v(sum(0, r, 0)), f.v(sum(0, r, 0)))
		if halves {
			f.op("VFMADD231PS Z31, %s, %s", f.v(sum(1, r, 0)), f.v(sum(0, r, 0)))
		}
	}
	for r := range rows {
		f.op("VFMADD231PS.BCST %s, %s, %s", f.xRow(r, 32), f.v(sum(0, r, 0)), f.v(r))
	}
	if !halves {
		for r := range rows {
			f.op("VFNMADD231PS.BCST %s, Z31, %s", f.xRow(r, 36), f.v(r))
		}
	}
}

// unitAVX2 adds 32 numbers of k. Products of pairs are sums of 16 bits: 63·127·2 fits, twice too, and
// 31·127·2 eight times. Registers 4 to 7 are what the first 16 numbers of a row came to.
func (f *q8File) unitAVX2(halves bool, rows int) {
	for part := range 2 {
		for d := range 4 {
			f.op("VMOVDQU %d(R8), Y%d", (4*part+d)*f.bytes(), 8+d)
		}
		for r := range rows {
			for d := range 4 {
				f.op("VPBROADCASTD %s, Y%d", f.xRow(r, 16*part+4*d), 12+d)
			}
			for d := range 4 {
				f.op("VPMADDUBSW Y%d, Y%d, Y%d", 12+d, 8+d, 12+d)
			}
			f.op("VPADDW Y13, Y12, Y12")
			f.op("VPADDW Y15, Y14, Y14")
			first := fmt.Sprintf("Y%d", 4+r)
			if halves {
				f.op("VPMADDWD ·q8Ones<>(SB), Y12, Y12")
				f.op("VPMADDWD ·q8Ones<>(SB), Y14, Y14")
				f.op("VPBROADCASTD %s, Y13", f.xRow(r, 40+4*part))
				f.op("VPADDD Y14, Y12, Y12")
				f.op("VPADDD Y13, Y12, Y12")
				f.op("VCVTDQ2PS Y12, Y12")
				if part == 0 {
					f.op("VMULPS %d(R8), Y12, %s", 8*f.bytes(), first)
					continue
				}
				f.op("VFMADD231PS %d(R8), Y12, %s", 9*f.bytes(), first)
				f.op("VBROADCASTSS %s, Y13", f.xRow(r, 32))
				f.op("VFMADD231PS Y13, %s, Y%d", first, r)
				continue
			}
			f.op("VPADDW Y14, Y12, Y12")
			if part == 0 {
				f.op("VPMADDWD ·q8Ones<>(SB), Y12, %s", first)
				continue
			}
			f.op("VPMADDWD ·q8Ones<>(SB), Y12, Y12")
			f.op("VBROADCASTSS %s, Y13", f.xRow(r, 32))
			f.op("VBROADCASTSS %s, Y14", f.xRow(r, 36))
			f.op("VPADDD %s, Y12, Y12", first)
			f.op("VCVTDQ2PS Y12, Y12")
			f.op("VMULPS %d(R8), Y12, Y12", 8*f.bytes())
			f.op("VFMADD231PS Y13, Y12, Y%d", r)
			f.op("VFNMADD231PS %d(R8), Y14, Y%d", 9*f.bytes(), r)
		}
	}
}

// round writes the rounding of a row of x; kernel's roundQ8Generic is the same in Go.
func (f *q8File) round() {
	f.line(`
// func roundQ8AVX2(dst *byte, x *float32, units int)
//
// The largest size is found on bit patterns, of which those of Inf and NaN are above all others.
TEXT ·roundQ8AVX2(SB), NOSPLIT, $0-24`)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ x+8(FP), SI")
	f.op("MOVQ units+16(FP), CX")
	f.op("VPBROADCASTD ·q8Const<>+20(SB), Y12")
	f.op("VPBROADCASTD ·q8Const<>+24(SB), Y13")
	f.op("VPBROADCASTD ·q8Const<>+28(SB), Y14")
	f.op("VPBROADCASTD ·q8Const<>+32(SB), Y15")
	f.op("VMOVDQU ·q8Order<>(SB), Y11")
	f.label("loop")
	for i := range 4 {
		f.op("VMOVUPS %d(SI), Y%d", 32*i, i)
	}
	for i := range 4 {
		f.op("VPAND Y13, Y%d, Y%d", i, 4+i)
	}
	f.op("VPMAXSD Y5, Y4, Y4")
	f.op("VPMAXSD Y7, Y6, Y6")
	f.op("VPMAXSD Y6, Y4, Y4")
	f.op("VEXTRACTI128 $1, Y4, X5")
	f.op("VPMAXSD X5, X4, X4")
	f.op("VPSHUFD $0x4e, X4, X5")
	f.op("VPMAXSD X5, X4, X4")
	f.op("VPSHUFD $0xb1, X4, X5")
	f.op("VPMAXSD X5, X4, X4")
	f.op("VPBROADCASTD X4, Y4")
	f.op("VDIVPS Y12, Y4, Y5") // d
	f.op("VDIVPS Y4, Y12, Y6") // its inverse
	f.op("VPCMPGTD Y14, Y4, Y7")
	f.op("VPAND Y7, Y5, Y5")
	f.op("VPAND Y7, Y6, Y6")
	f.op("VPCMPGTD Y15, Y4, Y7")
	f.op("VPOR Y7, Y5, Y5") // NaN
	f.op("VPANDN Y6, Y7, Y6")
	for i := range 4 {
		// Where the inverse is 0 all become 0: NaN and Inf too, which 0 times them isn't.
		f.op("VMULPS Y6, Y%d, Y%d", i, i)
		f.op("VCVTPS2DQ Y%d, Y%d", i, i)
		f.op("VPANDN Y%d, Y7, Y%d", i, i)
	}
	f.op("VPADDD Y1, Y0, Y8")
	f.op("VPADDD Y3, Y2, Y9")
	f.op("VPHADDD Y9, Y8, Y8")
	f.op("VEXTRACTI128 $1, Y8, X9")
	f.op("VPADDD X9, X8, X8")
	f.op("VPHADDD X8, X8, X8")
	f.op("VPHADDD X8, X8, X9") // the sum of both halves
	f.op("VCVTDQ2PS X9, X9")
	f.op("VMULPS X5, X9, X9")
	f.op("VPXOR X10, X10, X10")
	f.op("VPSLLD $5, X8, X8")
	f.op("VPSUBD X8, X10, X10")
	f.op("VPACKSSDW Y1, Y0, Y0")
	f.op("VPACKSSDW Y3, Y2, Y2")
	f.op("VPACKSSWB Y2, Y0, Y0")
	f.op("VPERMD Y0, Y11, Y0")
	f.op("VMOVDQU Y0, (DI)")
	f.op("VMOVSS X5, 32(DI)")
	f.op("VMOVSS X9, 36(DI)")
	f.op("VMOVQ X10, 40(DI)")
	f.op("ADDQ $128, SI")
	f.op("ADDQ $48, DI")
	f.pair("DECQ CX", "JNZ loop")
	f.op("VZEROUPPER")
	f.op("RET")
}
