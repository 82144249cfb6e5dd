package main

import "fmt"

// tileCols is the number of rows of w, columns of dst, in a tile.
const tileCols = 4

// ntUnroll is the number of steps of k in one turn of the main loop.
const ntUnroll = 4

// weight is a storage type of w.
type weight struct {
	name string
	size int // bytes of a number
}

var weightsAVX = []weight{{"F32", 4}, {"BF16", 2}, {"F16", 2}}

// ntRows is the largest number of rows of x in a tile: accumulators, a vector of x and, in
// AVX-512, tileCols vectors of w (in AVX2 rows of x and one of w) must fit the registers.
func (s isa) ntRows() int {
	if s.regs == 32 {
		return 6
	}
	return 3
}

// ntMost is the largest number of rows of x in any tile. More rows than ntRows take fewer rows of w: they share
// each that is loaded among more products.
func (s isa) ntMost(w weight) int {
	if s.regs == 32 && w.name != "Pairs" {
		return 8
	}
	return s.ntRows()
}

// ntCols is the number of rows of w in a tile of rows rows of x.
func (s isa) ntCols(rows int) int {
	if rows > s.ntRows() {
		return 3
	}
	return tileCols
}

// ntAVX returns the file of dst = x·wᵀ.
func ntAVX(s isa) []byte {
	f := avxFile{newFile(true)}
	f.line(`
// Tiles of dot products. Output (r, c) of a tile has one vector accumulator, register %d·r+c, whose
// lane l sums the products at k ≡ l (mod %d) in ascending order; a masked last step adds zeros
// beyond k. At the end the lanes are added in pairs: distance %s. So an output's
// bits depend on its row of x and its row of w only.
//
// Register map, all functions:
//	DI	a                 CX	k steps left
//	SI	x, at k           R9, R10, R11	ldx, 3·ldx, 5·ldx
//	R8	w, at k           R12, R13, BX	offsets of rows 1, 2, 3 of w
//	DX	dst of the tile   R14, R15	prefetches: address, step
//	AX	temporary
//
// Weights that are needed later are prefetched, in the order in which the loop reads w but a.fetchStep
// bytes for each line read; if that is 0 and the rows of x are many, not at all.`, tileCols, s.lanes, map[int]string{16: "8, 4, 2, 1", 8: "1, 2, 4"}[s.lanes])
	f.ntConstants(s)
	if s.regs == 32 {
		f.line("\n// Where VPERMW finds the upper halves of 16 float32 in 32 bfloat16: of the first 16, of the others.")
		for i := range 16 {
			f.op("DATA ·ntWiden<>+%d(SB)/8, $%#016x", 8*i, uint64(2*i)<<16|uint64(2*i+1)<<48)
		}
		f.op("GLOBL ·ntWiden<>(SB), RODATA|NOPTR, $128")
	}
	for _, w := range weightsAVX {
		f.nt(s, w)
	}
	return f.Bytes()
}

func (f avxFile) ntConstants(s isa) {
	if s.regs == 32 {
		f.line(`
// Where VPERMPS finds the sums of a pair of rows: of the first in lanes 0 and 1 of every four, of
// the second in lanes 2 and 3.
DATA ·ntPick<>+0(SB)/8, $0x0000000400000000
DATA ·ntPick<>+8(SB)/8, $0x0000000c00000008
DATA ·ntPick<>+16(SB)/8, $0x0000000600000002
DATA ·ntPick<>+24(SB)/8, $0x0000000e0000000a
GLOBL ·ntPick<>(SB), RODATA|NOPTR, $32`)
		return
	}
	f.maskTable("ntMask")
}

// ntLocals are variables on the stack that begin as the argument of the same name.
var ntLocals = map[string]string{"w": "w-8(SP)", "tiles": "tiles-16(SP)", "state": "state-24(SP)", "fetch": "fetch-32(SP)"}

// nt writes the function for one weight type.
func (f avxFile) nt(s isa, w weight) {
	name := "nt" + w.name + s.name
	f.line(`
// func %s(a *ntArgs)
//
//	for a.tiles {
//		accumulators = 0, or a.state if a.resume
//		for a.steps { w, x, accumulators += x·w; prefetch }; a masked step if a.tail
//		dst = sums, or dst += sums if a.add; or a.state = accumulators if a.save
//		w, fetch += a.tileW; dst += 4 columns; state += the tile's accumulators
//	}
TEXT ·%s(SB), NOSPLIT, $32-8`, name, name)
	f.op("MOVQ a+0(FP), DI")
	f.op("MOVQ ntArgs_dst(DI), DX")
	f.op("MOVQ ntArgs_fetchStep(DI), R15")
	f.op("MOVQ ntArgs_ldx(DI), R9")
	f.op("LEAQ (R9)(R9*2), R10")
	f.op("LEAQ (R9)(R9*4), R11")
	f.op("MOVQ ntArgs_w1(DI), R12")
	f.op("MOVQ ntArgs_w2(DI), R13")
	f.op("MOVQ ntArgs_w3(DI), BX")
	if s.regs == 32 && w.name == "BF16" {
		f.op("VMOVDQU64 ·ntWiden<>(SB), Z30")
		f.op("VMOVDQU64 ·ntWiden<>+64(SB), Z31")
		f.op("MOVL $0xaaaaaaaa, AX")
		f.op("KMOVD AX, K4")
	}
	if s.regs == 32 {
		f.op("KMOVW ntArgs_tailMask(DI), K1")
		f.op("MOVL $0xff00, AX")
		f.op("KMOVW AX, K2")
		f.op("MOVL $0xcccc, AX")
		f.op("KMOVW AX, K3")
	}
	if s.ntMost(w) > s.ntRows() { // the columns of a narrow tile
		f.op("MOVL $7, AX")
		f.op("KMOVW AX, K5")
	}
	for _, v := range []string{"w", "fetch", "tiles", "state"} {
		f.op("MOVQ ntArgs_%s(DI), AX", v)
		f.op("MOVQ AX, %s", ntLocals[v])
	}
	f.op("MOVQ ntArgs_rows(DI), AX")
	for r := s.ntMost(w); r > 1; r-- {
		f.pair(fmt.Sprintf("CMPQ AX, $%d", r), fmt.Sprintf("JEQ rows%d", r))
	}
	for r := 1; r <= s.ntMost(w); r++ {
		f.ntTiles(s, w, r)
	}
	f.label("done")
	f.op("VZEROUPPER")
	f.op("RET")
}

// ntTiles writes the block that computes tiles of rows rows.
func (f avxFile) ntTiles(s isa, w weight, rows int) {
	id := fmt.Sprintf("rows%d", rows)
	cols := s.ntCols(rows)
	accs := rows * cols

	f.label("%s", id)
	f.op("MOVQ ntArgs_x(DI), SI")
	f.op("MOVQ w-8(SP), R8")
	f.op("MOVQ fetch-32(SP), R14")
	f.op("MOVQ ntArgs_steps(DI), CX")
	if rows > 7 {
		f.op("LEAQ (R10)(R9*4), BX")
	}
	f.pair("CMPQ ntArgs_resume(DI), $0", fmt.Sprintf("JNE %s_resume", id))
	f.zero(s, accs)

	f.label("%s_start", id)
	f.pair(fmt.Sprintf("SUBQ $%d, CX", ntUnroll), fmt.Sprintf("JLT %s_rest", id))
	bare := w.size == 4 && rows > s.ntRows()/2 // many rows of x may do without prefetching
	if bare {
		f.pair("TESTQ R15, R15", fmt.Sprintf("JZ %s_bare", id))
	}
	f.ntLoop(s, w, rows, id+"_loop", true)
	if bare {
		f.op("JMP %s_rest", id)
		f.ntLoop(s, w, rows, id+"_bare", false)
	}

	f.label("%s_rest", id)
	f.pair(fmt.Sprintf("ADDQ $%d, CX", ntUnroll), fmt.Sprintf("JZ %s_tail", id))
	f.label("%s_single", id)
	f.ntStep(s, w, rows, 0, false, false)
	f.ntAdvance(s, w, 1)
	f.pair("DECQ CX", fmt.Sprintf("JNZ %s_single", id))

	f.label("%s_tail", id)
	if s.maskable(w) {
		f.pair("CMPQ ntArgs_tail(DI), $0", fmt.Sprintf("JEQ %s_end", id))
		f.ntStep(s, w, rows, 0, false, true)
		f.label("%s_end", id)
	}
	f.pair("CMPQ ntArgs_save(DI), $0", fmt.Sprintf("JNE %s_save", id))
	var sums []string
	f.macro(fmt.Sprintf("REDUCE%d", rows), "", func() { sums = f.ntReduce(s, rows, cols) })
	f.pair("CMPQ ntArgs_add(DI), $0", fmt.Sprintf("JEQ %s_store", id))
	f.macro(fmt.Sprintf("ADDSUMS%d", rows), "", func() {
		f.ntEachSum(sums, func(sum, addr string) {
			if cols < tileCols {
				f.op("VADDPS %s, %s, K5, %s", addr, sum, sum)
				return
			}
			f.op("VADDPS %s, %s, %s", addr, sum, sum)
		})
	})
	f.label("%s_store", id)
	f.macro(fmt.Sprintf("STORESUMS%d", rows), "", func() {
		f.ntEachSum(sums, func(sum, addr string) {
			if cols < tileCols {
				f.op("VMOVUPS %s, K5, %s", sum, addr)
				return
			}
			f.op("VMOVUPS %s, %s", sum, addr)
		})
	})

	f.label("%s_next", id)
	f.op("ADDQ $%d, DX", cols*4)
	f.op("ADDQ $%d, state-24(SP)", accs*s.bytes())
	f.op("MOVQ ntArgs_tileW(DI), AX")
	f.op("ADDQ AX, w-8(SP)")
	f.op("ADDQ AX, fetch-32(SP)")
	f.pair("DECQ tiles-16(SP)", fmt.Sprintf("JNE %s", id))
	f.op("JMP done")

	f.label("%s_resume", id)
	f.op("MOVQ state-24(SP), AX")
	f.macro(fmt.Sprintf("RESUME%d", accs), "", func() {
		for i := range accs {
			f.op("VMOVUPS %d(AX), %s", i*s.bytes(), s.v(i))
		}
	})
	f.op("JMP %s_start", id)

	f.label("%s_save", id)
	f.op("MOVQ state-24(SP), AX")
	f.macro(fmt.Sprintf("SAVE%d", accs), "", func() {
		for i := range accs {
			f.op("VMOVUPS %s, %d(AX)", s.v(i), i*s.bytes())
		}
	})
	f.op("JMP %s_next", id)
}

// ntLoop writes the loop over the turns of ntUnroll steps; CX is the number of steps less ntUnroll.
func (f avxFile) ntLoop(s isa, w weight, rows int, label string, prefetch bool) {
	f.op("PCALIGN $32")
	f.label("%s", label)
	for i := range ntUnroll {
		f.ntStep(s, w, rows, i, true, false)
		if prefetch && (i+1)*s.lanes*w.size%64 == 0 { // the loads have passed a cache line of each row
			f.ntPrefetch(s.ntCols(rows))
		}
	}
	f.ntAdvance(s, w, ntUnroll)
	f.pair(fmt.Sprintf("SUBQ $%d, CX", ntUnroll), fmt.Sprintf("JGE %s", label))
}

// ntPrefetch prefetches a line for each row of a tile.
func (f avxFile) ntPrefetch(cols int) {
	name := "PREFETCH"
	if cols < tileCols {
		name += "_NARROW"
	}
	f.macro(name, "", func() {
		for _, row := range []string{"", "(R12*1)", "(R13*1)", "(BX*1)"}[:cols] {
			f.op("PREFETCHT1 (R14)%s", row)
		}
		f.op("ADDQ R15, R14")
	})
}

// ntAdvance moves the pointers on by steps.
func (f avxFile) ntAdvance(s isa, w weight, steps int) {
	f.op("ADDQ $%d, SI", steps*s.bytes())
	f.op("ADDQ $%d, R8", steps*w.size*s.lanes)
}

// ntStep adds one vector of k to every accumulator: that one of a turn, or what follows the turns; masked, what
// is left of k.
func (f avxFile) ntStep(s isa, w weight, rows, step int, turn, masked bool) {
	name, at, load := fmt.Sprintf("STEP_%s_%d", w.name, rows), step*w.size*s.lanes, f.loadW512
	if masked {
		name += "_MASKED"
	}
	if turn && s.regs == 32 && w.name == "BF16" && rows > 1 {
		// Many rows of x wait for multipliers, whose ports widening takes: one instruction does it, from a
		// whole line of 32 numbers.
		name += []string{"_FIRST", "_LAST"}[step%2]
		at = step / 2 * 64
		load = func(_ weight, addr string, i int, _ bool) {
			f.op("VPERMW.Z %s, Z%d, K4, Z%d", addr, 30+step%2, i)
		}
	}
	f.macro(name, "x, w", func() { f.ntStepBody(s, w, rows, masked, load) }, step*s.bytes(), at)
}

// ntStepBody writes a step for x and w that many bytes behind their pointers; load loads 16 weights for several
// rows of x.
func (f avxFile) ntStepBody(s isa, w weight, rows int, masked bool, load func(w weight, addr string, i int, masked bool)) {
	xAddr := []string{"x(SI)", "x(SI)(R9*1)", "x(SI)(R9*2)", "x(SI)(R10*1)", "x(SI)(R9*4)", "x(SI)(R11*1)", "x(SI)(R10*2)", "x(SI)(BX*1)"}
	wAddr := []string{"w(R8)", "w(R8)(R12*1)", "w(R8)(R13*1)", "w(R8)(BX*1)"}
	fma := func(w string, x int, acc int) { f.op("VFMADD231PS %s, %s, %s", w, s.v(x), s.v(acc)) }
	cols := s.ntCols(rows)
	pairs := w.name == "Pairs"
	mask := ""
	if masked {
		mask = "_MASKED"
	}
	switch {
	case s.regs == 32 && rows == 1:
		f.load512("VMOVUPS", xAddr[0], 31, masked)
		for c := range tileCols {
			if w.size == 4 && !masked && !pairs {
				fma(wAddr[c], 31, c)
				continue
			}
			f.loadW512(w, wAddr[c], 16+c, masked)
			if pairs {
				f.dotBF16(16+c, 31, c)
			} else {
				fma(s.v(16+c), 31, c)
			}
		}
	case s.regs == 32:
		for c := range cols {
			load(w, wAddr[c], 24+c, masked)
		}
		f.macro(fmt.Sprintf("PRODUCTS%d%s", rows, mask), "x", func() {
			for r := range rows {
				x := 28 + r%2
				f.load512("VMOVUPS", xAddr[r], x, masked)
				for c := range cols {
					if pairs {
						f.dotBF16(24+c, x, r*cols+c)
					} else {
						fma(s.v(24+c), x, r*cols+c)
					}
				}
			}
		}, "x")
	default:
		if masked {
			f.op("LEAQ ·ntMask<>+32(SB), AX")
			f.op("MOVQ ntArgs_tail(DI), CX")
			f.op("SHLQ $2, CX")
			f.op("SUBQ CX, AX")
			f.op("VMOVUPS (AX), Y15")
		}
		for r := range rows {
			if masked {
				f.op("VMASKMOVPS %s, Y15, Y%d", xAddr[r], 12+r)
			} else {
				f.op("VMOVUPS %s, Y%d", xAddr[r], 12+r)
			}
		}
		for c := range tileCols {
			switch {
			case masked:
				f.op("VMOVUPS (AX), Y15")
				f.op("VMASKMOVPS %s, Y15, Y15", wAddr[c])
			case w.name == "BF16":
				f.op("VPMOVZXWD %s, Y15", wAddr[c])
				f.op("VPSLLD $16, Y15, Y15")
			case w.name == "F16":
				f.op("VCVTPH2PS %s, Y15", wAddr[c])
			case rows == 1:
				fma(wAddr[c], 12, c)
				continue
			default:
				f.op("VMOVUPS %s, Y15", wAddr[c])
			}
			for r := range rows {
				fma("Y15", 12+r, r*tileCols+c)
			}
		}
	}
}

// load512 loads register i by an instruction that can be masked.
func (f avxFile) load512(inst, addr string, i int, masked bool) {
	if masked {
		f.op("%s.Z %s, K1, Z%d", inst, addr, i)
	} else {
		f.op("%s %s, Z%d", inst, addr, i)
	}
}

// loadW512 loads 16 weights into register i as float32.
func (f avxFile) loadW512(w weight, addr string, i int, masked bool) {
	switch w.name {
	case "F32", "Pairs":
		f.load512("VMOVUPS", addr, i, masked)
	case "BF16": // the upper half of a float32
		f.load512("VPMOVZXWD", addr, i, masked)
		f.op("VPSLLD $16, Z%d, Z%d", i, i)
	case "F16":
		f.load512("VCVTPH2PS", addr, i, masked)
	}
}

// ntReduce adds the lanes of the accumulators and returns, for each row of the tile, the register
// with its sums.
func (f avxFile) ntReduce(s isa, rows, cols int) []string {
	var sums []string
	if s.regs == 16 {
		// The sums of a row's four accumulators: neighbours, then pairs, then halves.
		for r := range rows {
			a, t := r*tileCols, 12+r%4
			f.op("VHADDPS Y%d, Y%d, Y%d", a+1, a, a)
			f.op("VHADDPS Y%d, Y%d, Y%d", a+3, a+2, a+2)
			f.op("VHADDPS Y%d, Y%d, Y%d", a+2, a, a)
			f.op("VEXTRACTF128 $1, Y%d, X%d", a, t)
			f.op("VADDPS X%d, X%d, X%d", t, a, a)
			sums = append(sums, fmt.Sprintf("X%d", a))
		}
		return sums
	}
	// A row's accumulators a, b, c, d: [a b] and [c d] of 8 lanes, then [a b c d] of 4. Without d, c is in its place.
	for r := range rows {
		a := r * cols
		for i := a; i < a+cols; i += 2 {
			next := min(i+1, a+cols-1)
			f.op("VBLENDMPS Z%d, Z%d, K2, Z24", next, i)
			f.op("VSHUFF64X2 $0x4e, Z%d, Z%d, Z25", next, i)
			f.op("VADDPS Z25, Z24, Z%d", i)
		}
		f.op("VSHUFF64X2 $0x88, Z%d, Z%d, Z24", a+2, a)
		f.op("VSHUFF64X2 $0xdd, Z%d, Z%d, Z25", a+2, a)
		f.op("VADDPS Z25, Z24, Z%d", a)
	}
	// Two rows together, to 2 lanes a sum, then 1, then the sums next to each other.
	f.op("VMOVUPS ·ntPick<>(SB), Y26")
	for r := 0; r < rows; r += 2 {
		a, b := r*cols, min(r+1, rows-1)*cols
		f.op("VBLENDMPS Z%d, Z%d, K3, Z24", b, a)
		f.op("VSHUFPD $0x55, Z%d, Z%d, Z25", b, a)
		f.op("VADDPS Z25, Z24, Z24")
		f.op("VPERMILPS $0xb1, Z24, Z25")
		f.op("VADDPS Z25, Z24, Z24")
		f.op("VPERMPS Z24, Z26, Z%d", a)
		sums = append(sums, fmt.Sprintf("X%d", a))
		if r+1 < rows {
			f.op("VEXTRACTF32X4 $1, Y%d, X%d", a, a+1)
			sums = append(sums, fmt.Sprintf("X%d", a+1))
		}
	}
	return sums
}

// ntEachSum does do with every register of sums and its place in dst.
func (f avxFile) ntEachSum(sums []string, do func(sum, addr string)) {
	f.op("MOVQ DX, AX")
	for i, sum := range sums {
		if i > 0 {
			f.op("ADDQ ntArgs_ldd(DI), AX")
		}
		do(sum, "(AX)")
	}
}
