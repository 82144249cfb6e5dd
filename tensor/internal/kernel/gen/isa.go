package main

import "fmt"

// isa is what the amd64 text needs to know of an instruction set.
type isa struct {
	name  string // in names of functions
	file  string // in names of files
	reg   string // prefix of its vector registers
	lanes int    // float32 numbers in a register
	regs  int
}

var (
	avx512 = isa{name: "AVX512", file: "avx512", reg: "Z", lanes: 16, regs: 32}
	avx2   = isa{name: "AVX2", file: "avx2", reg: "Y", lanes: 8, regs: 16}
)

// v names vector register i.
func (s isa) v(i int) string { return fmt.Sprintf("%s%d", s.reg, i) }

// xor names the instruction that clears a register.
func (s isa) xor() string {
	if s.regs == 32 {
		return "VPXORD"
	}
	return "VXORPS"
}

// maskable reports whether weights of type w can be loaded behind a mask.
func (s isa) maskable(w weight) bool { return s.regs == 32 || w.size == 4 }

// bytes is the size of a vector register.
func (s isa) bytes() int { return 4 * s.lanes }

// avxFile is a file for amd64.
type avxFile struct{ *asm }

// maskTable writes the masks of AVX2.
func (f avxFile) maskTable(name string) {
	f.line("\n// Masks for VMASKMOVPS: eight ones then eight zeros; n numbers are enabled at 32−4n.")
	for i := range 8 {
		f.op("DATA ·%s<>+%d(SB)/8, $%d", name, 8*i, i/4-1)
	}
	f.op("GLOBL ·%s<>(SB), RODATA|NOPTR, $64", name)
}

// zero clears the first n vector registers.
func (f avxFile) zero(s isa, n int) {
	f.macro(fmt.Sprintf("ZERO%d", n), "", func() {
		for i := range n {
			f.op("%s %s, %s, %s", s.xor(), s.v(i), s.v(i), s.v(i))
		}
	})
}
