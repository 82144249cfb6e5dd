package main

import (
	"fmt"
	"log"
	"slices"
	"strconv"
	"strings"
)

// argument is a parameter of a function and its place in the frame.
type argument struct {
	name   string
	slice  bool
	offset int
}

// arguments returns a signature's parameters and the bytes they take.
func arguments(signature string) (args []argument, size int) {
	parts := strings.Split(signature, ", ")
	slice := false
	for _, p := range slices.Backward(parts) { // a type stands behind the last of its names
		name, kind, typed := strings.Cut(p, " ")
		if typed {
			slice = strings.HasPrefix(kind, "[]")
		}
		args = append(args, argument{name: name, slice: slice})
	}
	slices.Reverse(args)
	for i := range args {
		if args[i].slice {
			size = (size + 7) &^ 7
		}
		args[i].offset = size
		if args[i].slice {
			size += 24
		} else {
			size += 4
		}
	}
	return args, size
}

// vecNEON returns the file of the elementwise operations and reductions.
func vecNEON() []byte {
	f := neonFile{newFile(false)}
	f.line(`
// Elementwise operations and reductions. The length of the first slice counts, and isn't 0; the
// others are as long at least.
//
// Register map, all functions:
//	R0	dst                R1, R2, R3	the slices that are read, in the order of the arguments
//	R4	numbers left       R5	temporary
// and vectors as each function says: from V0 on what changes in a turn, a register for each of its
// vectors, and from V31 down what is the same in every lane.
//
// Shape of all loops:
//
//	for a turn's numbers are left { load, compute on 2 or 4 vectors, store }
//	for 4 are left { the same on one vector }
//	for 1 is left { the same on its lowest lane; the others hold zeros, or copies of it in max }`)
	for _, fn := range functionsNEON {
		fn.body = neonText(fn.body)
		f.function(fn)
	}
	f.widening("widenBF16", "a bfloat16 is the upper half of a float32", "SHLL")
	f.widening("widenF16", "FCVTL widens exactly, denormals too", "FCVTL")
	return f.Bytes()
}

// registers gives names their vector registers: those of a turn's vectors from the first on,
// those that hold the same for all from the last on.
type registers struct {
	lanes         int
	turn, uniform []string
}

// registers gives every name of a function its registers.
func (fn functionNEON) registers(args []argument) *registers {
	r := &registers{lanes: fn.lanes, turn: strings.Fields(fn.in)}
	for _, a := range args {
		if !a.slice {
			r.uniform = append(r.uniform, a.name)
		}
	}
	for line := range strings.Lines(fn.body) {
		words := strings.Fields(line)
		for _, name := range words[min(1, len(words)):] {
			_, constant := constants[name]
			switch {
			case isNumber(name), slices.Contains(r.turn, name), slices.Contains(r.uniform, name):
			case constant:
				r.uniform = append(r.uniform, name)
			default:
				r.turn = append(r.turn, name)
			}
		}
	}
	if len(r.turn)*r.lanes+len(r.uniform) > 32 {
		log.Panicf("%s needs too many registers", fn.name)
	}
	return r
}

func isNumber(word string) bool {
	_, err := strconv.Atoi(word)
	return err == nil
}

// of returns the register of a name for one vector of the turn.
func (r *registers) of(name string, lane int) int {
	if i := slices.Index(r.uniform, name); i >= 0 {
		return 31 - i
	}
	return slices.Index(r.turn, name)*r.lanes + lane
}

// list names the registers of the first lanes of a name, for VLD1 and VST1.
func (r *registers) list(name string, lanes int) string {
	var regs []string
	for lane := range lanes {
		regs = append(regs, fmt.Sprintf("V%d.S4", r.of(name, lane)))
	}
	return strings.Join(regs, ", ")
}

// function writes one function.
func (f neonFile) function(fn functionNEON) {
	args, size := arguments(fn.signature)
	frame, returns := size, ""
	if fn.join != "" {
		size = (size + 7) &^ 7
		frame, returns = size+4, " float32"
	}
	r, ins := fn.registers(args), strings.Fields(fn.in)
	f.line("\n// func %sNEON(%s)%s\n//\n// %s\n//", fn.name, fn.signature, returns, fn.doc)
	for _, name := range r.turn {
		f.line("//	V%d–V%d	%s", r.of(name, 0), r.of(name, fn.lanes-1), name)
	}
	if n := len(r.uniform); n == 1 {
		f.line("//	V31	%s", r.uniform[0])
	} else if n > 1 {
		f.line("//	V31–V%d	%s", 32-n, strings.Join(r.uniform, ", "))
	}
	f.line("TEXT ·%sNEON(SB), NOSPLIT, $0-%d", fn.name, frame)

	inReg := map[string]int{}
	for _, a := range args {
		if !a.slice {
			reg := r.of(a.name, 0)
			f.op("FMOVS %s+%d(FP), F%d", a.name, a.offset, reg)
			f.op("VDUP V%d.S[0], V%d.S4", reg, reg)
			continue
		}
		if a.name == "dst" {
			f.op("MOVD dst_base+%d(FP), R0", a.offset)
		}
		if slices.Contains(ins, a.name) {
			inReg[a.name] = len(inReg) + 1
			f.op("MOVD %s_base+%d(FP), R%d", a.name, a.offset, inReg[a.name])
		}
	}
	f.op("MOVD %s_len+8(FP), R4", args[0].name)
	for _, name := range r.uniform {
		if v, ok := constants[name]; ok {
			f.define("CONSTANT", "bits, v", "MOVW $bits, R5; VDUP R5, v")
			f.op("CONSTANT(0x%08x, V%d.S4)", v, r.of(name, 0))
		}
	}
	if fn.join != "" {
		for lane := range fn.lanes {
			if fn.join == "FMAX" {
				f.op("VLD1R (R1), [V%d.S4]", r.of("acc", lane))
			} else {
				f.clear(r.of("acc", lane))
			}
		}
	}

	loop := func(name string, step, lanes int, next string) {
		f.pair(fmt.Sprintf("SUBS $%d, R4", step), fmt.Sprintf("BLT %s", next))
		f.label("%s", name)
		for _, in := range ins {
			switch {
			case step > 1:
				f.op("VLD1.P %d(R%d), [%s]", 16*lanes, inReg[in], r.list(in, lanes))
			case fn.join == "FMAX":
				f.op("VLD1R.P 4(R%d), [%s]", inReg[in], r.list(in, 1))
			default:
				f.op("FMOVS.P 4(R%d), F%d", inReg[in], r.of(in, 0))
			}
		}
		text, last := strings.TrimSpace(fn.body), ""
		if fn.alone != "" {
			at := strings.LastIndex(text, "\n")
			text, last = text[:at], text[at:]
		}
		body := func() {
			for line := range strings.Lines(text) {
				f.lanes(r, strings.Fields(line), lanes)
			}
		}
		if lanes == 1 && strings.Count(text, "\n") > 2 { // twice
			f.macro("ONE_"+fn.name, "", body)
		} else {
			body()
		}
		if step == 1 && fn.alone != "" {
			f.lanes(r, strings.Fields(fn.alone), lanes)
		}
		if last != "" {
			f.lanes(r, strings.Fields(last), lanes)
		}
		switch {
		case fn.out == "":
		case step > 1:
			f.op("VST1.P [%s], %d(R0)", r.list(fn.out, lanes), 16*lanes)
		default:
			f.op("FMOVS.P F%d, 4(R0)", r.of(fn.out, 0))
		}
		f.pair(fmt.Sprintf("SUBS $%d, R4", step), fmt.Sprintf("BGE %s", name))
		f.label("%s", next)
	}
	loop("turns", 4*fn.lanes, fn.lanes, "fours")
	f.op("ADD $%d, R4", 4*fn.lanes)
	loop("four", 4, 1, "ones")
	f.op("ADD $4, R4")
	loop("one", 1, 1, "done")
	if fn.join != "" {
		acc := r.of("acc", 0)
		for step := 1; step < fn.lanes; step *= 2 {
			for lane := 0; lane < fn.lanes; lane += 2 * step {
				f.vec(fn.join, acc+lane, acc+lane, acc+lane+step)
			}
		}
		if fn.join == "FMAX" {
			f.vec("FMAXV", acc, acc, 0)
		} else {
			f.vec("FADDP", acc, acc, acc)
			f.vec("FADDP", acc, acc, acc)
		}
		f.op("FMOVS F%d, ret+%d(FP)", acc, size)
	}
	f.op("RET")
}

// lanes writes an instruction of a body for each of the first lanes.
func (f neonFile) lanes(r *registers, words []string, lanes int) {
	for lane := range lanes {
		var operands [3]int
		for i, w := range words[1:] {
			if n, err := strconv.Atoi(w); err == nil {
				operands[i] = n
			} else {
				operands[i] = r.of(w, lane)
			}
		}
		f.vec(words[0], operands[0], operands[1], operands[2])
	}
}

// widening writes the function that converts 16-bit numbers by an instruction.
func (f neonFile) widening(name, doc, op string) {
	f.line("\n// func %sNEON(dst []float32, src []uint16)\n//\n// %s\n//\n//\tV0–V3\tdst\n//\tV4, V5\tsrc\nTEXT ·%sNEON(SB), NOSPLIT, $0-48", name, doc, name)
	f.op("MOVD dst_base+0(FP), R0")
	f.op("MOVD src_base+24(FP), R1")
	f.op("MOVD dst_len+8(FP), R4")
	f.pair("SUBS $16, R4", "BLT fours")
	f.label("turns")
	f.op("VLD1.P 32(R1), [V4.H8, V5.H8]")
	f.vec(op, 0, 4, 0)
	f.vec(op+"2", 1, 4, 0)
	f.vec(op, 2, 5, 0)
	f.vec(op+"2", 3, 5, 0)
	f.op("VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0)")
	f.pair("SUBS $16, R4", "BGE turns")
	f.label("fours")
	f.op("ADD $16, R4")
	f.pair("SUBS $4, R4", "BLT ones")
	f.label("four")
	f.op("VLD1.P 8(R1), [V4.H4]")
	f.vec(op, 0, 4, 0)
	f.op("VST1.P [V0.S4], 16(R0)")
	f.pair("SUBS $4, R4", "BGE four")
	f.label("ones")
	f.op("ADD $4, R4")
	f.pair("SUBS $1, R4", "BLT done")
	f.label("one")
	f.loadHalf(4, 1)
	f.op("ADD $2, R1")
	f.vec(op, 0, 4, 0)
	f.op("FMOVS.P F0, 4(R0)")
	f.pair("SUBS $1, R4", "BGE one")
	f.label("done")
	f.op("RET")
}
