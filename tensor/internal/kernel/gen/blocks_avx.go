package main

import "fmt"

// blocksAVX returns the file of what reads blocks of quantized weights.
func blocksAVX(s isa) []byte {
	f := avxFile{newFile(true)}
	if s.regs == 32 {
		f.ntConstants(s)
	}
	f.ntQ8(s)
	f.widenQ8(s)
	if s.regs == 16 { // AVX-512 uses these too
		f.line(`
// The low four bits of each number, and the lower two, what is taken from those of Q6_K, one bit, and where
// the fifth bits of eight numbers are.
DATA ·blockConst<>+0(SB)/4, $15
DATA ·blockConst<>+4(SB)/4, $3
DATA ·blockConst<>+8(SB)/4, $32
DATA ·blockConst<>+12(SB)/4, $1
DATA ·blockConst<>+16(SB)/8, $0x0000000100000000
DATA ·blockConst<>+24(SB)/8, $0x0000000300000002
DATA ·blockConst<>+32(SB)/8, $0x0000000500000004
DATA ·blockConst<>+40(SB)/8, $0x0000000700000006
GLOBL ·blockConst<>(SB), RODATA|NOPTR, $48`)
		f.widenNibbles("widenSymmetric", false)
		f.widenNibbles("widenAffine", true)
		f.widenK("widenQ4_KBlocks", 144)
		f.widenK("widenQ5_KBlocks", 176)
		f.widenQ6K()
		f.groupsAVX()
	}
	return f.Bytes()
}

// ntQ8 writes the product of few rows of x with rows of Q8_0: the widened numbers, which are exact, take the
// way of float32 weights, with the same bits.
func (f avxFile) ntQ8(s isa) {
	name := "ntQ8_0" + s.name
	f.line(`
// func %s(a *ntArgs)
//
//	for a.tiles {
//		accumulators = 0
//		for a.steps blocks of 32 { accumulators += x·(d·q), a vector of %d numbers after another }
//		dst = sums, or dst += sums if a.add; w += a.tileW; dst += 4 columns
//	}
//
// and with a.wide it leaves the widened rows there, a.ldwide after one another, if a has %d rows or more.
//
// Register map:
//	DI	a                 CX	blocks left
//	SI	x, at the block   R9, R10, R11	ldx, 3·ldx, 5·ldx
//	R8	w, at the block   R12, R13, BX	offsets of rows 1, 2, 3 of w
//	DX	dst of the tile   R14	what is prefetched, a.fetchStep after w
//	AX, R15	temporaries
// and on the stack the scales of the four rows, w, the tiles left and where widened rows go.
TEXT ·%s(SB), NOSPLIT, $48-8`, name, s.lanes, q8WideRows, name)
	f.op("MOVQ a+0(FP), DI")
	f.op("MOVQ ntArgs_dst(DI), DX")
	f.op("MOVQ ntArgs_ldx(DI), R9")
	f.op("LEAQ (R9)(R9*2), R10")
	f.op("LEAQ (R9)(R9*4), R11")
	f.op("MOVQ ntArgs_w1(DI), R12")
	f.op("MOVQ ntArgs_w2(DI), R13")
	f.op("MOVQ ntArgs_w3(DI), BX")
	f.op("MOVQ ntArgs_w(DI), AX")
	f.op("MOVQ AX, w-24(SP)")
	f.op("MOVQ ntArgs_tiles(DI), AX")
	f.op("MOVQ AX, tiles-32(SP)")
	if s.regs == 32 {
		f.op("MOVL $0xff00, AX")
		f.op("KMOVW AX, K2")
		f.op("MOVL $0xcccc, AX")
		f.op("KMOVW AX, K3")
	}
	f.op("MOVQ ntArgs_wide(DI), AX")
	f.op("MOVQ AX, wideTile-48(SP)")
	f.op("MOVQ ntArgs_rows(DI), AX")
	if s.regs == 32 {
		f.pair("CMPQ ntArgs_wide(DI), $0", "JEQ few")
		for r := s.ntRows(); r >= q8WideRows; r-- {
			f.pair(fmt.Sprintf("CMPQ AX, $%d", r), fmt.Sprintf("JEQ wide%d", r))
		}
		f.label("few")
	}
	for r := s.ntRows(); r > 1; r-- {
		f.pair(fmt.Sprintf("CMPQ AX, $%d", r), fmt.Sprintf("JEQ rows%d", r))
	}
	for r := 1; r <= s.ntRows(); r++ {
		f.ntQ8Rows(s, r, false)
	}
	if s.regs == 32 {
		for r := q8WideRows; r <= s.ntRows(); r++ {
			f.ntQ8Rows(s, r, true)
		}
	}
	f.label("done")
	f.op("VZEROUPPER")
	f.op("RET")
}

// q8WideRows is the least number of rows of x of a tile that leaves its widened rows of w.
const q8WideRows = 4

// ntQ8Rows writes the block that computes tiles of rows rows, and leaves the widened rows of w if wide.
func (f avxFile) ntQ8Rows(s isa, rows int, wide bool) {
	id := fmt.Sprintf("rows%d", rows)
	if wide {
		id = fmt.Sprintf("wide%d", rows)
	}
	f.label("%s", id)
	if wide {
		f.op("MOVQ wideTile-48(SP), AX")
		f.op("MOVQ AX, wide-40(SP)")
	}
	f.op("MOVQ w-24(SP), R8")
	f.op("MOVQ ntArgs_fetchStep(DI), R14")
	f.op("ADDQ R8, R14")
	f.op("MOVQ ntArgs_x(DI), SI")
	f.op("MOVQ ntArgs_steps(DI), CX")
	f.zero(s, rows*tileCols)
	f.op("PCALIGN $32")
	f.label("%s_block", id)
	f.macro("SCALES", "", func() { // in general registers: shuffles are what a core has fewest units for
		f.op("MOVWLZX (R8), AX")
		for c, row := range []string{"(R12*1)", "(R13*1)", "(BX*1)"} {
			f.op("MOVWLZX (R8)%s, R15", row)
			f.op("SHLQ $%d, R15", 16*(c+1))
			f.op("ORQ R15, AX")
		}
		f.op("VMOVQ AX, X%d", s.regs-1)
		f.op("VCVTPH2PS X%d, X%d", s.regs-1, s.regs-1)
		f.op("VMOVUPS X%d, scales-16(SP)", s.regs-1)
		for _, row := range []string{"", "(R12*1)", "(R13*1)", "(BX*1)"} {
			f.op("PREFETCHT0 (R14)%s", row)
		}
	})
	f.pack(func() {
		if s.regs == 16 || rows == 1 {
			f.ntQ8Columns(s, rows)
			return
		}
		for i := 0; i < 32; i += s.lanes {
			f.ntQ8Step(s, rows, i, wide)
		}
	})
	if wide {
		f.op("ADDQ $128, wide-40(SP)")
	}
	f.op("ADDQ $128, SI")
	f.op("ADDQ $34, R8")
	f.op("ADDQ $34, R14")
	f.pair("DECQ CX", fmt.Sprintf("JNZ %s_block", id))
	var sums []string
	f.macro(fmt.Sprintf("REDUCE%d", rows), "", func() { sums = f.ntReduce(s, rows, tileCols) })
	f.pair("CMPQ ntArgs_add(DI), $0", fmt.Sprintf("JEQ %s_store", id))
	f.ntEachSum(sums, func(sum, addr string) { f.op("VADDPS %s, %s, %s", addr, sum, sum) })
	f.label("%s_store", id)
	f.ntEachSum(sums, func(sum, addr string) { f.op("VMOVUPS %s, %s", sum, addr) })
	f.op("ADDQ $%d, DX", 4*tileCols)
	f.op("MOVQ ntArgs_tileW(DI), AX")
	f.op("ADDQ AX, w-24(SP)")
	if wide {
		f.op("MOVQ ntArgs_ldwide(DI), AX")
		f.op("SHLQ $2, AX")
		f.op("ADDQ AX, wideTile-48(SP)")
	}
	f.pair("DECQ tiles-32(SP)", fmt.Sprintf("JNZ %s", id))
	f.op("JMP done")
}

// q8XRows and q8WRows are where the rows of x and of w in a tile are.
var q8XRows = []string{"", "(R9*1)", "(R9*2)", "(R10*1)", "(R9*4)", "(R11*1)"}
var q8WRows = []string{"", "(R12*1)", "(R13*1)", "(BX*1)"}

// ntQ8Step adds 16 numbers of k, i after the block's first, of AVX-512.
func (f avxFile) ntQ8Step(s isa, rows, i int, wide bool) {
	f.macro("WIDEN4", "w", func() {
		for c, row := range q8WRows {
			f.op("VPMOVSXBD w(R8)%s, Z%d", row, 24+c)
		}
		for c := range q8WRows {
			f.op("VCVTDQ2PS Z%d, Z%d", 24+c, 24+c)
		}
		for c := range q8WRows {
			f.op("VMULPS.BCST scales-%d(SP), Z%d, Z%d", 16-4*c, 24+c, 24+c)
		}
	}, 2+i)
	if wide {
		f.macro("KEEP4", "at", func() {
			f.op("MOVQ wide-40(SP), AX")
			f.op("MOVQ ntArgs_ldwide(DI), R15")
			for c, row := range []string{"", "(R15*1)", "(R15*2)"} {
				f.op("VMOVUPS Z%d, at(AX)%s", 24+c, row)
			}
			f.op("ADDQ R15, AX")
			f.op("VMOVUPS Z27, at(AX)(R15*2)")
		}, 4*i)
	}
	for r := range rows {
		f.op("VMOVUPS %d(SI)%s, Z%d", 4*i, q8XRows[r], 28+r%3)
		for c := range q8WRows {
			f.op("VFMADD231PS Z%d, Z%d, %s", 24+c, 28+r%3, s.v(r*tileCols+c))
		}
	}
}

// ntQ8Columns adds a block of a column after another.
func (f avxFile) ntQ8Columns(s isa, rows int) {
	for c, row := range q8WRows {
		d := s.v(15)
		if s.regs == 16 {
			f.op("VBROADCASTSS scales-%d(SP), %s", 16-4*c, d)
		}
		for i := 0; i < 32; i += s.lanes {
			w := s.v(12 + i/s.lanes%3)
			f.op("VPMOVSXBD %d(R8)%s, %s", 2+i, row, w)
			f.op("VCVTDQ2PS %s, %s", w, w)
			if s.regs == 16 {
				f.op("VMULPS %s, %s, %s", d, w, w)
			} else {
				f.op("VMULPS.BCST scales-%d(SP), %s, %s", 16-4*c, w, w)
			}
			for r := range rows {
				f.op("VFMADD231PS %d(SI)%s, %s, %s", 4*i, q8XRows[r], w, s.v(r*tileCols+c))
			}
		}
	}
}

// widenQ8 writes the widening of Q8_0.
func (f avxFile) widenQ8(s isa) {
	name := "widenQ8_0" + s.name
	f.line(`
// func %s(dst *float32, src *byte, blocks int)
TEXT ·%s(SB), NOSPLIT, $0-24`, name, name)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ src+8(FP), SI")
	f.op("MOVQ blocks+16(FP), CX")
	f.label("loop")
	half := map[int]string{16: "Y0", 8: "X0"}[s.lanes]
	f.op("VPBROADCASTW (SI), %s", half)
	f.op("VCVTPH2PS %s, %s", half, s.v(0))
	for i := range 32 / s.lanes {
		q := s.v(1 + i)
		f.op("VPMOVSXBD %d(SI), %s", 2+s.lanes*i, q)
		f.op("VCVTDQ2PS %s, %s", q, q)
		f.op("VMULPS %s, %s, %s", s.v(0), q, q)
		f.op("VMOVUPS %s, %d(DI)", q, s.bytes()*i)
	}
	f.op("ADDQ $34, SI")
	f.op("ADDQ $128, DI")
	f.pair("DECQ CX", "JNZ loop")
	f.op("VZEROUPPER")
	f.op("RET")
}

// widenNibbles writes the widening of a block of 32 numbers of four bits, and fifth ones elsewhere.
func (f avxFile) widenNibbles(name string, affine bool) {
	add := ""
	if affine {
		add = " + add"
	}
	f.line(`
// func %s(dst *float32, src *byte, p *nibbles)
//
// Each number q, of src and with a bit of p.high, becomes p.step·(q − p.bias)%s.
TEXT ·%s(SB), NOSPLIT, $0-24`, name, add, name)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ src+8(FP), SI")
	f.op("MOVQ p+16(FP), DX")
	f.op("VBROADCASTSS nibbles_step(DX), Y0")
	f.op("VPBROADCASTD nibbles_bias(DX), Y1")
	if affine {
		f.op("VBROADCASTSS nibbles_add(DX), Y2")
	}
	f.op("VPBROADCASTD nibbles_high(DX), Y3")
	f.op("VPBROADCASTD ·blockConst<>+0(SB), Y15")
	f.op("VPBROADCASTD ·blockConst<>+12(SB), Y14")
	f.op("VMOVUPS ·blockConst<>+16(SB), Y13")
	f.op("VPSRLVD Y13, Y3, Y3")
	for i := range 4 { // eight numbers in the order of the block
		f.op("VPMOVZXBD %d(SI), Y4", i%2*8)
		if i < 2 {
			f.op("VPAND Y15, Y4, Y4")
		} else {
			f.op("VPSRLD $4, Y4, Y4")
		}
		f.op("VPSRLD $%d, Y3, Y5", 8*i)
		f.op("VPAND Y14, Y5, Y5")
		f.op("VPSLLD $4, Y5, Y5")
		f.op("VPOR Y5, Y4, Y4")
		f.op("VPSUBD Y1, Y4, Y4")
		f.op("VCVTDQ2PS Y4, Y4")
		f.op("VMULPS Y0, Y4, Y4")
		if affine {
			f.op("VADDPS Y2, Y4, Y4")
		}
		f.op("VMOVUPS Y4, %d(DI)", 32*i)
	}
	f.op("VZEROUPPER")
	f.op("RET")
}

// widenK writes the widening of Q4_K or Q5_K.
func (f avxFile) widenK(name string, size int) {
	f.line(`
// func %s(dst *float32, src *byte, blocks int)
//
// On the stack are step and minimum of the block's eight sub-blocks, of which kernel's scaleK tells how they
// are packed.
TEXT ·%s(SB), NOSPLIT, $64-24`, name, name)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ src+8(FP), SI")
	f.op("MOVQ blocks+16(FP), CX")
	f.op("VPBROADCASTD ·blockConst<>+0(SB), Y15")
	f.op("VPBROADCASTD ·blockConst<>+12(SB), Y14")
	f.label("loop")
	f.op("MOVL 4(SI), AX")
	f.op("MOVL 8(SI), BX")
	f.op("MOVL 12(SI), R8")
	f.op("MOVL R8, R10")
	f.op("SHRL $4, R8")
	for _, r := range [][2]string{{"AX", "R10"}, {"BX", "R8"}} { // six bits each: of four bytes, then of parts
		f.op("MOVL %s, R9", r[0])
		f.op("ANDL $0x3f3f3f3f, R9")
		f.op("SHRL $6, %s", r[0])
		f.op("ANDL $0x03030303, %s", r[0])
		f.op("SHLL $4, %s", r[0])
		f.op("ANDL $0x0f0f0f0f, %s", r[1])
		f.op("ORL %s, %s", r[1], r[0])
		f.op("SHLQ $32, %s", r[0])
		f.op("ORQ R9, %s", r[0])
	}
	for i, r := range []string{"AX", "BX"} {
		f.op("VPBROADCASTW %d(SI), X%d", 2*i, i)
		f.op("VCVTPH2PS X%d, Y%d", i, i)
		f.op("VMOVQ %s, X%d", r, 2+i)
		f.op("VPMOVZXBD X%d, Y%d", 2+i, 2+i)
		f.op("VCVTDQ2PS Y%d, Y%d", 2+i, 2+i)
		f.op("VMULPS Y%d, Y%d, Y%d", i, 2+i, 2+i)
		f.op("VMOVUPS Y%d, scales-%d(SP)", 2+i, 64-32*i)
	}
	for j := range 8 {
		f.op("VBROADCASTSS scales-%d(SP), Y%d", 64-4*j, j%2)
		f.op("VBROADCASTSS scales-%d(SP), Y%d", 32-4*j, 2+j%2)
		if j%2 == 0 && name == "widenQ4_KBlocks" {
			continue // two sub-blocks share their bytes
		}
		for g := range 4 {
			f.widenKGroup(name, j, g)
		}
	}
	f.op("ADDQ $%d, SI", size)
	f.op("ADDQ $1024, DI")
	f.pair("DECQ CX", "JNZ loop")
	f.op("VZEROUPPER")
	f.op("RET")
}

// widenKGroup widens eight numbers of sub-block j, of Q4_K also those of the one before that are in the same
// bytes.
func (f avxFile) widenKGroup(name string, j, g int) {
	finish := func(j int, q string) {
		f.op("VCVTDQ2PS %s, %s", q, q)
		f.op("VMULPS Y%d, %s, %s", j%2, q, q)
		f.op("VSUBPS Y%d, %s, %s", 2+j%2, q, q)
		f.op("VMOVUPS %s, %d(DI)", q, 128*j+32*g)
	}
	if name == "widenQ4_KBlocks" {
		f.op("VPMOVZXBD %d(SI), Y4", 16+j/2*32+8*g)
		f.op("VPSRLD $4, Y4, Y5")
		f.op("VPAND Y15, Y4, Y4")
		finish(j-1, "Y4")
		finish(j, "Y5")
		return
	}
	f.op("VPMOVZXBD %d(SI), Y4", 48+j/2*32+8*g)
	if j%2 == 0 {
		f.op("VPAND Y15, Y4, Y4")
	} else {
		f.op("VPSRLD $4, Y4, Y4")
	}
	f.op("VPMOVZXBD %d(SI), Y5", 16+8*g)
	f.op("VPSRLD $%d, Y5, Y5", j)
	f.op("VPAND Y14, Y5, Y5")
	f.op("VPSLLD $4, Y5, Y5")
	f.op("VPOR Y5, Y4, Y4")
	finish(j, "Y4")
}

// widenQ6K writes the widening of Q6_K.
func (f avxFile) widenQ6K() {
	f.line(`
// func widenQ6_KBlocks(dst *float32, src *byte, blocks int)
//
// On the stack are the steps of the block's sixteen sub-blocks.
TEXT ·widenQ6_KBlocks(SB), NOSPLIT, $64-24`)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ src+8(FP), SI")
	f.op("MOVQ blocks+16(FP), CX")
	f.op("VPBROADCASTD ·blockConst<>+0(SB), Y15")
	f.op("VPBROADCASTD ·blockConst<>+4(SB), Y14")
	f.op("VPBROADCASTD ·blockConst<>+8(SB), Y13")
	f.label("loop")
	f.op("VPBROADCASTW 208(SI), X0")
	f.op("VCVTPH2PS X0, Y0")
	for i := range 2 {
		f.op("VPMOVSXBD %d(SI), Y1", 192+8*i)
		f.op("VCVTDQ2PS Y1, Y1")
		f.op("VMULPS Y0, Y1, Y1")
		f.op("VMOVUPS Y1, scales-%d(SP)", 64-32*i)
	}
	for i := range 8 { // two halves of four times 32 numbers
		n, k := i/4, i%4
		for g := range 4 {
			f.op("VPMOVZXBD %d(SI), Y0", 64*n+32*(k&1)+8*g)
			f.op("VPMOVZXBD %d(SI), Y1", 128+32*n+8*g)
			if k >= 2 {
				f.op("VPSRLD $4, Y0, Y0")
			} else {
				f.op("VPAND Y15, Y0, Y0")
			}
			if k > 0 {
				f.op("VPSRLD $%d, Y1, Y1", 2*k)
			}
			f.op("VPAND Y14, Y1, Y1")
			f.op("VPSLLD $4, Y1, Y1")
			f.op("VPOR Y1, Y0, Y0")
			f.op("VPSUBD Y13, Y0, Y0")
			f.op("VCVTDQ2PS Y0, Y0")
			if g%2 == 0 {
				f.op("VBROADCASTSS scales-%d(SP), Y2", 64-4*(8*n+2*k+g/2))
			}
			f.op("VMULPS Y2, Y0, Y0")
			f.op("VMOVUPS Y0, %d(DI)", 128*i+32*g)
		}
	}
	f.op("ADDQ $210, SI")
	f.op("ADDQ $1024, DI")
	f.pair("DECQ CX", "JNZ loop")
	f.op("VZEROUPPER")
	f.op("RET")
}
