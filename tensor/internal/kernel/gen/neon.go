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
	"USHR":   {0x6f000400, shift},
	"XTN":    {0x0e612800, widen}, // the lower halves of 32-bit numbers: Vd.4H, Vn.4S
	"XTN2":   {0x4e612800, widenTop},
	"XTNB":   {0x0e212800, widen}, // and of 16-bit ones: Vd.8B, Vn.8H
	"XTNB2":  {0x4e212800, widenTop},
	"SCVTF":  {0x4e21d800, two},
	"NEG":    {0x6ea0b800, two},
	"FNEG":   {0x6ea0f800, two},
	"MUL":    {0x4ea09c00, three}, // of integers
	"SADDLP": {0x4e602800, two},   // sums of neighbours: Vd.4S, Vn.8H
	"ADDP":   {0x4ea0bc00, three}, // of integers
	"SMAX":   {0x4ea06400, three},
	"CMGT":   {0x4ea03400, three},
	"BIC":    {0x4e601c00, three}, // n and not m
	"SMULL":  {0x0e20c000, three}, // Vd.8H, Vn.8B, Vm.8B
	"SMULL2": {0x4e20c000, three},
	"SMLAL":  {0x0e208000, three},
	"SMLAL2": {0x4e208000, three},
	"SMAXV":  {0x4eb0a800, across},
	"ADDV":   {0x4eb1b800, across},
	"SXTLB":  {0x0f08a400, widen}, // with their signs: bytes to 16 bits, Vd.8H, Vn.8B
	"SXTLB2": {0x4f08a400, widenTop},
	"SXTLH":  {0x0f10a400, widen}, // 16 bits to 32
	"SXTLH2": {0x4f10a400, widenTop},
	"CMTST":  {0x4e208c00, three}, // of bytes: all ones where n and m share a bit
}

// elements are the instructions with one element as a factor of all: Vd.4S, Vn.4S, Vm.S[i].
var elements = map[string]uint32{
	"FMLA": 0x4f801000,
	"FMLS": 0x4f805000,
	"FMUL": 0x4f809000,
	"SDOT": 0x4f80e000, // Vd.4S, Vn.16B, Vm.4B[i]
}

// known are the instructions that Go's assembler has, by its names; it writes the destination last.
var known = map[string]string{
	"FMLA": "VFMLA V%[3]v.S4, V%[2]v.S4, V%[1]v.S4",
	"FMLS": "VFMLS V%[3]v.S4, V%[2]v.S4, V%[1]v.S4",
	"ADD":  "VADD V%[3]v.S4, V%[2]v.S4, V%[1]v.S4",
	"SUB":  "VSUB V%[3]v.S4, V%[2]v.S4, V%[1]v.S4",
	"AND":  "VAND V%[3]v.B16, V%[2]v.B16, V%[1]v.B16",
	"ORR":  "VORR V%[3]v.B16, V%[2]v.B16, V%[1]v.B16",
	"BSL":  "VBSL V%[3]v.B16, V%[2]v.B16, V%[1]v.B16", // where d has ones n, else m
	"MOV":  "VMOV V%[2]v.B16, V%[1]v.B16",
	"LOW":  "FMOVS F%[2]v, F%[1]v", // the lowest lane, zeros above it
	"SHL":  "VSHL $%[3]v, V%[2]v.S4, V%[1]v.S4",
}

// neonFile is a file for arm64.
type neonFile struct{ *asm }

// encodings are what the forms make of a base, in terms of the macro's parameters.
var encodings = map[form]struct{ params, code string }{
	three:    {"d, n, m", "|(m)<<16|(n)<<5|(d)"},
	two:      {"d, n", "|(n)<<5|(d)"},
	shift:    {"d, n, bits", "|(64-(bits))<<16|(n)<<5|(d)"},
	widen:    {"d, n", "|(n)<<5|(d)"},
	widenTop: {"d, n", "|(n)<<5|(d)"},
	across:   {"d, n", "|(n)<<5|(d)"},
}

// word defines an instruction that the assembler doesn't know as a macro of that name.
func (f neonFile) word(name string, base uint32, params, code string) {
	f.define(name, params, fmt.Sprintf("WORD $(0x%08x%s)", base, code))
}

// vec writes an instruction on four lanes by its name in Arm's manual: d is the destination, n
// and m are registers, or m is a number of bits. They are numbers, or parameters of a macro that is
// being written.
func (f neonFile) vec(op string, d, n, m any) {
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
	e := encodings[w.form]
	f.word(op, w.base, e.params, e.code)
	if w.form == three || w.form == shift {
		f.op("%s(%v, %v, %v)", op, d, n, m)
	} else {
		f.op("%s(%v, %v)", op, d, n)
	}
}

// element writes an instruction whose last factor is one lane of m, as the macro FMLA_LANE for one.
func (f neonFile) element(op string, d, n, m, lane any) {
	base, ok := elements[op]
	if !ok {
		log.Panicf("no instruction %s by an element", op)
	}
	f.word(op+"_LANE", base, "d, n, m, lane", "|((lane)&1)<<21|((lane)>>1)<<11|(m)<<16|(n)<<5|(d)")
	f.op("%s_LANE(%v, %v, %v, %v)", op, d, n, m, lane)
}

// loadHalf loads 16 bits from where register r points; the rest of Vd becomes zero.
func (f neonFile) loadHalf(d, r int) {
	f.word("LDRH", 0x7d400000, "d, r", "|(r)<<5|(d)")
	f.op("LDRH(%d, %d)", d, r)
}

// prefetch asks for the line at r + offset, both registers: to be kept in L1, or for one use.
func (f neonFile) prefetch(r, offset int, once bool) {
	name, hint := "PRFM_PLDL1KEEP", uint32(0)
	if once {
		name, hint = "PRFM_PLDL1STRM", 1
	}
	f.word(name, 0xf8a06800|hint, "r, offset", "|(offset)<<16|(r)<<5")
	f.op("%s(%d, %d)", name, r, offset)
}

// zero clears the first n vector registers.
func (f neonFile) zero(n int) {
	f.macro(fmt.Sprintf("ZERO%d", n), "", func() {
		for i := range n {
			f.clear(i)
		}
	})
}

// clear clears a vector register.
func (f neonFile) clear(d int) { f.op("VMOVI $0, V%d.B16", d) }
