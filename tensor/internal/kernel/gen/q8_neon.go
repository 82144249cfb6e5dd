package main

import "fmt"

// q8NEON returns the file of products with activations of 8 bits.
func q8NEON() []byte {
	f := &q8NEONFile{neonFile: neonFile{newFile(true)}}
	f.line(`
// Products of rows of x in 8 bits with blocks of quantized weights: kernel's q8.go and q8_asm.go say what
// rows of x and panels are. A lane has a row of w.
//
// Register map of the functions that take rows of w apart:
//	R0	a       R2	blocks left   R8–R11	rows of w
//	R1	panel   R3–R6	a.ahead and the lines after it
//	V0–V3	four numbers of each row, transposed, by V4–V7; or V8–V11: others that stay
//	V12, V13	temporaries, d and dmin   V24–V26	constants
//
// and of the products:
//	R0	a       R2	units left    R8–R11	rows of x
//	R1	panel   R12	acc           R13	ldacc
//	V0–V3	sums    V24–V31	numbers of the panel`)
	for _, n := range q8Nibbles {
		f.unpack(n.format, n.size, 2, func() { f.nibbles(n) })
	}
	f.unpack("Q4_K", 144, 9, func() {
		f.scaleK()
		for i := range 8 { // columns of 16 bytes
			f.transpose(16+16*i, 0)
			for d := range 4 {
				f.vec("AND", 4, d, 24)
				f.op("VUSHR $4, V%d.B16, V%d.B16", d, d)
				f.store(4, i/2*2, i%2*4+d)
				f.store(d, i/2*2+1, i%2*4+d)
			}
		}
	})
	f.unpack("Q5_K", 176, 11, func() {
		f.scaleK()
		f.op("VMOVI $16, V26.B16")
		for h := range 2 {
			f.transpose(16+16*h, 8)
			for c := range 4 {
				f.transpose(48+32*c+16*h, 0)
				for d := range 4 {
					f.vec("AND", 4, d, 24)
					f.op("VUSHR $4, V%d.B16, V%d.B16", d, d)
					f.merge(8+d, 4-2*c, 4)
					f.store(4, 2*c, 4*h+d)
					f.merge(8+d, 3-2*c, d)
					f.store(d, 2*c+1, 4*h+d)
				}
			}
		}
	})
	f.unpack("Q6_K", 210, 14, func() {
		f.transpose(192, 0)
		f.transpose(194, 8) // whose last two bytes are d
		f.vec("USHR", 11, 11, 16)
		f.vec("XTN", 11, 11, 0)
		f.vec("FCVTL", 12, 11, 0)
		for i := range 16 {
			f.vec("SHL", 4, i/4, 24-i%4*8)
			f.vec("SSHR", 4, 4, 24)
			f.vec("SCVTF", 4, 4, 0)
			f.vec("FMUL", 4, 4, 12)
			f.store(4, i/2, 8+i%2)
		}
		for i := range 4 {
			n, h := i/2, i%2
			f.transpose(128+32*n+16*h, 8)
			for low := range 2 {
				f.transpose(64*n+32*low+16*h, 0)
				for d := range 4 {
					f.vec("AND", 4, d, 24)
					f.op("VUSHR $4, V%d.B16, V%d.B16", d, d)
					f.merge(8+d, 4-2*low, 4)
					f.store(4, 4*n+low, 4*h+d)
					f.merge(8+d, -2*low, d)
					f.store(d, 4*n+2+low, 4*h+d)
				}
			}
		}
	})
	for _, sdot := range []bool{false, true} {
		f.dot(false, sdot)
		f.dot(true, sdot)
	}
	f.round()
	return f.Bytes()
}

// q8NEONFile is the file while it is written.
type q8NEONFile struct {
	neonFile
	columns, column, lines int // of a block: its columns, which one is next, a row's cache lines
}

// q8UnitNEON is the bytes of 32 numbers of a panel.
const q8UnitNEON = 160

// unpack writes the function for a format whose blocks have size bytes and are read in that many columns.
func (f *q8NEONFile) unpack(format string, size, columns int, block func()) {
	name := "unpack" + format + "NEON"
	f.line(`
// func %s(a *q8Args)
TEXT ·%s(SB), NOSPLIT, $0-8`, name, name)
	f.op("MOVD a+0(FP), R0")
	f.op("MOVD q8Args_panel(R0), R1")
	f.op("MOVD q8Args_blocks(R0), R2")
	f.op("MOVD q8Args_ahead(R0), R3")
	f.columns, f.column, f.lines = columns, 0, (size+63)/64
	for i := 1; i < f.lines; i++ {
		f.op("ADD $64, R%d, R%d", 2+i, 3+i)
	}
	f.op("MOVD q8Args_w(R0), R8")
	f.op("MOVD q8Args_ldw(R0), R16")
	for r := 1; r < 4; r++ {
		f.op("ADD R16, R%d, R%d", 7+r, 8+r)
	}
	f.op("VMOVI $15, V24.B16")
	f.op("VMOVI $63, V25.B16")
	f.op("VMOVI $48, V26.B16")
	f.label("loop")
	f.pack(block)
	for r := range 4 {
		f.op("ADD $%d, R%d", size, 8+r)
	}
	f.op("ADD $%d, R1", q8Units(format)*q8UnitNEON)
	f.pair("SUBS $1, R2", "BNE loop")
	f.op("RET")
}

// nibbles takes a block of 32 numbers of each row apart.
func (f *q8NEONFile) nibbles(n q8Nibble) {
	f.transpose(0, 8) // the scales, and the fifth bits but for some
	f.vec("XTN", 12, 8, 0)
	f.vec("FCVTL", 12, 12, 0)
	f.store(12, 0, 8)
	f.vec("USHR", 13, 8, 16)
	if n.high == 2 {
		f.vec("SHL", 9, 9, 16)
		f.vec("ORR", 9, 9, 13)
	}
	if n.less == 0 {
		f.vec("XTN", 13, 13, 0)
		f.vec("FCVTL", 13, 13, 0)
		f.vec("FNEG", 13, 13, 0)
	} else {
		f.op("MOVD $0x%08x, R16", bits(float64(n.less)))
		f.op("VDUP R16, V13.S4")
		f.vec("FMUL", 13, 12, 13)
	}
	f.store(13, 0, 9)
	f.transpose(n.nibbles, 0)
	if n.high > 0 {
		f.op("VMOVI $16, V26.B16")
		f.op("MOVD $0x00204081, R16")
		f.op("VDUP R16, V10.S4")
	}
	for d := range 8 { // the lower halves of the bytes are the first 16 numbers
		f.vec("AND", 4, d%4, 24)
		if d < 4 {
			f.op("VUSHR $4, V%d.B16, V%d.B16", d, d)
		}
		if n.high > 0 { // four bits, each to a byte of its own
			f.vec("SHL", 5, 9, 28-4*d)
			f.vec("USHR", 5, 5, 28)
			f.vec("MUL", 5, 5, 10)
			f.vec("SHL", 5, 5, 4)
			f.vec("AND", 5, 5, 26)
			f.vec("ORR", 4, 4, 5)
		}
		f.store(4, 0, d)
	}
}

// transpose puts 16 bytes of each row, as four numbers of 32 bits, into four registers from b on: the first
// number of all rows, the second and so on. V4 to V7 are temporaries. It prefetches its share of a block's
// lines.
func (f *q8NEONFile) transpose(off, b int) {
	f.macro(fmt.Sprintf("TRANSPOSE%d", b), "off", func() {
		for r := range 4 {
			f.op("FMOVQ off(R%d), F%d", 8+r, b+r)
		}
		for i := range 2 {
			f.op("VZIP%d V%d.S4, V%d.S4, V%d.S4", 1+i, b+1, b, 4+2*i)
			f.op("VZIP%d V%d.S4, V%d.S4, V%d.S4", 1+i, b+3, b+2, 5+2*i)
		}
		for i := range 4 {
			f.op("VZIP%d V%d.D2, V%d.D2, V%d.D2", 1+i%2, 5+i/2*2, 4+i/2*2, b+i)
		}
	}, off)
	all := 4 * f.lines
	for i := f.column * all / f.columns; i < (f.column+1)*all/f.columns; i++ {
		f.prefetch(8+i%4, 3+i/4, true)
	}
	f.column++
}

// merge adds the bits of register high that are in the mask V26 after a shift to the left, or to the right
// if bits is below 0, to d.
func (f *q8NEONFile) merge(high, bits, d int) {
	if bits > 0 {
		f.vec("SHL", 12, high, bits)
		high = 12
	} else if bits < 0 {
		f.vec("USHR", 12, high, -bits)
		high = 12
	}
	f.vec("AND", 12, high, 26)
	f.vec("ORR", d, d, 12)
}

// store puts a register in its place in the panel.
func (f *q8NEONFile) store(reg, unit, vector int) {
	f.op("FMOVQ F%d, %d(R1)", reg, unit*q8UnitNEON+16*vector)
}

// scaleK puts the steps and minimums of the eight sub-blocks of Q4_K and Q5_K in their places, of which
// kernel's scaleK tells how they are packed.
func (f *q8NEONFile) scaleK() {
	f.transpose(0, 0)
	f.vec("XTN", 12, 0, 0)
	f.vec("FCVTL", 12, 12, 0)
	f.vec("USHR", 13, 0, 16)
	f.vec("XTN", 13, 13, 0)
	f.vec("FCVTL", 13, 13, 0)
	f.op("VMOVI $48, V26.B16")
	f.vec("AND", 4, 1, 25)
	f.vec("AND", 5, 2, 25)
	f.vec("AND", 6, 3, 24)
	f.op("VUSHR $4, V3.B16, V7.B16")
	for i := range 2 { // the upper two bits of four scales, of four minimums
		f.vec("USHR", 8, 1+i, 2)
		f.vec("AND", 8, 8, 26)
		f.vec("ORR", 6+i, 6+i, 8)
	}
	for j := range 8 {
		for i := range 2 {
			src := 4 + j/4*2 + i
			if j%4 < 3 {
				f.vec("SHL", 8, src, 24-8*(j%4))
				src = 8
			}
			f.vec("USHR", 8, src, 24)
			f.vec("SCVTF", 8, 8, 0)
			f.vec("FMUL", 8, 8, 12+i)
			f.store(8, j, 8+i)
		}
	}
}

// dot writes the products of panels: of step·q − least, or of numbers q−32 with steps for halves; with the
// instruction SDOT, which ARMv8.0 lacks, or without.
func (f *q8NEONFile) dot(halves, sdot bool) {
	name, body, needs := "dotQ8", "acc += d·(step·Σ q·x) − least·dΣx", ""
	if halves {
		name, body = "dotQ8Halves", "acc += d·(step·Σ (q−32)·x + step·Σ (q−32)·x), a sum for each half"
	}
	if name += "NEON"; sdot {
		name, needs = name+"SDOT", "\n//\n// It needs SDOT."
	}
	f.line(`
// func %s(a *q8Args)
//
//	acc = 0, or a.acc if a.resume
//	for a.units { %s }%s
TEXT ·%s(SB), NOSPLIT, $0-8`, name, body, needs, name)
	f.op("MOVD a+0(FP), R0")
	f.op("MOVD q8Args_panel(R0), R1")
	f.op("MOVD q8Args_units(R0), R2")
	f.op("MOVD q8Args_acc(R0), R12")
	f.op("MOVD q8Args_ldacc(R0), R13")
	f.op("MOVD q8Args_x(R0), R8")
	f.op("MOVD q8Args_ldx(R0), R16")
	for r := 1; r < 4; r++ {
		f.op("ADD R16, R%d, R%d", 7+r, 8+r)
	}
	f.op("MOVD q8Args_rows(R0), R16")
	for r := 4; r > 1; r-- {
		f.pair(fmt.Sprintf("CMP $%d, R16", r), fmt.Sprintf("BEQ rows%d", r))
	}
	for r := 1; r <= 4; r++ {
		f.dotRows(halves, sdot, r)
	}
	f.label("done")
	f.op("RET")
}

// dotRows writes the loop for that many rows of x.
func (f *q8NEONFile) dotRows(halves, sdot bool, rows int) {
	f.label("rows%d", rows)
	f.zero(rows)
	f.pair("MOVD q8Args_resume(R0), R16", fmt.Sprintf("CBZ R16, rows%d_loop", rows))
	f.eachAcc(rows, func(r int) { f.op("FMOVQ (R16), F%d", r) })
	f.op("PCALIGN $16")
	f.label("rows%d_loop", rows)
	f.pack(func() {
		for d := 0; d < 8; d += 2 {
			f.op("FLDPQ %d(R1), (F%d, F%d)", 16*d, 24+d, 25+d)
		}
		if sdot {
			f.unitSDOT(halves, rows)
		} else {
			f.unit(halves, rows)
		}
	})
	for r := range rows {
		f.op("ADD $48, R%d", 8+r)
	}
	f.op("ADD $%d, R1", q8UnitNEON)
	f.pair("SUBS $1, R2", fmt.Sprintf("BNE rows%d_loop", rows))
	f.eachAcc(rows, func(r int) { f.op("FMOVQ F%d, (R16)", r) })
	f.op("B done")
}

// eachAcc does do with every row of the sums, whose place is in R16.
func (f *q8NEONFile) eachAcc(rows int, do func(r int)) {
	f.op("MOVD R12, R16")
	for r := range rows {
		if r > 0 {
			f.op("ADD R13, R16")
		}
		do(r)
	}
}

// unitSDOT adds 32 numbers of k. V4 to V7 are sums of integers, V8 to V11 those of second halves, V12 to V15
// the rows' scales and sums, V16 to V23 their numbers.
func (f *q8NEONFile) unitSDOT(halves bool, rows int) {
	for r := range rows {
		f.op("FLDPQ (R%d), (F%d, F%d)", 8+r, 16+2*r, 17+2*r)
		f.op("FMOVQ 32(R%d), F%d", 8+r, 12+r)
	}
	for r := range rows {
		if halves {
			f.op("VDUP V%d.S[2], V%d.S4", 12+r, 4+r)
			f.op("VDUP V%d.S[3], V%d.S4", 12+r, 8+r)
		} else {
			f.clear(4 + r)
		}
	}
	for d := range 8 {
		for r := range rows {
			sum := 4 + r
			if halves {
				sum += d / 4 * 4
			}
			f.element("SDOT", sum, 24+d, 16+2*r+d/4, d%4)
		}
	}
	f.op("FLDPQ 128(R1), (F24, F25)")
	for r := range rows {
		f.vec("SCVTF", 4+r, 4+r, 0)
		if halves {
			f.vec("SCVTF", 8+r, 8+r, 0)
		}
	}
	for r := range rows {
		f.vec("FMUL", 4+r, 4+r, 24)
		if halves {
			f.vec("FMLA", 4+r, 8+r, 25)
		}
	}
	for r := range rows {
		f.element("FMLA", r, 4+r, 12+r, 0)
	}
	if !halves {
		for r := range rows {
			f.element("FMLS", r, 25, 12+r, 1)
		}
	}
}

// unit adds 32 numbers of k, a row of x after another in two sets of registers in turn. The products' sums
// have 16 bits: 63·127·4 fits, and 31·127·8.
func (f *q8NEONFile) unit(halves bool, rows int) {
	f.op("FLDPQ 128(R1), (F22, F23)")
	for r := range rows {
		b := 4 + 6*(r%2) // sums of the first two rows of w, of the others, four numbers of x in all lanes, a half's result
		x := 16 + 3*(r%2)
		f.op("FLDPQ (R%d), (F%d, F%d)", 8+r, x, x+1)
		f.op("FMOVQ 32(R%d), F%d", 8+r, x+2)
		for d := range 8 {
			first := d == 0 || halves && d == 4
			op := map[bool]string{true: "SMULL", false: "SMLAL"}[first]
			f.op("VDUP V%d.S[%d], V%d.S4", x+d/4, d%4, b+2+d%2)
			f.vec(op, b, 24+d, b+2+d%2)
			f.vec(op+"2", b+1, 24+d, b+2+d%2)
			if d == 7 || halves && d == 3 {
				f.vec("SADDLP", b, b, 0)
				f.vec("SADDLP", b+1, b+1, 0)
				f.vec("ADDP", b, b, b+1)
				if halves {
					f.op("VDUP V%d.S[%d], V%d.S4", x+2, 2+d/4, b+2)
					f.vec("ADD", b, b, b+2)
				}
				f.vec("SCVTF", b, b, 0)
				if d == 3 {
					f.vec("FMUL", b+4, b, 22)
				}
			}
		}
		if halves {
			f.vec("FMLA", b+4, b, 23)
			f.element("FMLA", r, b+4, x+2, 0)
			continue
		}
		f.vec("FMUL", b, b, 22)
		f.element("FMLA", r, b, x+2, 0)
		f.element("FMLS", r, 23, x+2, 1)
	}
}

// round writes the rounding of a row of x; kernel's roundQ8Generic is the same in Go.
func (f *q8NEONFile) round() {
	f.line(`
// func roundQ8NEON(dst *byte, x *float32, units int)
//
// The largest size is found on bit patterns, of which those of Inf and NaN are above all others.
TEXT ·roundQ8NEON(SB), NOSPLIT, $0-24`)
	f.op("MOVD dst+0(FP), R0")
	f.op("MOVD x+8(FP), R1")
	f.op("MOVD units+16(FP), R2")
	for i, c := range []uint32{bits(127), bits(0x1p-120) - 1, 0x7f7fffff} {
		f.op("MOVD $0x%08x, R3", c)
		f.op("VDUP R3, V%d.S4", 24+i)
	}
	f.label("loop")
	f.pack(func() {
		for i := 0; i < 8; i += 2 {
			f.op("FLDPQ %d(R1), (F%d, F%d)", 16*i, i, i+1)
		}
		for i := range 8 {
			f.vec("FABS", 8+i, i, 0)
		}
		for step := 4; step > 0; step /= 2 {
			for i := range step {
				f.vec("SMAX", 8+i, 8+i, 8+i+step)
			}
		}
		f.vec("SMAXV", 8, 8, 0)
		f.op("VDUP V8.S[0], V8.S4")
		f.vec("FDIV", 16, 8, 24) // d
		f.vec("FDIV", 17, 24, 8) // its inverse
		f.vec("CMGT", 18, 8, 25)
		f.vec("AND", 16, 16, 18)
		f.vec("AND", 17, 17, 18)
		f.vec("CMGT", 18, 8, 26)
		f.vec("ORR", 16, 16, 18) // NaN
		f.vec("BIC", 17, 17, 18)
		for i := range 8 { // NaN becomes 0
			f.vec("FMUL", i, i, 17)
			f.vec("FCVTNS", i, i, 0)
		}
		for half := range 2 {
			f.vec("ADD", 20+half, 4*half, 4*half+1)
			f.vec("ADD", 22+half, 4*half+2, 4*half+3)
			f.vec("ADD", 20+half, 20+half, 22+half)
			f.vec("ADDV", 20+half, 20+half, 0)
		}
		f.vec("ADD", 22, 20, 21)
		f.vec("SCVTF", 22, 22, 0)
		f.vec("FMUL", 22, 22, 16)
		f.op("VMOV V22.S[0], V16.S[1]")
		for half := range 2 {
			f.vec("SHL", 20+half, 20+half, 5)
			f.vec("NEG", 20+half, 20+half, 0)
			f.op("VMOV V%d.S[0], V16.S[%d]", 20+half, 2+half)
			for pair := range 2 {
				n := 4*half + 2*pair
				f.vec("XTN", 8+pair, n, 0)
				f.vec("XTN2", 8+pair, n+1, 0)
			}
			f.vec("XTNB", 10+half, 8, 0)
			f.vec("XTNB2", 10+half, 9, 0)
		}
		f.op("FSTPQ (F10, F11), (R0)")
		f.op("FMOVQ F16, 32(R0)")
	})
	f.op("ADD $128, R1")
	f.op("ADD $48, R0")
	f.pair("SUBS $1, R2", "BNE loop")
	f.op("RET")
}
