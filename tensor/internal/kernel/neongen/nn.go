package main

import "fmt"

// nnVecs is, for each number of rows of a in a tile (from 1), the largest number of vectors of
// b's columns: the accumulators, a vector of each row of a and two of b fit the registers.
var nnVecs = []int{8, 8, 4, 4, 4, 4}

// nn returns the file of dst = a·b.
func nn() []byte {
	f := newFile("#include \"go_asm.h\"\n")
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
	for r := 1; r < len(nnVecs); r++ {
		f.op("ADD R6, R%d, R%d", 18+r, 19+r)
	}
	f.op("MOVD nnArgs_rows(R0), R6")
	for r := range nnVecs {
		f.op("CMP $%d, R6", r+1)
		f.op("BEQ rows%d", r+1)
	}
	f.label("done")
	f.op("RET")
	for r, most := range nnVecs {
		rows := r + 1
		f.label("rows%d", rows)
		f.op("MOVD nnArgs_vecs(R0), R6")
		for v := 2; v <= most; v++ {
			f.op("CMP $%d, R6", v)
			f.op("BEQ rows%dx%d", rows, v)
		}
		for v := 1; v <= most; v++ {
			f.nnTile(rows, v)
		}
	}
	return f.Bytes()
}

// nnTile writes a tile's block.
func (f *asm) nnTile(rows, vecs int) {
	id := fmt.Sprintf("rows%dx%d", rows, vecs)
	f.label("%s", id)
	f.op("MOVD nnArgs_resume(R0), R6")
	f.op("CBNZ R6, %s_resume", id)
	for i := range rows * vecs {
		f.zero(i)
	}

	f.label("%s_start", id)
	f.op("SUBS $4, R5")
	f.op("BLT %s_rest", id)
	f.op("PCALIGN $16")
	f.label("%s_loop", id)
	f.nnStep(rows, vecs, 4)
	f.op("SUBS $4, R5")
	f.op("BGE %s_loop", id)
	f.label("%s_rest", id)
	f.op("ADDS $4, R5")
	f.op("BEQ %s_end", id)
	f.label("%s_single", id)
	f.nnStep(rows, vecs, 1)
	f.op("SUBS $1, R5")
	f.op("BNE %s_single", id)

	f.label("%s_end", id)
	f.op("MOVD nnArgs_add(R0), R6")
	f.op("CBZ R6, %s_store", id)
	f.nnEach(rows, vecs, func(acc int, addr string) {
		f.op("FMOVQ %s, F31", addr)
		f.vec("FADD", acc, acc, 31)
	})
	f.label("%s_store", id)
	f.nnEach(rows, vecs, func(acc int, addr string) { f.op("FMOVQ F%d, %s", acc, addr) })
	f.op("B done")

	f.label("%s_resume", id)
	f.nnEach(rows, vecs, func(acc int, addr string) { f.op("FMOVQ %s, F%d", addr, acc) })
	f.op("B %s_start", id)
}

// nnEach does do with every accumulator and its place in dst.
func (f *asm) nnEach(rows, vecs int, do func(acc int, addr string)) {
	f.op("MOVD R1, R25")
	for r := range rows {
		for v := range vecs {
			do(r*vecs+v, fmt.Sprintf("%d(R25)", 16*v))
		}
		if r < rows-1 {
			f.op("ADD R4, R25")
		}
	}
}

// nnStep adds the products at 4 numbers of k, or 1, and moves the pointers on. Vectors of b are
// loaded as far ahead of their use as there are registers, at most 4.
func (f *asm) nnStep(rows, vecs, numbers int) {
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
		for r := range rows {
			f.element("FMLA", r*vecs+i%vecs, b+i%(ahead+1), a+r, i/vecs)
		}
	}
}
