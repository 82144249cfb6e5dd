package main

import "fmt"

// blocksAVX returns the file of what reads blocks of quantized weights.
func blocksAVX(s isa) []byte {
	f := avxFile{newFile(true)}
	if s.regs == 32 {
		f.ntConstants(s)
	}
	f.rowQ8(s)
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
		f.widenQ8()
		f.widenNibbles("widenSymmetric", false)
		f.widenNibbles("widenAffine", true)
		f.widenK("widenQ4_KBlocks", 144)
		f.widenK("widenQ5_KBlocks", 176)
		f.widenQ6K()
	}
	return f.Bytes()
}

// rowQ8 writes the product of one row of x with rows of Q8_0: the widened numbers, which are exact, take
// the way of float32 weights, with the same bits.
func (f avxFile) rowQ8(s isa) {
	name := "rowQ8_0" + s.name
	f.line(`
// func %s(a *ntArgs)
//
//	for a.tiles {
//		accumulators = 0
//		for a.steps blocks of 32 { accumulators += x·(d·q), a vector of %d numbers after another }
//		dst = sums; w += a.tileW; dst += 4 columns
//	}
//
// Register map:
//	DI	a                 CX	blocks left
//	SI	x, at the block   R12, R13, BX	offsets of rows 1, 2, 3 of w
//	R8	w, at the block   R9	w of the tile
//	DX	dst of the tile   R10	tiles left
TEXT ·%s(SB), NOSPLIT, $0-8`, name, s.lanes, name)
	f.op("MOVQ a+0(FP), DI")
	f.op("MOVQ ntArgs_dst(DI), DX")
	f.op("MOVQ ntArgs_w(DI), R9")
	f.op("MOVQ ntArgs_w1(DI), R12")
	f.op("MOVQ ntArgs_w2(DI), R13")
	f.op("MOVQ ntArgs_w3(DI), BX")
	f.op("MOVQ ntArgs_tiles(DI), R10")
	if s.regs == 32 {
		f.op("MOVL $0xff00, AX")
		f.op("KMOVW AX, K2")
		f.op("MOVL $0xcccc, AX")
		f.op("KMOVW AX, K3")
	}
	f.label("tile")
	f.op("MOVQ R9, R8")
	f.op("MOVQ ntArgs_x(DI), SI")
	f.op("MOVQ ntArgs_steps(DI), CX")
	f.zero(s, tileCols)
	f.op("PCALIGN $32")
	f.label("tile_block")
	for c, row := range []string{"", "(R12*1)", "(R13*1)", "(BX*1)"} {
		f.op("PREFETCHT1 1024(R8)%s", row)
		f.rowQ8Body(s, row, s.v(c))
	}
	f.op("ADDQ $128, SI")
	f.op("ADDQ $34, R8")
	f.pair("DECQ CX", "JNZ tile_block")
	sums := f.ntReduce(s, 1)
	f.op("VMOVUPS %s, (DX)", sums[0])
	f.op("ADDQ $%d, DX", 4*tileCols)
	f.op("ADDQ ntArgs_tileW(DI), R9")
	f.pair("DECQ R10", "JNZ tile")
	f.op("VZEROUPPER")
	f.op("RET")
}

// rowQ8Body adds a block of a row to acc.
func (f avxFile) rowQ8Body(s isa, row, acc string) {
	d, q := s.v(12), s.v(13)
	if s.regs == 32 {
		f.op("VPBROADCASTW (R8)%s, Y12", row)
		f.op("VCVTPH2PS Y12, Z12")
	} else {
		f.op("VPBROADCASTW (R8)%s, X12", row)
		f.op("VCVTPH2PS X12, Y12")
	}
	for i := 0; i < 32; i += s.lanes {
		f.op("VPMOVSXBD %d(R8)%s, %s", 2+i, row, q)
		f.op("VCVTDQ2PS %s, %s", q, q)
		f.op("VMULPS %s, %s, %s", d, q, q)
		f.op("VFMADD231PS %d(SI), %s, %s", 4*i, q, acc)
	}
}

// widenQ8 writes the widening of Q8_0.
func (f avxFile) widenQ8() {
	f.line(`
// func widenQ8_0Blocks(dst *float32, src *byte, blocks int)
TEXT ·widenQ8_0Blocks(SB), NOSPLIT, $0-24`)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ src+8(FP), SI")
	f.op("MOVQ blocks+16(FP), CX")
	f.label("loop")
	f.op("VPBROADCASTW (SI), X0")
	f.op("VCVTPH2PS X0, Y0")
	for i := range 4 {
		q := fmt.Sprintf("Y%d", 1+i)
		f.op("VPMOVSXBD %d(SI), %s", 2+8*i, q)
		f.op("VCVTDQ2PS %s, %s", q, q)
		f.op("VMULPS Y0, %s, %s", q, q)
		f.op("VMOVUPS %s, %d(DI)", q, 32*i)
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
