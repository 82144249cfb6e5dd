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
