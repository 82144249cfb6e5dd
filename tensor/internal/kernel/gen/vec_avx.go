package main

import (
	"fmt"
	"regexp"
	"strings"
)

// The text of the functions for AVX2 and AVX-512 is one: V0, V1, … are vector registers, W is the bytes of
// one, and lines that begin with "256:" or "512:" are for one instruction set alone. Every function takes
// pointers and a count n that is a multiple of 16 and above 0; the Go side pads what is left over.

var (
	register = regexp.MustCompile(`\bV(\d+)\b`)
	size     = regexp.MustCompile(`\bW(\d?)\b`)
)

// vecAVX returns the file of the elementwise operations, reductions and recurrences.
func vecAVX(s isa) []byte {
	f := avxFile{newFile(false)}
	if s.regs == 16 {
		f.constants()
	}
	return f.functions(s, functionsAVX)
}

// functions writes functions, which end the file.
func (f avxFile) functions(s isa, list []functionAVX) []byte {
	for _, fn := range list {
		returns := ""
		if strings.Contains(fn.body, "ret+") {
			returns = " float32"
		}
		f.line("\n// func %s%s(%s)%s", fn.name, s.name, fn.signature, returns)
		for line := range strings.Lines(strings.TrimSpace(fn.doc)) {
			f.line("// %s", strings.TrimSpace(line))
		}
		f.line("TEXT ·%s%s(SB), NOSPLIT, $0-%d", fn.name, s.name, fn.size())
		f.text(s, fn.body)
	}
	return f.Bytes()
}

// text writes instructions, labels and macros, as vector registers of s.
func (f avxFile) text(s isa, text string) {
	for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
		line = strings.TrimRight(line, "\n")
		trimmed := strings.TrimLeft(line, "\t")
		if rest, ok := strings.CutPrefix(trimmed, "256:"); ok {
			if s.regs != 16 {
				continue
			}
			trimmed = strings.TrimSpace(rest)
		} else if rest, ok := strings.CutPrefix(trimmed, "512:"); ok {
			if s.regs != 32 {
				continue
			}
			trimmed = strings.TrimSpace(rest)
		}
		if body, ok := macrosAVX[trimmed]; ok {
			f.macro(trimmed, "", func() { f.text(s, body) })
			continue
		}
		trimmed = register.ReplaceAllString(trimmed, s.reg+"$1")
		trimmed = size.ReplaceAllStringFunc(trimmed, func(w string) string {
			times := 1
			if len(w) > 1 {
				times = int(w[1] - '0')
			}
			return fmt.Sprint(s.bytes() * times)
		})
		switch {
		case trimmed == "":
		case strings.HasSuffix(trimmed, ":"):
			f.label("%s", strings.TrimSuffix(trimmed, ":"))
		case trimmed[0] == 'J' && strings.HasPrefix(f.run, "CMPQ"):
			f.append(trimmed)
			f.flush()
		default:
			f.op("%s", trimmed)
		}
	}
}

// constants writes the table of constants, each sixteen times: a vector of either size.
func (f avxFile) constants() {
	for _, name := range constantNames() {
		bits := constants[name]
		f.flush()
		for i := range 8 {
			f.op("DATA ·vec%s+%d(SB)/8, $0x%08x%08x", title(name), 8*i, bits, bits)
		}
		f.op("GLOBL ·vec%s(SB), NOPTR|RODATA, $64", title(name))
	}
}

type functionAVX struct {
	name, signature, doc, body string
}

// size returns the bytes of the arguments and the result.
func (f functionAVX) size() int {
	args := f.signature
	n := 0
	for _, arg := range strings.Split(args, ",") {
		switch {
		case strings.Contains(arg, "float32") && !strings.Contains(arg, "*"):
			n += 4
		default:
			n = (n+7)/8*8 + 8
		}
	}
	if strings.Contains(f.body, "ret+") {
		n = (n+7)/8*8 + 4
	}
	return n
}
