package main

import "fmt"

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
