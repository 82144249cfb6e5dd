package main

import "fmt"

// vex writes an instruction of AMX, of the opcodes behind 0F 38, with a register in each of the fields.
func (f avxFile) vex(text string, prefix, opcode, reg, v, rm int) {
	f.define(text, "", bytesOf(0xc4, 0xe2, ^v&15<<3|prefix, opcode, 0xc0|reg<<3|rm))
	f.op("%s", text)
}

// integer registers by their numbers
var regNumbers = map[string]int{"AX": 0, "CX": 1, "DX": 2, "BX": 3, "SI": 6, "DI": 7, "R8": 8, "R9": 9, "R10": 10, "R11": 11, "R12": 12}

// tileMemory writes a load or store of a tile whose rows lie stride apart, from base + offset.
func (f avxFile) tileMemory(name string, prefix, tile int, base, stride string, offset int) {
	b, s := regNumbers[base], regNumbers[stride]
	text := fmt.Sprintf("%s_T%d_%s_%s_%d", name, tile, base, stride, offset)
	f.define(text, "", bytesOf(0xc4, 1<<7|(^s>>3&1)<<6|(^b>>3&1)<<5|2, 0x78|prefix, 0x4b,
		0x80|tile<<3|4, s&7<<3|b&7, offset&255, offset>>8&255, offset>>16&255, offset>>24&255))
	f.op("%s", text)
}

func (f avxFile) tileLoad(base, stride string, tile int) {
	f.tileMemory("TILELOADD", prefixF2, tile, base, stride, 0)
}

func (f avxFile) tileStore(tile int, base, stride string, offset int) {
	f.tileMemory("TILESTORED", prefixF3, tile, base, stride, offset)
}

func (f avxFile) tileZero(tile int) {
	f.vex(fmt.Sprintf("TILEZERO_T%d", tile), prefixF2, 0x49, tile, 0, 0)
}

// tileDot adds a·b to acc: [16, 32]·[32, 16], of bfloat16.
func (f avxFile) tileDot(a, b, acc int) {
	f.vex(fmt.Sprintf("TDPBF16PS_T%d_T%d_T%d", b, a, acc), prefixF3, 0x5c, acc, b, a)
}

// amxBF16 returns the file of products of bfloat16 on AMX tiles.
func amxBF16() []byte {
	f := avxFile{newFile(true)}
	f.line(`
// Every tile has 16 rows of 64 bytes.
DATA ·amxConfig<>+0(SB)/8, $1
DATA ·amxConfig<>+8(SB)/8, $0`)
	for i := range 4 {
		f.line("DATA ·amxConfig<>+%d(SB)/8, $%#x", 16+8*i, []uint64{0x0040004000400040, 0}[i/2])
	}
	f.line("DATA ·amxConfig<>+48(SB)/8, $0x1010101010101010\nDATA ·amxConfig<>+56(SB)/8, $0")
	f.line("GLOBL ·amxConfig<>(SB), RODATA|NOPTR, $64")
	f.amxProduct()
	f.amxRound()
	return f.Bytes()
}

// amxProduct writes the product of up to 32 rows of w with rows of x.
func (f avxFile) amxProduct() {
	f.line(`
// func amxProduct(a *amxArgs)
//
// A tile of w as it lies in memory is [16 rows, 32 of k], one of x, from amxRound, [16 pairs of k, 16 rows of
// x]: their product has a row for each row of w, and is transposed on its way to dst.
//
//	for rows of x, 32 at a time {
//		T0..T3 = 0; for a.steps { T0..T3 += w·x; prefetch, in the first turn }
//		a.scratch = T0..T3; dst = their transposes, or dst += them if a.add
//	}
//
// Register map:
//	DI	a                 R15	rows of x left
//	SI, R9	w, rows 0 and 16, at k     R8	ldw
//	R10	x                 R11, BX	its two groups, at k
//	DX	dst               R12	64
//	CX	steps left        R14	what to prefetch, or 0
//	AX	temporary         K1, K2	columns that exist, of each tile
TEXT ·amxProduct(SB), NOSPLIT, $0-8`)
	f.op("MOVQ a+0(FP), DI")
	f.op("LEAQ ·amxConfig<>(SB), AX")
	f.define("LDTILECFG_AX", "", bytesOf(0xc4, 0xe2, 0x78, 0x49, 0x00))
	f.op("LDTILECFG_AX")
	f.op("MOVQ amxArgs_cols(DI), CX")
	f.maskBelow("CX", "AX")
	f.op("MOVQ amxArgs_x(DI), R10")
	f.op("MOVQ amxArgs_dst(DI), DX")
	f.op("MOVQ amxArgs_rows(DI), R15")
	f.op("MOVQ amxArgs_ldw(DI), R8")
	f.op("MOVQ $64, R12")
	f.op("MOVQ amxArgs_fetch(DI), R14")
	f.label("rows")
	f.pair("CMPQ amxArgs_cols(DI), $16", "JLE narrow")
	f.pair("CMPQ R15, $16", "JLE wide1")
	f.amxTiles("wide2", 2, 2)
	f.amxTiles("wide1", 2, 1)
	f.label("narrow")
	f.pair("CMPQ R15, $16", "JLE narrow1")
	f.amxTiles("narrow2", 1, 2)
	f.amxTiles("narrow1", 1, 1)
	f.label("done")
	f.define("TILERELEASE", "", bytesOf(0xc4, 0xe2, 0x78, 0x49, 0xc0))
	f.op("TILERELEASE")
	f.op("VZEROUPPER")
	f.op("RET")
}

// amxTiles writes the block for wide tiles of w and groups groups of rows of x.
func (f avxFile) amxTiles(id string, wide, groups int) {
	f.label("%s", id)
	f.op("MOVQ amxArgs_w(DI), SI")
	f.op("MOVQ R10, R11")
	if wide == 2 {
		f.op("MOVQ R8, R9")
		f.op("SHLQ $4, R9")
		f.op("ADDQ SI, R9")
	}
	if groups == 2 {
		f.op("MOVQ amxArgs_group(DI), BX")
		f.op("ADDQ R10, BX")
	}
	f.op("MOVQ amxArgs_steps(DI), CX")
	for w := range wide {
		for g := range groups {
			f.tileZero(2*w + g)
		}
	}
	f.op("PCALIGN $32")
	f.label("%s_loop", id)
	f.tileLoad("SI", "R8", 4)
	f.tileLoad("R11", "R12", 6)
	f.tileDot(4, 6, 0)
	if groups == 2 {
		f.tileLoad("BX", "R12", 7)
		f.tileDot(4, 7, 1)
	}
	if wide == 2 {
		f.tileLoad("R9", "R8", 5)
		f.tileDot(5, 6, 2)
		if groups == 2 {
			f.tileDot(5, 7, 3)
		}
	}
	f.pair("TESTQ R14, R14", fmt.Sprintf("JZ %s_next", id))
	f.macro(fmt.Sprintf("PREFETCH%d", wide), "", func() {
		for i := range 16 * wide {
			f.op("PREFETCHT1 %d(R14)", 64*i)
		}
		f.op("ADDQ $%d, R14", 1024*wide)
	})
	f.label("%s_next", id)
	f.op("ADDQ $64, SI")
	f.op("ADDQ $64, R9")
	f.op("ADDQ $1024, R11")
	f.op("ADDQ $1024, BX")
	f.pair("DECQ CX", fmt.Sprintf("JNZ %s_loop", id))
	f.op("XORQ R14, R14")

	f.op("MOVQ amxArgs_scratch(DI), SI")
	for w := range wide {
		for g := range groups {
			f.tileStore(2*w+g, "SI", "R12", 1024*(2*w+g))
		}
	}
	f.op("MOVQ amxArgs_ldd(DI), R9")
	for g := range groups {
		for w := range wide {
			part := fmt.Sprintf("%s_%d%d", id, w, g)
			f.macro("LOAD16", "at", func() {
				for i := range 16 {
					f.op("VMOVUPS at+%d(SI), Z%d", 64*i, i)
				}
			}, 1024*(2*w+g))
			f.transpose16()
			f.op("LEAQ %d(DX), AX", 64*w)
			f.op("MOVQ R15, CX")
			f.pair("CMPQ amxArgs_add(DI), $0", fmt.Sprintf("JNE %s_add", part))
			for i := range 16 {
				f.op("VMOVUPS Z%d, K%d, (AX)", i, w+1)
				f.op("ADDQ R9, AX")
				if i < 15 {
					f.pair("DECQ CX", fmt.Sprintf("JZ %s_end", part))
				}
			}
			f.op("JMP %s_end", part)
			f.label("%s_add", part)
			for i := range 16 {
				f.op("VADDPS (AX), Z%d, K%d, Z%d", i, w+1, i)
				f.op("VMOVUPS Z%d, K%d, (AX)", i, w+1)
				f.op("ADDQ R9, AX")
				if i < 15 {
					f.pair("DECQ CX", fmt.Sprintf("JZ %s_end", part))
				}
			}
			f.label("%s_end", part)
		}
		f.op("MOVQ R9, AX")
		f.op("SHLQ $4, AX")
		f.op("ADDQ AX, DX")
		f.op("ADDQ amxArgs_group(DI), R10")
		f.op("SUBQ $16, R15")
	}
	f.op("CMPQ R15, $0")
	f.op("JGT rows")
	f.op("JMP done")
}

// transpose16 transposes 16 rows of 16 numbers of 32 bits, in Z0 to Z15; it uses the other registers.
func (f avxFile) transpose16() {
	f.macro("TRANSPOSE16", "", func() {
		for i := 0; i < 16; i += 2 { // pairs of rows
			f.op("VUNPCKLPS Z%d, Z%d, Z%d", i+1, i, 16+i)
			f.op("VUNPCKHPS Z%d, Z%d, Z%d", i+1, i, 17+i)
		}
		for i := 0; i < 16; i += 4 { // four rows: register i+c has the columns 4l+c in lanes l
			f.op("VUNPCKLPD Z%d, Z%d, Z%d", 18+i, 16+i, i)
			f.op("VUNPCKHPD Z%d, Z%d, Z%d", 18+i, 16+i, i+1)
			f.op("VUNPCKLPD Z%d, Z%d, Z%d", 19+i, 17+i, i+2)
			f.op("VUNPCKHPD Z%d, Z%d, Z%d", 19+i, 17+i, i+3)
		}
		for c := range 4 { // of eight rows, lanes 0 and 2, 1 and 3
			f.op("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 4+c, c, 16+c)
			f.op("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 4+c, c, 20+c)
			f.op("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 12+c, 8+c, 24+c)
			f.op("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 12+c, 8+c, 28+c)
		}
		for c := range 4 {
			f.op("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 24+c, 16+c, c)
			f.op("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 24+c, 16+c, 8+c)
			f.op("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 28+c, 20+c, 4+c)
			f.op("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 28+c, 20+c, 12+c)
		}
	})
}

// amxRound writes what makes tiles of x.
func (f avxFile) amxRound() {
	f.line(`
// func amxRound(dst *byte, x *float32, ldx, rows, k int)
//
// Up to 16 rows of k numbers, ldx bytes apart, become tiles of 16 rows: row p of tile s has the numbers
// 32s+2p and 32s+2p+1 of each row of x. What doesn't exist is zero.
TEXT ·amxRound(SB), NOSPLIT, $0-40`)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ x+8(FP), SI")
	f.op("MOVQ ldx+16(FP), R9")
	f.op("MOVQ rows+24(FP), R8")
	f.op("MOVQ k+32(FP), DX")
	f.label("step")
	f.op("MOVQ DX, CX")
	f.pair("CMPQ CX, $32", "JLE mask")
	f.op("MOVQ $32, CX")
	f.label("mask")
	f.maskBelow("CX", "AX")
	f.zero(avx512, 16)
	f.op("MOVQ SI, AX")
	f.op("MOVQ R8, CX")
	for i := range 16 {
		f.op("VMOVUPS.Z (AX), K1, Z16")
		f.op("VMOVUPS.Z 64(AX), K2, Z17")
		f.roundBF16(16, 17, i)
		f.op("ADDQ R9, AX")
		if i < 15 {
			f.pair("DECQ CX", "JZ transpose")
		}
	}
	f.label("transpose")
	f.transpose16()
	for i := range 16 {
		f.op("VMOVUPS Z%d, %d(DI)", i, 64*i)
	}
	f.op("ADDQ $1024, DI")
	f.op("ADDQ $128, SI")
	f.pair("SUBQ $32, DX", "JGT step")
	f.op("VZEROUPPER")
	f.op("RET")
}
