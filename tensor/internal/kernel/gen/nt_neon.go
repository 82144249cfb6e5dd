package main

import "fmt"

// ntRowsNEON is the largest number of rows of x in a tile: 24 accumulators, 4 vectors of w and 4
// of x in turn take all registers.
const ntRowsNEON = 6

// weightNEON is a storage type of w.
type weightNEON struct {
	name string
	size int    // bytes of a number
	op   string // that widens four; op+"2" the upper four
}

var weightsNEON = []weightNEON{{"F32", 4, ""}, {"BF16", 2, "SHLL"}, {"F16", 2, "FCVTL"}}

// line is how many numbers of w a cache line has: those of a turn of the main loop.
func (w weightNEON) line() int { return 64 / w.size }

// ntNEON returns the file of dst = x·wᵀ.
func ntNEON() []byte {
	f := neonFile{newFile(true)}
	f.line(`
// Tiles of dot products. Output (r, c) of a tile has one vector accumulator, whose lane l sums the
// products at k ≡ l (mod 4) in ascending order as far as k fills vectors; lane 0 goes on with the
// numbers after them. At the end the lanes are added: (0 + 1) + (2 + 3). So an output's bits depend
// on its row of x and its row of w only.
//
// Register map, all functions:
//	R0	a                  R7	numbers of k left
//	R1	dst of the tile    R8–R11	rows of w at k
//	R2	w of the tile      R12–R15	of the second tile
//	R3	tiles left         R19–R24	rows of x at k
//	R4	tileW              R16	temporary
//	R5	ahead              R17	ldd
//	V4·r+c	accumulator of row r, column c
//	V24–V27	vectors of w   V28–V31	vectors of x, in turn
// and for one row of x, two tiles at a time:
//	V0–V7	accumulators   V8–V23	two vectors of each row of w
//	V24–V27	16-bit weights V28, V29	vectors of x
//
// A turn of the main loop takes a cache line of each row of w, and asks for the line that is
// a.ahead bytes further.`)
	for _, w := range weightsNEON {
		f.nt(w)
	}
	return f.Bytes()
}

// nt writes the function for one weight type.
func (f neonFile) nt(w weightNEON) {
	name := "nt" + w.name + "NEON"
	f.line(`
// func %s(a *ntArgs)
//
//	for a.tiles {
//		accumulators = 0
//		for lines of k { prefetch; accumulators += x·w, 4 or 8 numbers a step }
//		for vectors of k { the same, 4 numbers }; for the rest { the same, 1 number in lane 0 }
//		dst = sums of the accumulators, or dst += them if a.add
//		w += a.tileW; dst += 4 columns
//	}
TEXT ·%s(SB), NOSPLIT, $0-8`, name, name)
	f.op("MOVD a+0(FP), R0")
	f.op("MOVD ntArgs_dst(R0), R1")
	f.op("MOVD ntArgs_w(R0), R2")
	f.op("MOVD ntArgs_tiles(R0), R3")
	f.op("MOVD ntArgs_tileW(R0), R4")
	f.op("MOVD ntArgs_ahead(R0), R5")
	f.op("MOVD ntArgs_ldd(R0), R17")
	f.op("MOVD ntArgs_rows(R0), R16")
	for r := ntRowsNEON; r > 1; r-- {
		f.pair(fmt.Sprintf("CMP $%d, R16", r), fmt.Sprintf("BEQ rows%d", r))
	}
	f.line("")
	f.line("\t// One row: two tiles at a time, for enough accumulators to hide the multiply-add's latency.")
	f.pair("CMP $2, R3", "BLT rows1")
	f.ntTiles(w, 1, 2)
	for r := 1; r <= ntRowsNEON; r++ {
		f.ntTiles(w, r, 1)
	}
	f.label("done")
	f.op("RET")
}

// ntTiles writes the block that computes tiles of rows rows, wide of them at a time.
func (f neonFile) ntTiles(w weightNEON, rows, wide int) {
	id := fmt.Sprintf("rows%d", rows)
	if wide > 1 {
		id = fmt.Sprintf("rows%dx%d", rows, wide)
	}
	cols := wide * tileCols

	f.label("%s", id)
	f.op("MOVD ntArgs_x(R0), R19")
	if rows > 1 {
		f.op("MOVD ntArgs_ldx(R0), R16")
		for r := 1; r < rows; r++ {
			f.op("ADD R16, R%d, R%d", 18+r, 19+r)
		}
	}
	f.op("MOVD R2, R8")
	for c := 1; c < tileCols; c++ {
		f.op("MOVD ntArgs_w%d(R0), R16", c)
		f.op("ADD R16, R2, R%d", 8+c)
	}
	for c := tileCols; c < cols; c++ {
		f.op("ADD R4, R%d, R%d", 8+c-tileCols, 8+c)
	}
	f.zero(rows * cols)
	f.op("MOVD ntArgs_k(R0), R7")

	f.pair(fmt.Sprintf("SUBS $%d, R7", w.line()), fmt.Sprintf("BLT %s_vectors", id))
	f.op("PCALIGN $16")
	f.label("%s_line", id)
	for c := range cols {
		f.prefetch(8+c, 5, rows == 1)
	}
	if rows == 1 {
		for i := 0; i < w.line(); i += 8 {
			f.ntPair(w, cols, i)
		}
	} else {
		for i := 0; i < w.line(); i += 4 {
			f.ntStep(w, rows, cols, i, 4)
		}
	}
	f.ntAdvance(w, rows, cols, w.line())
	f.pair(fmt.Sprintf("SUBS $%d, R7", w.line()), fmt.Sprintf("BGE %s_line", id))

	f.label("%s_vectors", id)
	f.op("ADD $%d, R7", w.line())
	f.pair("SUBS $4, R7", fmt.Sprintf("BLT %s_rest", id))
	f.label("%s_vector", id)
	f.ntStep(w, rows, cols, 0, 4)
	f.ntAdvance(w, rows, cols, 4)
	f.pair("SUBS $4, R7", fmt.Sprintf("BGE %s_vector", id))

	f.label("%s_rest", id)
	f.pair("ADDS $4, R7", fmt.Sprintf("BEQ %s_end", id))
	f.label("%s_number", id)
	f.ntStep(w, rows, cols, 0, 1)
	f.ntAdvance(w, rows, cols, 1)
	f.pair("SUBS $1, R7", fmt.Sprintf("BNE %s_number", id))

	f.label("%s_end", id)
	quads := rows * wide // of accumulators, each summed into its first
	f.macro(fmt.Sprintf("REDUCE%d", quads), "", func() {
		for q := range quads {
			f.vec("FADDP", 4*q, 4*q, 4*q+1)
			f.vec("FADDP", 4*q+2, 4*q+2, 4*q+3)
		}
		for q := range quads {
			f.vec("FADDP", 4*q, 4*q, 4*q+2)
		}
	})
	f.pair("MOVD ntArgs_add(R0), R16", fmt.Sprintf("CBZ R16, %s_store", id))
	f.macro(fmt.Sprintf("ADDSUMS%dx%d", rows, wide), "", func() {
		f.ntEachSum(rows, wide, func(sum int, addr string) {
			f.op("FMOVQ %s, F31", addr)
			f.vec("FADD", sum, sum, 31)
		})
	})
	f.label("%s_store", id)
	f.macro(fmt.Sprintf("STORESUMS%dx%d", rows, wide), "", func() {
		f.ntEachSum(rows, wide, func(sum int, addr string) { f.op("FMOVQ F%d, %s", sum, addr) })
	})

	f.op("ADD $%d, R1", 4*cols)
	for range wide {
		f.op("ADD R4, R2")
	}
	f.op("SUB $%d, R3", wide)
	if wide > 1 {
		f.op("CMP $%d, R3", wide)
		f.op("BGE %s", id)
		f.op("CBNZ R3, rows%d", rows)
	} else {
		f.op("CBNZ R3, %s", id)
	}
	f.op("B done")
}

// ntStep adds the products of 4 numbers of k, or 1, that lie at numbers behind the pointers.
func (f neonFile) ntStep(w weightNEON, rows, cols, at, numbers int) {
	name := fmt.Sprintf("STEP_%s_%dx%d", w.name, rows, cols)
	if numbers == 1 {
		name += "_SINGLE"
	}
	f.macro(name, "x, w", func() { f.ntStepBody(w, rows, cols, numbers) }, 4*at, w.size*at)
}

// ntStepBody writes a step for x and w that many bytes behind their pointers.
func (f neonFile) ntStepBody(w weightNEON, rows, cols, numbers int) {
	load, single := "FMOVQ", ""
	if numbers == 1 {
		load, single = "FMOVS", "_SINGLE"
	}
	x := func(r int) { f.op("%s x(R%d), F%d", load, 19+r, 28+r%4) }
	for c0 := 0; c0 < cols; c0 += tileCols {
		for c := c0; c < c0+tileCols; c++ {
			reg := 24 + c%tileCols
			switch {
			case w.size == 4:
				f.op("%s w(R%d), F%d", load, 8+c, reg)
			case numbers == 4:
				f.op("FMOVD w(R%d), F%d", 8+c, reg)
			default:
				f.loadHalf(reg, 8+c)
			}
		}
		if c0 == 0 {
			for r := range min(rows, 4) {
				x(r)
			}
		}
		if w.size == 2 {
			for c := range tileCols {
				f.vec(w.op, 24+c, 24+c, 0)
			}
		}
		f.macro(fmt.Sprintf("PRODUCTS%dx%d_%d%s", rows, cols, c0, single), "x", func() {
			for r := range rows {
				for c := range tileCols {
					f.vec("FMLA", r*cols+c0+c, 24+c, 28+r%4)
				}
				if r+4 < rows {
					x(r + 4)
				}
			}
		}, "x")
	}
}

// ntPair adds the products of 8 numbers of k for one row of x.
func (f neonFile) ntPair(w weightNEON, cols, at int) {
	f.macro(fmt.Sprintf("PAIR_%s_%d", w.name, cols), "x, w", func() {
		f.op("FLDPQ x(R19), (F28, F29)")
		for c := range cols {
			first := 8 + 2*c
			if w.size == 4 {
				f.op("FLDPQ w(R%d), (F%d, F%d)", 8+c, first, first+1)
				continue
			}
			raw := 24 + c%4
			f.op("FMOVQ w(R%d), F%d", 8+c, raw)
			if c%4 == 3 {
				for i := c - 3; i <= c; i++ {
					f.vec(w.op, 8+2*i, 24+i%4, 0)
					f.vec(w.op+"2", 9+2*i, 24+i%4, 0)
				}
			}
		}
		f.macro(fmt.Sprintf("PRODUCTS_PAIR_%d", cols), "", func() {
			for half := range 2 {
				for c := range cols {
					f.vec("FMLA", c, 8+2*c+half, 28+half)
				}
			}
		})
	}, 4*at, w.size*at)
}

// ntAdvance moves the pointers on by numbers of k.
func (f neonFile) ntAdvance(w weightNEON, rows, cols, numbers int) {
	f.macro(fmt.Sprintf("ADVANCE%dx%d", rows, cols), "x, w", func() {
		for r := range rows {
			f.op("ADD $x, R%d", 19+r)
		}
		for c := range cols {
			f.op("ADD $w, R%d", 8+c)
		}
	}, 4*numbers, w.size*numbers)
}

// ntEachSum does do with the register of every four sums and their place in dst.
func (f neonFile) ntEachSum(rows, wide int, do func(sum int, addr string)) {
	if rows == 1 {
		for i := range wide {
			do(4*i, fmt.Sprintf("%d(R1)", 16*i))
		}
		return
	}
	f.op("MOVD R1, R16")
	for r := range rows {
		do(4*r, "(R16)")
		if r < rows-1 {
			f.op("ADD R17, R16")
		}
	}
}
