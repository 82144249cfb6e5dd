package main

import (
	"fmt"
	"strings"
)

// Go's assembler has neither the bfloat16 instructions of AVX-512 nor AMX: they are macros of bytes, which
// name their operands in Go's order, the result last. Intel's manual, volume 2, has the encodings.

// Prefixes of an instruction, as VEX and EVEX write them.
const (
	prefixNone = 0
	prefixF3   = 2
	prefixF2   = 3
)

// bytesOf writes machine code.
func bytesOf(code ...int) string {
	var text []string
	for _, b := range code {
		text = append(text, fmt.Sprintf("BYTE $%#02x", b))
	}
	return strings.Join(text, "; ")
}

// evex writes an instruction of AVX-512 on three Z registers, of the opcodes behind 0F 38:
// dst = op(v, rm).
func (f avxFile) evex(name string, prefix, opcode, rm, v, dst int) {
	not := func(r, bit int) int { return ^r >> bit & 1 }
	f.define(fmt.Sprintf("%s_Z%d_Z%d_Z%d", name, rm, v, dst), "", bytesOf(0x62,
		not(dst, 3)<<7|not(rm, 4)<<6|not(rm, 3)<<5|not(dst, 4)<<4|2,
		^v&15<<3|1<<2|prefix,
		0x40|not(v, 4)<<3,
		opcode, 0xc0|dst&7<<3|rm&7))
	f.op("%s_Z%d_Z%d_Z%d", name, rm, v, dst)
}

// dotBF16 adds to each float32 lane of acc the products of the two bfloat16 that x and w have there.
func (f avxFile) dotBF16(w, x, acc int) { f.evex("VDPBF16PS", prefixF3, 0x52, w, x, acc) }

// roundBF16 rounds the float32 numbers of two registers to bfloat16, those of low to the lower half of dst.
func (f avxFile) roundBF16(low, high, dst int) {
	f.evex("VCVTNE2PS2BF16", prefixF2, 0x72, low, high, dst)
}

// bf16AVX512 returns the file of products of bfloat16 for AVX-512 with VDPBF16PS: ntAVX's tiles, whose
// vectors have pairs of bfloat16 in place of float32, and what rounds to them.
func bf16AVX512() []byte {
	f := avxFile{newFile(true)}
	f.line(`
// Tiles of dot products as those of gemm_nt_avx512_amd64.s, of pairs of bfloat16: steps, tail and tailMask
// count pairs. Lane l sums the products at the pairs k ≡ l (mod 16), of a pair the odd number's first.`)
	f.ntConstants(avx512)
	f.nt(avx512, weight{"Pairs", 4})
	f.line(`
// func roundBF16Vec(dst *uint16, x *float32, n int)
//
// n numbers in whole vectors of 32, zeros behind them.
TEXT ·roundBF16Vec(SB), NOSPLIT, $0-24`)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ x+8(FP), SI")
	f.op("MOVQ n+16(FP), CX")
	f.pair("SUBQ $32, CX", "JLT rest")
	f.label("loop")
	f.op("VMOVUPS (SI), Z0")
	f.op("VMOVUPS 64(SI), Z1")
	f.roundBF16(0, 1, 2)
	f.op("VMOVUPS Z2, (DI)")
	f.op("ADDQ $128, SI")
	f.op("ADDQ $64, DI")
	f.pair("SUBQ $32, CX", "JGE loop")
	f.label("rest")
	f.pair("ADDQ $32, CX", "JZ done")
	f.maskBelow("CX", "AX")
	f.op("VMOVUPS.Z (SI), K1, Z0")
	f.op("VMOVUPS.Z 64(SI), K2, Z1")
	f.roundBF16(0, 1, 2)
	f.op("VMOVUPS Z2, (DI)")
	f.label("done")
	f.op("VZEROUPPER")
	f.op("RET")
	return f.Bytes()
}

// maskBelow enables the first n of 32 numbers in K1, for 0 to 15, and K2; n is CX.
func (f avxFile) maskBelow(n, temp string) {
	f.op("MOVQ $1, %s", temp)
	f.op("SHLQ %s, %s", n, temp)
	f.op("DECQ %s", temp)
	f.op("KMOVW %s, K1", temp)
	f.op("SHRQ $16, %s", temp)
	f.op("KMOVW %s, K2", temp)
}
