package main

import "fmt"

// What AVX2 and NEON widen of blocks by factors that Go computes: groups of 16 numbers, each a step times a
// number of few bits, less something. How a format keeps the numbers is written once, for a machine that
// works on 16 bytes.

// bytesMachine is an instruction set on vectors of 16 bytes: registers 0 to 7 are the programs', 8 to 15
// hold constants.
type bytesMachine interface {
	load(r, off int)           // 16 bytes of the block
	constant(r int, v byte)    // in all bytes
	levels(r int)              // the values of IQ4_NL's nibbles
	bits(r, from, n, mask int) // r = from >> n & mask, or << −n
	or(r, m int)
	sub(r, m int)
	look(r, table int)           // each byte becomes that one of the table
	fifth(r, off, mask int)      // 16 where a bit is set, from the first of the block's byte off on; else 0
	out(group, r int, less bool) // widens and stores a group, less its second factor if it says so
}

// groupFormat is a format of blocks.
type groupFormat struct {
	name      string
	numbers   int
	amd64     bool // AVX2 widens it so; the others have more of their own
	constants func(m bytesMachine)
	block     func(m bytesMachine)
}

// Registers of constants: masks, what is subtracted, a table.
const (
	mask15 = 8 + iota
	mask3
	maskHigh
	bias
	table
)

func nibbleConstants(high, less byte) func(m bytesMachine) {
	return func(m bytesMachine) {
		m.constant(mask15, 15)
		if high != 0 {
			m.constant(maskHigh, high)
		}
		if less != 0 {
			m.constant(bias, less)
		}
	}
}

// groupFormats are the formats, in the order of dtypes.
var groupFormats = []groupFormat{
	{"Q4_0", 32, false, nibbleConstants(0, 8), func(m bytesMachine) { nibbleGroups(m, 2, -1, true, false) }},
	{"Q4_1", 32, false, nibbleConstants(0, 0), func(m bytesMachine) { nibbleGroups(m, 4, -1, false, true) }},
	{"Q5_0", 32, false, nibbleConstants(16, 16), func(m bytesMachine) { nibbleGroups(m, 6, 2, true, false) }},
	{"Q5_1", 32, false, nibbleConstants(16, 0), func(m bytesMachine) { nibbleGroups(m, 8, 4, false, true) }},
	{"IQ4_NL", 32, true, levelConstants, func(m bytesMachine) { levelGroups(m, 2, 0) }},
	{"IQ4_XS", 256, true, levelConstants, func(m bytesMachine) {
		for j := range 8 {
			levelGroups(m, 8+16*j, 2*j)
		}
	}},
	{"Q2_K", 256, true, func(m bytesMachine) { m.constant(mask3, 3) }, func(m bytesMachine) {
		for i := range 4 { // 16 bytes, of which each has four numbers
			m.load(0, 16+16*i)
			for j := range 4 {
				m.bits(1, 0, 2*j, mask3)
				m.out(i/2*8+2*j+i%2, 1, true)
			}
		}
	}},
	{"Q3_K", 256, true, func(m bytesMachine) {
		m.constant(mask3, 3)
		m.constant(maskHigh, 4)
		m.constant(bias, 4)
	}, func(m bytesMachine) {
		for i := range 4 {
			m.load(0, 32+16*i)
			m.load(2, 16*(i%2))
			for j := range 4 {
				m.bits(1, 0, 2*j, mask3)
				m.bits(3, 2, i/2*4+j-2, maskHigh)
				m.or(1, 3)
				m.sub(1, bias)
				m.out(i/2*8+2*j+i%2, 1, false)
			}
		}
	}},
	{"Q4_K", 256, false, nibbleConstants(0, 0), func(m bytesMachine) {
		for i := range 8 {
			m.load(0, 16+16*i)
			for half := range 2 {
				m.bits(1, 0, 4*half, mask15)
				m.out(i/2*4+2*half+i%2, 1, true)
			}
		}
	}},
	{"Q5_K", 256, false, nibbleConstants(16, 0), func(m bytesMachine) {
		for i := range 8 {
			m.load(0, 48+16*i)
			m.load(2, 16+16*(i%2))
			for half := range 2 {
				m.bits(1, 0, 4*half, mask15)
				m.bits(3, 2, i/2*2+half-4, maskHigh)
				m.or(1, 3)
				m.out(i/2*4+2*half+i%2, 1, true)
			}
		}
	}},
	{"Q6_K", 256, false, nibbleConstants(48, 32), func(m bytesMachine) {
		for i := range 4 { // half n, 16 numbers h of each 32
			n, h := i/2, i%2
			m.load(2, 128+32*n+16*h)
			for low := range 2 {
				m.load(0, 64*n+32*low+16*h)
				for half := range 2 {
					m.bits(1, 0, 4*half, mask15)
					m.bits(3, 2, 2*low+4*half-4, maskHigh)
					m.or(1, 3)
					m.sub(1, bias)
					m.out(8*n+4*half+2*low+h, 1, false)
				}
			}
		}
	}},
}

// nibbleGroups is a block of 32 nibbles at off, with fifth bits at high unless it is below 0.
func nibbleGroups(m bytesMachine, off, high int, less, affine bool) {
	m.load(0, off)
	for half := range 2 {
		m.bits(1, 0, 4*half, mask15)
		if high >= 0 {
			m.fifth(2, high+2*half, maskHigh)
			m.or(1, 2)
		}
		if less {
			m.sub(1, bias)
		}
		m.out(half, 1, affine)
	}
}

func levelConstants(m bytesMachine) {
	m.constant(mask15, 15)
	m.levels(table)
}

// levelGroups is 32 nibbles at off, which stand for levels.
func levelGroups(m bytesMachine, off, group int) {
	m.load(0, off)
	for half := range 2 {
		m.bits(1, 0, 4*half, mask15)
		m.look(1, table)
		m.out(group+half, 1, false)
	}
}

// groupDoc is the comment above a function that widens a block.
func groupDoc(name string) string {
	return fmt.Sprintf(`
// func %s(dst *float32, src *byte, factors *float32)
//
// One block. For each 16 numbers factors has a step and what is subtracted.
TEXT ·%s(SB), NOSPLIT, $0-24`, name, name)
}

// avxBytes is AVX2 as a bytesMachine.
type avxBytes struct{ avxFile }

// groupsAVX writes the functions of the formats that AVX2 widens so.
func (f avxFile) groupsAVX() {
	f.line(`
DATA ·levelsIQ4Bytes<>+0(SB)/8, $0xf6eaddcfbfad9881
DATA ·levelsIQ4Bytes<>+8(SB)/8, $0x7159453526190d01
GLOBL ·levelsIQ4Bytes<>(SB), RODATA|NOPTR, $16`)
	for _, g := range groupFormats {
		if !g.amd64 {
			continue
		}
		f.line("%s", groupDoc("widen"+g.name+"AVX2"))
		f.op("MOVQ dst+0(FP), DI")
		f.op("MOVQ src+8(FP), SI")
		f.op("MOVQ factors+16(FP), DX")
		m := avxBytes{f}
		g.constants(m)
		f.pack(func() { g.block(m) })
		f.op("VZEROUPPER")
		f.op("RET")
	}
}

func (m avxBytes) load(r, off int) { m.op("VMOVDQU %d(SI), X%d", off, r) }
func (m avxBytes) constant(r int, v byte) {
	m.op("MOVL $0x%02x%02x%02x%02x, AX", v, v, v, v)
	m.op("VMOVD AX, X%d", r)
	m.op("VPBROADCASTD X%d, X%d", r, r)
}
func (m avxBytes) levels(r int) { m.op("VMOVDQU ·levelsIQ4Bytes<>(SB), X%d", r) }
func (m avxBytes) bits(r, from, n, mask int) {
	switch {
	case n > 0:
		m.op("VPSRLW $%d, X%d, X%d", n, from, r)
		from = r
	case n < 0:
		m.op("VPSLLW $%d, X%d, X%d", -n, from, r)
		from = r
	}
	m.op("VPAND X%d, X%d, X%d", mask, from, r)
}
func (m avxBytes) or(r, s int)            { m.op("VPOR X%d, X%d, X%d", s, r, r) }
func (m avxBytes) sub(r, s int)           { m.op("VPSUBB X%d, X%d, X%d", s, r, r) }
func (m avxBytes) look(r, table int)      { m.op("VPSHUFB X%d, X%d, X%d", r, table, r) }
func (m avxBytes) fifth(r, off, mask int) { panic("AVX2 has its own function for fifth bits") }
func (m avxBytes) out(group, r int, less bool) {
	m.op("VBROADCASTSS %d(DX), Y6", 8*group)
	if less {
		m.op("VBROADCASTSS %d(DX), Y7", 8*group+4)
	}
	for i := range 2 {
		m.op("VPMOVSXBD X%d, Y%d", r, 4+i)
		if i == 0 {
			m.op("VPSRLDQ $8, X%d, X%d", r, r)
		}
		m.op("VCVTDQ2PS Y%d, Y%d", 4+i, 4+i)
		m.op("VMULPS Y6, Y%d, Y%d", 4+i, 4+i)
		if less {
			m.op("VSUBPS Y7, Y%d, Y%d", 4+i, 4+i)
		}
		m.op("VMOVUPS Y%d, %d(DI)", 4+i, 64*group+32*i)
	}
}

// neonBytes is NEON as a bytesMachine.
type neonBytes struct{ neonFile }

// blocksNEON returns the file of what reads blocks of quantized weights.
func blocksNEON() []byte {
	f := neonFile{newFile(true)}
	f.ntQ8()
	f.line(`
DATA ·levelsIQ4Bytes<>+0(SB)/8, $0xf6eaddcfbfad9881
DATA ·levelsIQ4Bytes<>+8(SB)/8, $0x7159453526190d01
GLOBL ·levelsIQ4Bytes<>(SB), RODATA|NOPTR, $16

DATA ·bitOfByte<>+0(SB)/8, $0x8040201008040201
DATA ·bitOfByte<>+8(SB)/8, $0x8040201008040201
GLOBL ·bitOfByte<>(SB), RODATA|NOPTR, $16`)
	for _, g := range groupFormats {
		f.line("%s", groupDoc("widen"+g.name+"NEON"))
		f.op("MOVD dst+0(FP), R0")
		f.op("MOVD src+8(FP), R1")
		f.op("MOVD factors+16(FP), R2")
		m := neonBytes{f}
		g.constants(m)
		f.op("MOVD $·bitOfByte<>(SB), R3")
		f.op("FMOVQ (R3), F15")
		f.pack(func() { g.block(m) })
		f.op("RET")
	}
	f.line(`
// func widenQ8_0NEON(dst *float32, src *byte, blocks int)
TEXT ·widenQ8_0NEON(SB), NOSPLIT, $0-24`)
	f.op("MOVD dst+0(FP), R0")
	f.op("MOVD src+8(FP), R1")
	f.op("MOVD blocks+16(FP), R2")
	f.label("loop")
	f.pack(func() {
		f.loadHalf(6, 1)
		f.vec("FCVTL", 6, 6, 0)
		for i := range 2 {
			f.op("FMOVQ %d(R1), F0", 2+16*i)
			neonBytes{f}.widen(0, 64*i)
		}
	})
	f.op("ADD $34, R1")
	f.op("ADD $128, R0")
	f.pair("SUBS $1, R2", "BNE loop")
	f.op("RET")
	return f.Bytes()
}

func (m neonBytes) load(r, off int)        { m.op("FMOVQ %d(R1), F%d", off, r) }
func (m neonBytes) constant(r int, v byte) { m.op("VMOVI $%d, V%d.B16", v, r) }
func (m neonBytes) levels(r int) {
	m.op("MOVD $·levelsIQ4Bytes<>(SB), R3")
	m.op("FMOVQ (R3), F%d", r)
}
func (m neonBytes) bits(r, from, n, mask int) {
	switch {
	case n > 0:
		m.op("VUSHR $%d, V%d.B16, V%d.B16", n, from, r)
		from = r
	case n < 0:
		m.op("VSHL $%d, V%d.B16, V%d.B16", -n, from, r)
		from = r
	}
	m.vec("AND", r, from, mask)
}
func (m neonBytes) or(r, s int)       { m.vec("ORR", r, r, s) }
func (m neonBytes) sub(r, s int)      { m.op("VSUB V%d.B16, V%d.B16, V%d.B16", s, r, r) }
func (m neonBytes) look(r, table int) { m.op("VTBL V%d.B16, [V%d.B16], V%d.B16", r, table, r) }
func (m neonBytes) fifth(r, off, mask int) {
	m.op("MOVBU %d(R1), R3", off)
	m.op("VDUP R3, V%d.B16", r)
	m.op("MOVBU %d(R1), R3", off+1)
	m.op("VDUP R3, V7.B16")
	m.op("VMOV V7.D[0], V%d.D[1]", r)
	m.vec("CMTST", r, r, 15)
	m.vec("AND", r, r, mask)
}
func (m neonBytes) out(group, r int, less bool) {
	m.op("FMOVS %d(R2), F6", 8*group)
	if less {
		m.op("FMOVS %d(R2), F7", 8*group+4)
		m.op("VDUP V7.S[0], V7.S4")
	}
	m.widenLess(r, 64*group, less)
}

// widen stores the 16 signed bytes of r, times V6's first number, as float32 off bytes from dst.
func (m neonBytes) widen(r, off int) { m.widenLess(r, off, false) }

// widenLess is widen less V7 if it says so.
func (m neonBytes) widenLess(r, off int, less bool) {
	m.vec("SXTLB", 16, r, 0)
	m.vec("SXTLB2", 17, r, 0)
	for i := range 2 {
		m.vec("SXTLH", 18+2*i, 16+i, 0)
		m.vec("SXTLH2", 19+2*i, 16+i, 0)
	}
	for i := range 4 {
		m.vec("SCVTF", 18+i, 18+i, 0)
		m.element("FMUL", 18+i, 18+i, 6, 0)
	}
	if less {
		for i := range 4 {
			m.vec("FSUB", 18+i, 18+i, 7)
		}
	}
	for i := range 4 {
		m.op("FMOVQ F%d, %d(R0)", 18+i, off+16*i)
	}
}

// ntQ8 writes the product of one row of x with rows of Q8_0.
func (f neonFile) ntQ8() {
	f.line(`
// func ntQ8_0NEON(a *ntArgs)
//
//	for a.tiles, two at a time while there are {
//		accumulators = 0
//		for a.k/32 blocks { accumulators += x·(d·q), four numbers after another }
//		dst = sums, or dst += sums if a.add; w += a.tileW; dst += 4 columns
//	}
//
// Register map: as of gemm_nt_neon_arm64.s for one row of x, but for
//	V8	scale   V9–V14	numbers of a block of w   V15–V22	the same as float32
//	V24–V31	32 numbers of x
TEXT ·ntQ8_0NEON(SB), NOSPLIT, $0-8`)
	f.op("MOVD a+0(FP), R0")
	f.op("MOVD ntArgs_dst(R0), R1")
	f.op("MOVD ntArgs_w(R0), R2")
	f.op("MOVD ntArgs_tiles(R0), R3")
	f.op("MOVD ntArgs_tileW(R0), R4")
	f.op("MOVD ntArgs_ahead(R0), R5")
	f.pair("CMP $2, R3", "BLT tile1")
	for _, wide := range []int{2, 1} {
		id, cols := fmt.Sprintf("tile%d", wide), wide*tileCols
		f.label("%s", id)
		f.op("MOVD ntArgs_x(R0), R19")
		f.op("MOVD R2, R8")
		for c := 1; c < tileCols; c++ {
			f.op("MOVD ntArgs_w%d(R0), R16", c)
			f.op("ADD R16, R2, R%d", 8+c)
		}
		for c := tileCols; c < cols; c++ {
			f.op("ADD R4, R%d, R%d", 8+c-tileCols, 8+c)
		}
		f.zero(cols)
		f.op("MOVD ntArgs_k(R0), R7")
		f.label("%s_block", id)
		for i := 0; i < 8; i += 2 {
			f.op("FLDPQ %d(R19), (F%d, F%d)", 16*i, 24+i, 25+i)
		}
		for c := range cols {
			f.prefetch(8+c, 5, true)
			f.loadHalf(8, 8+c)
			f.vec("FCVTL", 8, 8, 0)
			for i := range 2 {
				f.op("FMOVQ %d(R%d), F%d", 2+16*i, 8+c, 9+i)
			}
			f.macro("WIDEN", "", func() {
				for i := range 2 {
					f.vec("SXTLB", 11+2*i, 9+i, 0)
					f.vec("SXTLB2", 12+2*i, 9+i, 0)
				}
				for i := range 4 {
					f.vec("SXTLH", 15+2*i, 11+i, 0)
					f.vec("SXTLH2", 16+2*i, 11+i, 0)
				}
				for i := range 8 {
					f.vec("SCVTF", 15+i, 15+i, 0)
				}
				for i := range 8 {
					f.element("FMUL", 15+i, 15+i, 8, 0)
				}
			})
			for i := range 8 {
				f.vec("FMLA", c, 15+i, 24+i)
			}
			f.op("ADD $34, R%d", 8+c)
		}
		f.op("ADD $128, R19")
		f.pair("SUBS $32, R7", fmt.Sprintf("BNE %s_block", id))
		for q := range wide {
			f.vec("FADDP", 4*q, 4*q, 4*q+1)
			f.vec("FADDP", 4*q+2, 4*q+2, 4*q+3)
		}
		for q := range wide {
			f.vec("FADDP", 4*q, 4*q, 4*q+2)
		}
		f.pair("MOVD ntArgs_add(R0), R16", fmt.Sprintf("CBZ R16, %s_store", id))
		for q := range wide {
			f.op("FMOVQ %d(R1), F31", 16*q)
			f.vec("FADD", 4*q, 4*q, 31)
		}
		f.label("%s_store", id)
		for q := range wide {
			f.op("FMOVQ F%d, %d(R1)", 4*q, 16*q)
		}
		f.op("ADD $%d, R1", 4*cols)
		for range wide {
			f.op("ADD R4, R2")
		}
		f.op("SUB $%d, R3", wide)
		if wide > 1 {
			f.op("CMP $%d, R3", wide)
			f.op("BGE %s", id)
			f.op("CBZ R3, done")
		} else {
			f.op("CBNZ R3, %s", id)
		}
	}
	f.label("done")
	f.op("RET")
}
