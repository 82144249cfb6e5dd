package main

import (
	"fmt"
	"log"
	"strings"
)

// form is what an instruction's operands are.
type form int

const (
	three    form = iota // Vd.4S, Vn.4S, Vm.4S
	two                  // Vd.4S, Vn.4S
	shift                // Vd.4S, Vn.4S, #n: to the right
	widen                // Vd.4S, Vn.4H
	widenTop             // Vd.4S, Vn.8H
	across               // Sd, Vn.4S
)

// words are the instructions that Go's assembler lacks, without their operands (Arm ARM, C7.2).
var words = map[string]struct {
	base uint32
	form form
}{
	"FADD":   {0x4e20d400, three},
	"FSUB":   {0x4ea0d400, three},
	"FMUL":   {0x6e20dc00, three},
	"FDIV":   {0x6e20fc00, three},
	"FMAX":   {0x4e20f400, three},
	"FMIN":   {0x4ea0f400, three},
	"FADDP":  {0x6e20d400, three}, // sums of neighbours: Vn's, then Vm's
	"FCMGT":  {0x6ea0e400, three},
	"FABS":   {0x4ea0f800, two},
	"FRINTN": {0x4e218800, two}, // to the nearest integer, ties to even
	"FCVTNS": {0x4e21a800, two}, // the same, to an int32
	"SSHR":   {0x4f000400, shift},
	"SHLL":   {0x2e613800, widen}, // by 16 bits: bfloat16 to float32
	"SHLL2":  {0x6e613800, widenTop},
	"FCVTL":  {0x0e217800, widen}, // half precision to float32
	"FCVTL2": {0x4e217800, widenTop},
	"FMAXV":  {0x6e30f800, across},
}

// elements are the instructions with one element as a factor of all: Vd.4S, Vn.4S, Vm.S[i].
var elements = map[string]uint32{
	"FMLA": 0x4f801000,
	"FMLS": 0x4f805000,
}

// known are the instructions that Go's assembler has, by its names; it writes the destination last.
var known = map[string]string{
	"FMLA": "VFMLA V%[3]d.S4, V%[2]d.S4, V%[1]d.S4",
	"FMLS": "VFMLS V%[3]d.S4, V%[2]d.S4, V%[1]d.S4",
	"ADD":  "VADD V%[3]d.S4, V%[2]d.S4, V%[1]d.S4",
	"SUB":  "VSUB V%[3]d.S4, V%[2]d.S4, V%[1]d.S4",
	"AND":  "VAND V%[3]d.B16, V%[2]d.B16, V%[1]d.B16",
	"ORR":  "VORR V%[3]d.B16, V%[2]d.B16, V%[1]d.B16",
	"BSL":  "VBSL V%[3]d.B16, V%[2]d.B16, V%[1]d.B16", // where d has ones n, else m
	"MOV":  "VMOV V%[2]d.B16, V%[1]d.B16",
	"LOW":  "FMOVS F%[2]d, F%[1]d", // the lowest lane, zeros above it
	"SHL":  "VSHL $%[3]d, V%[2]d.S4, V%[1]d.S4",
}

// word writes an instruction that the assembler doesn't know.
func (f *asm) word(w uint32, format string, args ...any) {
	f.op("WORD $0x%08x // %s", w, fmt.Sprintf(format, args...))
}

// vec writes an instruction on four lanes by its name in Arm's manual: d is the destination, n
// and m are registers, or m is a number of bits.
func (f *asm) vec(op string, d, n, m int) {
	if format, ok := known[op]; ok {
		if strings.Contains(format, "%[3]") {
			f.op(format, d, n, m)
		} else {
			f.op(format, d, n)
		}
		return
	}
	w, ok := words[op]
	if !ok {
		log.Panicf("no instruction %s", op)
	}
	code := w.base | uint32(n)<<5 | uint32(d)
	switch w.form {
	case three:
		f.word(code|uint32(m)<<16, "%s V%d.4S, V%d.4S, V%d.4S", op, d, n, m)
	case two:
		f.word(code, "%s V%d.4S, V%d.4S", op, d, n)
	case shift:
		f.word(code|uint32(64-m)<<16, "%s V%d.4S, V%d.4S, #%d", op, d, n, m)
	case widen, widenTop:
		lanes, bits := 4, ""
		if w.form == widenTop {
			lanes = 8
		}
		if op[0] == 'S' {
			bits = ", #16"
		}
		f.word(code, "%s V%d.4S, V%d.%dH%s", op, d, n, lanes, bits)
	case across:
		f.word(code, "%s S%d, V%d.4S", op, d, n)
	}
}

// element writes an instruction whose last factor is one lane of m.
func (f *asm) element(op string, d, n, m, lane int) {
	base, ok := elements[op]
	if !ok {
		log.Panicf("no instruction %s by an element", op)
	}
	w := base | uint32(lane&1)<<21 | uint32(lane>>1)<<11 | uint32(m)<<16 | uint32(n)<<5 | uint32(d)
	f.word(w, "%s V%d.4S, V%d.4S, V%d.S[%d]", op, d, n, m, lane)
}

// loadHalf loads 16 bits from where register r points; the rest of Vd becomes zero.
func (f *asm) loadHalf(d, r int) {
	f.word(0x7d400000|uint32(r)<<5|uint32(d), "LDR H%d, [X%d]", d, r)
}

// prefetch asks for the line at r + offset, both registers: to be kept in L1, or for one use.
func (f *asm) prefetch(r, offset int, once bool) {
	hint, name := uint32(0), "PLDL1KEEP"
	if once {
		hint, name = 1, "PLDL1STRM"
	}
	f.word(0xf8a06800|uint32(offset)<<16|uint32(r)<<5|hint, "PRFM %s, [X%d, X%d]", name, r, offset)
}

// zero clears a vector register.
func (f *asm) zero(d int) { f.op("VMOVI $0, V%d.B16", d) }
