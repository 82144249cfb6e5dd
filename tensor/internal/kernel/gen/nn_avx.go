package main

import (
	"fmt"
	"strings"
)

// nnVecs is, for each number of rows of a in a tile (from 1), the largest number of vectors of
// b's columns: the accumulators, the vectors and a broadcast number of a fit the registers.
func (s isa) nnVecs() []int {
	if s.regs == 32 {
		return []int{8, 8, 3, 3, 3, 3, 3, 3}
	}
	return []int{8, 4, 3, 3}
}

// nnUnroll is the number of steps of k in one turn of the main loop.
const nnUnroll = 4

// nnAVX returns the file of dst = a·b.
func nnAVX(s isa) []byte {
	f := avxFile{newFile(true)}
	name := "nn" + s.name
	last := "The last vector is loaded and stored behind\n// mask K1."
	if s.regs == 16 {
		last = "With a.mask, the\n// tile is one vector wide, loaded and stored behind that mask."
		f.maskTable("nnMask")
	}
	f.line(`
// func %s(t *nnArgs)
//
// A tile of rows of a by vectors of b's columns:
//
//	accumulators = 0, or dst if t.resume
//	for t.k { load a row of b's vectors; for each row of a { accumulators += broadcast a · vectors } }
//	dst = accumulators, or dst += accumulators if t.add
//
// Tiles of more than two rows fetch into the cache what will be needed: their part of dst; if t.ahead, each row
// of b eight steps before its use; every 16 steps, a cache line of each row that lies t.next behind a's.
//
// The accumulator of row r and vector v is register vecs·r+v. Every element sums over k in ascending
// order. %s
//
//	DI	t                  CX	k steps left
//	SI	a, at k            R9, R10, R11, R12	lda, 3·lda, 5·lda, 7·lda
//	R8	b, at k            R13	ldb
//	DX	dst                BX	ldd
//	R14	step of a          R15	next
//	AX	temporary
TEXT ·%s(SB), NOSPLIT, $0-8`, name, last, name)
	f.op("MOVQ t+0(FP), DI")
	f.op("MOVQ nnArgs_dst(DI), DX")
	f.op("MOVQ nnArgs_a(DI), SI")
	f.op("MOVQ nnArgs_b(DI), R8")
	f.op("MOVQ nnArgs_lda(DI), R9")
	f.op("LEAQ (R9)(R9*2), R10")
	f.op("LEAQ (R9)(R9*4), R11")
	f.op("LEAQ (R10)(R9*4), R12")
	f.op("MOVQ nnArgs_ldb(DI), R13")
	f.op("MOVQ nnArgs_ldd(DI), BX")
	f.op("MOVQ nnArgs_step(DI), R14")
	f.op("MOVQ nnArgs_next(DI), R15")
	f.op("MOVQ nnArgs_k(DI), CX")
	if s.regs == 32 {
		f.op("KMOVW nnArgs_mask(DI), K1")
	}
	f.op("MOVQ nnArgs_rows(DI), AX")
	for r := range s.nnVecs() {
		f.pair(fmt.Sprintf("CMPQ AX, $%d", r+1), fmt.Sprintf("JEQ rows%d", r+1))
	}
	f.line("")
	f.line("\t// Tiles leave here.")
	f.label("done")
	f.op("VZEROUPPER")
	f.op("RET")
	for r, most := range s.nnVecs() {
		rows := r + 1
		f.label("rows%d", rows)
		if s.regs == 16 {
			f.op("MOVQ nnArgs_mask(DI), AX")
			f.pair("TESTQ AX, AX", fmt.Sprintf("JNZ rows%dmasked", rows))
		}
		f.op("MOVQ nnArgs_vecs(DI), AX")
		for v := 2; v <= most; v++ {
			f.pair(fmt.Sprintf("CMPQ AX, $%d", v), fmt.Sprintf("JEQ rows%dx%d", rows, v))
		}
		for v := 1; v <= most; v++ {
			f.nnTile(s, rows, v, false)
		}
		if s.regs == 16 {
			f.nnTile(s, rows, 1, true)
		}
	}
	return f.Bytes()
}

// nnTile writes a tile's block. In AVX2 it is masked or not as the argument says; in AVX-512 the
// last vector always is.
func (f avxFile) nnTile(s isa, rows, vecs int, masked bool) {
	id := fmt.Sprintf("rows%dx%d", rows, vecs)
	if masked {
		id = fmt.Sprintf("rows%dmasked", rows)
	}
	f.label("%s", id)
	if masked {
		f.op("LEAQ ·nnMask<>+32(SB), R10") // rows are at most 4: one of 3·lda, needed, is restored
		f.op("SHLQ $2, AX")
		f.op("SUBQ AX, R10")
		f.op("VMOVUPS (R10), Y14")
		f.op("LEAQ (R9)(R9*2), R10")
	}
	f.pair("CMPQ nnArgs_resume(DI), $0", fmt.Sprintf("JNE %s_resume", id))
	f.zero(s, rows*vecs)
	fetch := rows > 2 // fewer are mostly alone
	if fetch {
		f.op("MOVQ DX, AX")
		f.pack(func() {
			for range rows {
				f.macro(fmt.Sprintf("FETCH%d", vecs), "", func() { f.nnFetch(s, vecs, "BX") })
			}
		})
	}

	f.label("%s_start", id)
	f.pair(fmt.Sprintf("SUBQ $%d, CX", nnUnroll), fmt.Sprintf("JLT %s_rest", id))
	f.op("PCALIGN $32")
	f.label("%s_loop", id)
	for range nnUnroll {
		f.nnStep(s, rows, vecs, masked)
	}
	if fetch {
		f.nnAhead(s, rows, vecs, id)
	}
	f.pair(fmt.Sprintf("SUBQ $%d, CX", nnUnroll), fmt.Sprintf("JGE %s_loop", id))
	f.label("%s_rest", id)
	f.pair(fmt.Sprintf("ADDQ $%d, CX", nnUnroll), fmt.Sprintf("JZ %s_end", id))
	f.label("%s_single", id)
	f.nnStep(s, rows, vecs, masked)
	f.pair("DECQ CX", fmt.Sprintf("JNZ %s_single", id))

	f.label("%s_end", id)
	f.pair("CMPQ nnArgs_add(DI), $0", fmt.Sprintf("JEQ %s_store", id))
	f.op("MOVQ DX, AX")
	f.nnEach(s, "ADD", rows, vecs, masked, func(acc, addr string, mask bool) {
		t := s.v(s.regs - 1)
		f.nnLoad(s, addr, t, mask)
		f.op("VADDPS %s, %s, %s", t, acc, acc)
	})
	f.label("%s_store", id)
	f.op("MOVQ DX, AX")
	f.nnEach(s, "STORE", rows, vecs, masked, func(acc, addr string, mask bool) {
		switch {
		case !mask:
			f.op("VMOVUPS %s, %s", acc, addr)
		case s.regs == 32:
			f.op("VMOVUPS %s, K1, %s", acc, addr)
		default:
			f.op("VMASKMOVPS %s, Y14, %s", acc, addr)
		}
	})
	f.op("JMP done")

	f.label("%s_resume", id)
	f.op("MOVQ DX, AX")
	f.nnEach(s, "RESUME", rows, vecs, masked, func(acc, addr string, mask bool) { f.nnLoad(s, addr, acc, mask) })
	f.op("JMP %s_start", id)
}

// nnEach does do with every accumulator and its place in dst, from AX on: a macro for each row, of so many
// registers.
func (f avxFile) nnEach(s isa, name string, rows, vecs int, masked bool, do func(acc, addr string, mask bool)) {
	name = fmt.Sprintf("%s%d", name, vecs)
	if masked {
		name += "_MASKED"
	}
	var params []string
	for v := range vecs {
		params = append(params, fmt.Sprintf("v%d", v))
	}
	for r := range rows {
		var regs []any
		for v := range vecs {
			regs = append(regs, s.v(r*vecs+v))
		}
		f.macro(name, strings.Join(params, ", "), func() {
			for v := range vecs {
				do(params[v], fmt.Sprintf("%d(AX)", v*s.bytes()), masked || s.regs == 32 && v == vecs-1)
			}
		}, regs...)
		if r < rows-1 {
			f.append("ADDQ BX, AX")
		}
	}
}

// nnLoad loads a vector of b or dst.
func (f avxFile) nnLoad(s isa, addr, reg string, mask bool) {
	switch {
	case !mask:
		f.op("VMOVUPS %s, %s", addr, reg)
	case s.regs == 32:
		f.op("VMOVUPS.Z %s, K1, %s", addr, reg)
	default:
		f.op("VMASKMOVPS %s, Y14, %s", addr, reg)
	}
}

// nnAhead writes what a turn of the main loop fetches ahead.
func (f avxFile) nnAhead(s isa, rows, vecs int, id string) {
	f.pair("CMPQ nnArgs_ahead(DI), $0", fmt.Sprintf("JEQ %s_known", id))
	f.macro(fmt.Sprintf("AHEAD%d", vecs), "", func() {
		f.op("LEAQ (R8)(R13*8), AX")
		for range nnUnroll {
			f.nnFetch(s, vecs, "R13")
		}
	})
	f.label("%s_known", id)
	f.pair(fmt.Sprintf("TESTQ $%d, CX", 64/4-nnUnroll), fmt.Sprintf("JNZ %s_next", id))
	f.macro(fmt.Sprintf("NEXT%d", rows), "", func() {
		f.op("LEAQ (SI)(R15*1), AX")
		for _, addr := range nnRows("AX")[:rows] {
			f.op("PREFETCHT0 %s", addr)
		}
	})
	f.label("%s_next", id)
}

// nnFetch prefetches the cache lines of some vectors from AX on, and moves AX by a register.
func (f avxFile) nnFetch(s isa, vecs int, by string) {
	for at := 0; at < vecs*s.bytes(); at += 64 {
		f.op("PREFETCHT0 %d(AX)", at)
	}
	f.op("ADDQ %s, AX", by)
}

// nnRows returns the addresses of numbers in eight rows of a, the first at a register.
func nnRows(reg string) []string {
	rows := []string{"", "(R9*1)", "(R9*2)", "(R10*1)", "(R9*4)", "(R11*1)", "(R10*2)", "(R12*1)"}
	for i := range rows {
		rows[i] = "(" + reg + ")" + rows[i]
	}
	return rows
}

// nnStep adds the products at one k and moves a and b on.
func (f avxFile) nnStep(s isa, rows, vecs int, masked bool) {
	name := fmt.Sprintf("STEP%dx%d", rows, vecs)
	if masked {
		name += "_MASKED"
	}
	f.macro(name, "", func() { f.nnStepBody(s, rows, vecs, masked) })
}

// nnStepBody writes a step.
func (f avxFile) nnStepBody(s isa, rows, vecs int, masked bool) {
	aAddr := nnRows("SI")
	isMasked := func(v int) bool { return masked || s.regs == 32 && v == vecs-1 }
	bReg := func(v int) string { return s.v(rows*vecs + v) }
	if rows == 1 { // each vector of b is used once, from memory if it can be
		bReg = func(int) string { return s.v(vecs) }
	}
	for v := range vecs {
		if rows > 1 {
			f.nnLoad(s, fmt.Sprintf("%d(R8)", v*s.bytes()), bReg(v), isMasked(v))
		}
	}
	for r := range rows {
		broadcast := s.v(s.regs - 1)
		if s.regs == 32 { // several in turn
			broadcast = s.v(s.regs - 1 - r%4)
		}
		f.op("VBROADCASTSS %s, %s", aAddr[r], broadcast)
		for v := range vecs {
			b := bReg(v)
			if rows == 1 {
				addr := fmt.Sprintf("%d(R8)", v*s.bytes())
				if isMasked(v) {
					f.nnLoad(s, addr, b, true)
				} else {
					b = addr
				}
			}
			f.op("VFMADD231PS %s, %s, %s", b, broadcast, s.v(r*vecs+v))
		}
	}
	f.op("ADDQ R13, R8")
	f.op("ADDQ R14, SI")
}
