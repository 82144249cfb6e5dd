package main

import "fmt"

// wkvNEON returns the file of the recurrences.
func wkvNEON() []byte {
	f := neonFile{newFile(false)}
	f.wkv5()
	f.wkv7()
	return f.Bytes()
}

// load loads count vectors, or the number alone if single, from where r points, and moves r on.
func (f neonFile) load(r, first, count int, single bool) {
	if single {
		f.op("FMOVS.P 4(R%d), F%d", r, first)
		return
	}
	f.op("VLD1.P %d(R%d), [%s]", 16*count, r, vectors(first, count))
}

// store is load's counterpart.
func (f neonFile) store(r, first, count int, single bool) {
	if single {
		f.op("FMOVS.P F%d, 4(R%d)", first, r)
		return
	}
	f.op("VST1.P [%s], %d(R%d)", vectors(first, count), 16*count, r)
}

// vectors lists count registers for VLD1 and VST1.
func vectors(first, count int) string {
	list := ""
	for i := range count {
		if i > 0 {
			list += ", "
		}
		list += fmt.Sprintf("V%d.S4", first+i)
	}
	return list
}

func (f neonFile) wkv5() {
	f.line(`
// func wkv5NEON(y, s, r, k, v []float32, w, u float32)
//
// One token of one head. For each block of columns, of 16, 4 or 1, y and v stay in registers while
// the rows of s pass:
//
//	for blocks {
//		y = 0
//		for rows i { t = k_i·v; y += r_i·(s_i + u·t); s_i = t + w·s_i }
//	}
//
//	R0	y                  R1	s at the block     V0–V3	y       V16–V19	s_i
//	R2	r                  R3	k                  V4–V7	v       V20–V23	t, then the new s_i
//	R4	v                  R5	n                  V24	r_i         V25	k_i
//	R6	bytes of a row     R7	columns left       V30	u           V31	w
//	R8	s_i                R9, R10	r_i, k_i       V26–V29	s_i + u·t
//	R11	rows left
TEXT ·wkv5NEON(SB), NOSPLIT, $0-128`)
	f.op("MOVD y_base+0(FP), R0")
	f.op("MOVD y_len+8(FP), R5")
	f.op("MOVD s_base+24(FP), R1")
	f.op("MOVD r_base+48(FP), R2")
	f.op("MOVD k_base+72(FP), R3")
	f.op("MOVD v_base+96(FP), R4")
	f.op("FMOVS w+120(FP), F31")
	f.op("VDUP V31.S[0], V31.S4")
	f.op("FMOVS u+124(FP), F30")
	f.op("VDUP V30.S[0], V30.S4")
	f.op("LSL $2, R5, R6")
	f.op("MOVD R5, R7")
	block := func(name string, columns, count int, next string) {
		single := columns == 1
		f.pair(fmt.Sprintf("SUBS $%d, R7", columns), fmt.Sprintf("BLT %s", next))
		f.label("%s", name)
		f.load(4, 4, count, single)
		f.zero(count)
		f.op("MOVD R1, R8")
		f.op("MOVD R2, R9")
		f.op("MOVD R3, R10")
		f.op("MOVD R5, R11")
		f.label("%s_rows", name)
		f.op("VLD1R.P 4(R9), [V24.S4]")
		f.op("VLD1R.P 4(R10), [V25.S4]")
		if single {
			f.op("FMOVS (R8), F16")
		} else {
			f.op("VLD1 (R8), [%s]", vectors(16, count))
		}
		each := func(op string, d, n, m int) {
			for i := range count {
				f.vec(op, d+i, n+i, m)
			}
		}
		each("FMUL", 20, 4, 25)
		each("MOV", 26, 16, 0)
		each("FMLA", 26, 20, 30)
		each("FMLA", 20, 16, 31)
		each("FMLA", 0, 26, 24)
		if single {
			f.op("FMOVS F20, (R8)")
		} else {
			f.op("VST1 [%s], (R8)", vectors(20, count))
		}
		f.op("ADD R6, R8")
		f.pair("SUBS $1, R11", fmt.Sprintf("BNE %s_rows", name))
		f.store(0, 0, count, single)
		f.op("ADD $%d, R1", 4*columns)
		f.pair(fmt.Sprintf("SUBS $%d, R7", columns), fmt.Sprintf("BGE %s", name))
		f.label("%s", next)
	}
	block("sixteens", 16, 4, "fours")
	f.op("ADD $16, R7")
	block("four", 4, 1, "ones")
	f.op("ADD $4, R7")
	block("one", 1, 1, "done")
	f.op("RET")
}

func (f neonFile) wkv7() {
	f.line(`
// func wkv7NEON(y, s, r, w, k, v, a, b []float32)
//
// One token of one head. Rows of s pass in groups of 4, then alone, so that w, k, a, b and r are
// loaded once for a group:
//
//	for groups of rows i {
//		sa_i = Σ s_i·a
//		for columns { s_i = s_i·w − sa_i·b + v_i·k; y_i += s_i·r }
//		y_i = Σ y_i
//	}
//
// Columns are taken by 4, then alone in the lowest lane.
//
//	R0	y of the group      R1–R4	rows of s        R5	n
//	R6	v of the group      R7	rows left        R8	bytes of a row
//	R9–R13	a, w, b, k, r at the column                      R14	columns left
//	R15–R17, R19, R20	a, w, b, k, r            R21	s of the group
//	V0–V3	sums of the rows    V4–V7	s_i              V16–V20	a, w, b, k, r
//	V24	sa of the rows      V25	v of the rows
TEXT ·wkv7NEON(SB), NOSPLIT, $0-192`)
	f.op("MOVD y_base+0(FP), R0")
	f.op("MOVD y_len+8(FP), R5")
	f.op("MOVD s_base+24(FP), R21")
	f.op("MOVD r_base+48(FP), R20")
	f.op("MOVD w_base+72(FP), R16")
	f.op("MOVD k_base+96(FP), R19")
	f.op("MOVD v_base+120(FP), R6")
	f.op("MOVD a_base+144(FP), R15")
	f.op("MOVD b_base+168(FP), R17")
	f.op("LSL $2, R5, R8")
	f.op("MOVD R5, R7")
	f.pair("SUBS $4, R7", "BLT rest")
	f.wkv7Rows("group", 4)
	f.label("rest")
	f.op("ADD $4, R7")
	f.pair("SUBS $1, R7", "BLT done")
	f.wkv7Rows("row", 1)
	f.label("done")
	f.op("RET")
}

// wkv7Rows writes the loop over groups of so many rows.
func (f neonFile) wkv7Rows(name string, rows int) {
	f.label("%s", name)
	pointers := func() {
		f.op("MOVD R21, R1")
		for i := 1; i < rows; i++ {
			f.op("ADD R8, R%d, R%d", i, i+1)
		}
		f.op("MOVD R5, R14")
	}
	sums := func() { // of V0–V3 into V0
		if rows == 4 {
			f.vec("FADDP", 0, 0, 1)
			f.vec("FADDP", 2, 2, 3)
			f.vec("FADDP", 0, 0, 2)
		} else {
			f.vec("FADDP", 0, 0, 0)
			f.vec("FADDP", 0, 0, 0)
		}
	}
	columns := func(pass string, step func(single bool)) {
		f.pair("SUBS $4, R14", fmt.Sprintf("BLT %s_%s_ones", name, pass))
		f.label("%s_%s_four", name, pass)
		step(false)
		f.pair("SUBS $4, R14", fmt.Sprintf("BGE %s_%s_four", name, pass))
		f.label("%s_%s_ones", name, pass)
		f.op("ADD $4, R14")
		f.pair("SUBS $1, R14", fmt.Sprintf("BLT %s_%s_done", name, pass))
		f.label("%s_%s_one", name, pass)
		step(true)
		f.pair("SUBS $1, R14", fmt.Sprintf("BGE %s_%s_one", name, pass))
		f.label("%s_%s_done", name, pass)
	}

	pointers()
	f.op("MOVD R15, R9")
	f.zero(rows)
	columns("dot", func(single bool) {
		f.load(9, 16, 1, single)
		for i := range rows {
			f.load(1+i, 4+i, 1, single)
		}
		for i := range rows {
			f.vec("FMLA", i, 4+i, 16)
		}
	})
	sums()
	f.vec("MOV", 24, 0, 0)
	if rows == 4 {
		f.op("VLD1.P 16(R6), [V25.S4]")
	} else {
		f.op("FMOVS.P 4(R6), F25")
	}

	pointers()
	for i, r := range []int{15, 16, 17, 19, 20} {
		f.op("MOVD R%d, R%d", r, 9+i)
	}
	f.zero(rows)
	columns("update", func(single bool) {
		for i := 1; i < 5; i++ {
			f.load(9+i, 16+i, 1, single)
		}
		for i := range rows {
			if single {
				f.op("FMOVS (R%d), F%d", 1+i, 4+i)
			} else {
				f.op("VLD1 (R%d), [V%d.S4]", 1+i, 4+i)
			}
		}
		for i := range rows {
			f.vec("FMUL", 4+i, 4+i, 17)
		}
		for i := range rows {
			f.element("FMLS", 4+i, 18, 24, i)
		}
		for i := range rows {
			f.element("FMLA", 4+i, 19, 25, i)
		}
		for i := range rows {
			if single {
				f.vec("LOW", 4+i, 4+i, 0)
			}
			f.store(1+i, 4+i, 1, single)
		}
		for i := range rows {
			f.vec("FMLA", i, 4+i, 20)
		}
	})
	sums()
	if rows == 4 {
		f.op("VST1.P [V0.S4], 16(R0)")
	} else {
		f.op("FMOVS.P F0, 4(R0)")
	}
	f.op("ADD R8<<%d, R21", rows/2)
	f.pair(fmt.Sprintf("SUBS $%d, R7", rows), fmt.Sprintf("BGE %s", name))
}
