package main

import (
	"fmt"
	"strings"
)

// nnVecsNEON is, for each number of rows of a in a tile (from 1), the largest number of vectors of
// b's columns: the accumulators, a vector of each row of a and two of b fit the registers.
var nnVecsNEON = []int{8, 8, 4, 4, 4, 4}

// nnNEON returns the file of dst = a·b.
func nnNEON() []byte {
	f := neonFile{newFile(true)}
	f.line(`
// func nnNEON(t *nnArgs)
//
// A tile of rows of a by vectors of b's columns:
//
//	accumulators = 0, or dst if t.resume
//	for t.k, 4 at a time { load 4 numbers of each row of a; for each { load a row of b's vectors; accumulators += number · vectors } }
//	for the rest of t.k { the same with 1 number }
//	dst = accumulators, or dst += accumulators if t.add
//
// The accumulator of row r and vector v is register vecs·r+v; a row's numbers of a are in register
// vecs·rows+r, vectors of b in those after them, loaded ahead. Every element sums over k in ascending
// order.
//
//	R0	t                  R5	k left
//	R1	dst                R6	temporary
//	R2	b, at k            R19–R24	rows of a, at k
//	R3	ldb                R25	dst, by rows
//	R4	ldd
TEXT ·nnNEON(SB), NOSPLIT, $0-8`)
	f.op("MOVD t+0(FP), R0")
	f.op("MOVD nnArgs_dst(R0), R1")
	f.op("MOVD nnArgs_b(R0), R2")
	f.op("MOVD nnArgs_ldb(R0), R3")
	f.op("MOVD nnArgs_ldd(R0), R4")
	f.op("MOVD nnArgs_k(R0), R5")
	f.op("MOVD nnArgs_a(R0), R19")
	f.op("MOVD nnArgs_lda(R0), R6")
	for r := 1; r < len(nnVecsNEON); r++ {
		f.op("ADD R6, R%d, R%d", 18+r, 19+r)
	}
	f.op("MOVD nnArgs_rows(R0), R6")
	for r := range nnVecsNEON {
		f.pair(fmt.Sprintf("CMP $%d, R6", r+1), fmt.Sprintf("BEQ rows%d", r+1))
	}
	f.label("done")
	f.op("RET")
	for r, most := range nnVecsNEON {
		rows := r + 1
		f.label("rows%d", rows)
		f.op("MOVD nnArgs_vecs(R0), R6")
		for v := 2; v <= most; v++ {
			f.pair(fmt.Sprintf("CMP $%d, R6", v), fmt.Sprintf("BEQ rows%dx%d", rows, v))
		}
		for v := 1; v <= most; v++ {
			f.nnTile(rows, v)
		}
	}
	return f.Bytes()
}

// nnTile writes a tile's block.
func (f neonFile) nnTile(rows, vecs int) {
	id := fmt.Sprintf("rows%dx%d", rows, vecs)
	f.label("%s", id)
	f.pair("MOVD nnArgs_resume(R0), R6", fmt.Sprintf("CBNZ R6, %s_resume", id))
	f.zero(rows * vecs)

	f.label("%s_start", id)
	f.pair("SUBS $4, R5", fmt.Sprintf("BLT %s_rest", id))
	f.op("PCALIGN $16")
	f.label("%s_loop", id)
	f.pack(func() { f.nnStep(rows, vecs, 4) })
	f.pair("SUBS $4, R5", fmt.Sprintf("BGE %s_loop", id))
	f.label("%s_rest", id)
	f.pair("ADDS $4, R5", fmt.Sprintf("BEQ %s_end", id))
	f.label("%s_single", id)
	f.pack(func() { f.nnStep(rows, vecs, 1) })
	f.pair("SUBS $1, R5", fmt.Sprintf("BNE %s_single", id))

	f.label("%s_end", id)
	f.pair("MOVD nnArgs_add(R0), R6", fmt.Sprintf("CBZ R6, %s_store", id))
	f.nnEach("ADD", rows, vecs, func(_, number, addr string) {
		f.op("FMOVQ %s, F31", addr)
		f.vec("FADD", number, number, 31)
	})
	f.label("%s_store", id)
	f.nnEach("STORE", rows, vecs, func(reg, _, addr string) { f.op("FMOVQ %s, %s", reg, addr) })
	f.op("B done")

	f.label("%s_resume", id)
	f.nnEach("RESUME", rows, vecs, func(reg, _, addr string) { f.op("FMOVQ %s, %s", addr, reg) })
	f.op("B %s_start", id)
}

// nnEach does do with the accumulators of every row and their places in dst: a macro for each row, of as
// many registers. It gives do the register's name, and its number as an expression.
func (f neonFile) nnEach(name string, rows, vecs int, do func(reg, number, addr string)) {
	params := []string{"n"}
	for v := range vecs {
		params = append(params, fmt.Sprintf("f%d", v))
	}
	f.op("MOVD R1, R25")
	for r := range rows {
		args := []any{r * vecs}
		for v := range vecs {
			args = append(args, fmt.Sprintf("F%d", r*vecs+v))
		}
		f.macro(fmt.Sprintf("%s%d", name, vecs), strings.Join(params, ", "), func() {
			for v := range vecs {
				do(params[1+v], fmt.Sprintf("n+%d", v), fmt.Sprintf("%d(R25)", 16*v))
			}
		}, args...)
		if r < rows-1 {
			f.append("ADD R4, R25")
		}
	}
}

// nnStep adds the products at 4 numbers of k, or 1, and moves the pointers on. Vectors of b are
// loaded as far ahead of their use as there are registers, at most 4.
func (f neonFile) nnStep(rows, vecs, numbers int) {
	a := rows * vecs
	b := a + rows
	ahead := min(32-b, 5) - 1
	loaded := 0
	load := func(until int) {
		for ; loaded < min(until, numbers*vecs); loaded++ {
			v := loaded % vecs
			f.op("FMOVQ %d(R2), F%d", 16*v, b+loaded%(ahead+1))
			if v == vecs-1 {
				f.op("ADD R3, R2")
			}
		}
	}
	for r := range rows {
		if numbers == 4 {
			f.op("FMOVQ.P 16(R%d), F%d", 19+r, a+r)
		} else {
			f.op("FMOVS.P 4(R%d), F%d", 19+r, a+r)
		}
	}
	for i := range numbers * vecs {
		load(i + 1 + ahead)
		f.macro(fmt.Sprintf("PRODUCTS%dx%d", rows, vecs), "d, n, m, lane", func() {
			for r := range rows {
				f.element("FMLA", fmt.Sprintf("d+%d", r*vecs), "n", fmt.Sprintf("m+%d", r), "lane")
			}
		}, i%vecs, b+i%(ahead+1), a, i/vecs)
	}
}
