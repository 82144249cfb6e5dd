package main

import "fmt"

// q8File is a file of products with activations of 8 bits.
type q8File struct {
	avxFile
	isa
	columns, column, lines int // of a block: its columns, which one is next, a row's cache lines
}

// unit is the bytes of 32 numbers of a panel.
func (f *q8File) unit() int { return 10 * f.bytes() }

// q8AVX returns the file of products with activations of 8 bits.
func q8AVX(s isa) []byte {
	f := &q8File{avxFile: avxFile{newFile(true)}, isa: s}
	f.line(`
// Products of rows of x in 8 bits with blocks of quantized weights: kernel's q8.go and q8_asm.go say what
// rows of x and panels are. A lane has a row of w.
//
// Register map of the functions that take rows of w apart:
//	DI	a              CX	blocks left
//	R8	row 0 of w     R9–R12	1, 3, 5 and 7 times a.ldw
//	R13	row 8          R14, R15	rows 0 and 8, a.ahead further, of what is prefetched
//	DX	panel
//	V0–V3	four numbers of each row, transposed, by 4 to 7; or 8 to 11: others that stay
//	V12, V13	temporaries, d and dmin   V14, V15	constants
//
// and of the products:
//	DI	a              CX	units left
//	SI	x              R9–R12	1, 3, 5 and 7 times a.ldx
//	R8	panel          DX	acc`)
	f.data("q8Const", 0x0f0f0f0f, 0x3f3f3f3f, 0x30303030, 0xff, 0x10101010, bits(127), 0x7fffffff, bits(0x1p-120)-1, 0x7f7fffff, 0x00204081, bits(8), bits(16), 0x80000000, 0)
	if f.regs == 16 {
		// The lower halves of 32-bit numbers before the upper ones; ones of 16 bits; an order for VPERMD.
		f.data("q8Halves", 0x05040100, 0x0d0c0908, 0x07060302, 0x0f0e0b0a, 0x05040100, 0x0d0c0908, 0x07060302, 0x0f0e0b0a)
		f.data("q8Ones", 0x10001, 0x10001, 0x10001, 0x10001, 0x10001, 0x10001, 0x10001, 0x10001)
		f.data("q8Order", 0, 4, 1, 5, 2, 6, 3, 7)
		f.round()
	}
	for _, n := range q8Nibbles {
		f.unpack(n.format, n.size, 2, func() { f.nibbles(n) })
	}
	f.unpack("Q4_K", 144, 9, func() {
		f.scaleK()
		f.constant(14, 0)
		for i := range 8 { // columns of 16 bytes
			f.transpose(16+16*i, 0)
			for d := range 4 {
				f.and(14, d, 4)
				f.store(4, i/2*2, i%2*4+d)
				f.op("VPSRLD $4, %s, %s", f.v(d), f.v(d))
				f.and(14, d, d)
				f.store(d, i/2*2+1, i%2*4+d)
			}
		}
	})
	f.unpack("Q5_K", 176, 11, func() {
		f.scaleK()
		f.constant(14, 0)
		f.constant(15, 16)
		for h := range 2 {
			f.transpose(16+16*h, 8)
			for c := range 4 {
				f.transpose(48+32*c+16*h, 0)
				for d := range 4 {
					f.and(14, d, 4)
					f.merge(8+d, 4-2*c, 4)
					f.store(4, 2*c, 4*h+d)
					f.op("VPSRLD $4, %s, %s", f.v(d), f.v(d))
					f.and(14, d, d)
					f.merge(8+d, 3-2*c, d)
					f.store(d, 2*c+1, 4*h+d)
				}
			}
		}
	})
	f.unpack("Q6_K", 210, 14, func() {
		f.transpose(192, 0)
		f.transpose(194, 8) // whose last two bytes are d
		f.half(11, -1, 12)
		for i := range 16 {
			f.op("VPSLLD $%d, %s, %s", 24-i%4*8, f.v(i/4), f.v(4))
			f.op("VPSRAD $24, %s, %s", f.v(4), f.v(4))
			f.op("VCVTDQ2PS %s, %s", f.v(4), f.v(4))
			f.op("VMULPS %s, %s, %s", f.v(12), f.v(4), f.v(4))
			f.store(4, i/2, 8+i%2)
		}
		f.constant(14, 0)
		f.constant(15, 8)
		for i := range 4 {
			n, h := i/2, i%2
			f.transpose(128+32*n+16*h, 8)
			for low := range 2 {
				f.transpose(64*n+32*low+16*h, 0)
				for d := range 4 {
					f.and(14, d, 4)
					f.merge(8+d, 4-2*low, 4)
					f.store(4, 4*n+low, 4*h+d)
					f.op("VPSRLD $4, %s, %s", f.v(d), f.v(d))
					f.and(14, d, d)
					f.merge(8+d, -2*low, d)
					f.store(d, 4*n+2+low, 4*h+d)
				}
			}
		}
	})
	f.dot(false)
	f.dot(true)
	return f.Bytes()
}

// q8Nibble is a format of 32 nibbles, with fifth bits from the byte high of a block on if that isn't 0.
type q8Nibble struct {
	format              string
	size, nibbles, high int
	less                int // what is subtracted from the numbers; 0: a minimum is added
}

var q8Nibbles = []q8Nibble{{"Q4_0", 18, 2, 0, 8}, {"Q4_1", 20, 4, 0, 0}, {"Q5_0", 22, 6, 2, 16}, {"Q5_1", 24, 8, 4, 0}}

// q8Units is how often a block of a format has 32 numbers.
func q8Units(format string) int {
	if format[3] == 'K' {
		return 8
	}
	return 1
}

// nibbles takes a block of 32 numbers of each row apart.
func (f *q8File) nibbles(n q8Nibble) {
	f.transpose(0, 8) // the scales, and the fifth bits but for some
	if n.high == 2 {
		f.shift(-16, 8, 15)
		f.shift(16, 9, 9)
		f.or(15, 9)
	}
	f.half(8, 12, 13)
	f.store(12, 0, 8)
	if n.less == 0 {
		f.constant(14, 48)
		f.op("VXORPS %s, %s, %s", f.v(14), f.v(13), f.v(12))
	} else {
		f.constant(14, 40+4*(n.less/16))
		f.op("VMULPS %s, %s, %s", f.v(14), f.v(12), f.v(12))
	}
	f.store(12, 0, 9)
	f.transpose(n.nibbles, 0)
	f.constant(14, 0)
	if n.high > 0 {
		f.constant(15, 16)
		f.constant(10, 36)
	}
	for d := range 8 { // the lower halves of the bytes are the first 16 numbers
		f.and(14, d%4, 4)
		if d < 4 {
			f.shift(-4, d, d)
		}
		if n.high > 0 { // four bits, each to a byte of its own
			f.shift(-4*d, 9, 5)
			f.nibble(5)
			f.op("VPMULLD %s, %s, %s", f.v(10), f.v(5), f.v(5))
			f.shift(4, 5, 5)
			f.and(15, 5, 5)
			f.or(5, 4)
		}
		f.store(4, 0, d)
	}
}

// nibble leaves the lowest four bits of each number of a register.
func (f *q8File) nibble(r int) {
	f.shift(28, r, r)
	f.shift(-28, r, r)
}

// q8Data writes words of 32 bits, an even number of them.
func (f *q8File) data(name string, words ...uint32) {
	f.line("")
	for i := 0; i < len(words); i += 2 {
		f.op("DATA ·%s<>+%d(SB)/8, $0x%08x%08x", name, 4*i, words[i+1], words[i])
	}
	f.op("GLOBL ·%s<>(SB), RODATA|NOPTR, $%d", name, 4*len(words))
}

// q8Constant puts the word of q8Const that far into all lanes of a register.
func (f *q8File) constant(reg, at int) {
	f.macro(fmt.Sprintf("CONST%d", reg), "at", func() {
		f.op("VPBROADCASTD ·q8Const<>+at(SB), %s", f.v(reg))
	}, at)
}

// q8Row is the address of what is off bytes from the start of a row of w.
func q8Row(r int, off any) string {
	base := "R8"
	if r >= 8 {
		base = "R13"
	}
	return fmt.Sprintf("%v(%s)%s", off, base, q8Index[r%8])
}

// q8Index are multiples of the distance between rows.
var q8Index = []string{"", "(R9*1)", "(R9*2)", "(R10*1)", "(R9*4)", "(R11*1)", "(R10*2)", "(R12*1)"}

// q8Indexes computes them.
func (f *q8File) indexes() {
	f.op("LEAQ (R9)(R9*2), R10")
	f.op("LEAQ (R9)(R9*4), R11")
	f.op("LEAQ (R10)(R9*4), R12")
}

// q8Unpack writes the function for a format whose blocks have size bytes.
func (f *q8File) unpack(format string, size, columns int, block func()) {
	name := "unpack" + format + f.name
	f.line(`
// func %s(a *q8Args)
TEXT ·%s(SB), NOSPLIT, $0-8`, name, name)
	f.op("MOVQ a+0(FP), DI")
	f.op("MOVQ q8Args_panel(DI), DX")
	f.op("MOVQ q8Args_w(DI), R8")
	f.op("MOVQ q8Args_ldw(DI), R9")
	f.op("MOVQ q8Args_ahead(DI), R14")
	f.op("MOVQ q8Args_blocks(DI), CX")
	f.indexes()
	if f.lanes == 16 {
		f.op("LEAQ (R8)(R9*8), R13")
		f.op("LEAQ (R13)(R14*1), R15")
	}
	f.op("ADDQ R8, R14")
	f.label("loop")
	f.columns, f.column, f.lines = columns, 0, (size+63)/64
	f.pack(block)
	f.op("ADDQ $%d, R8", size)
	f.op("ADDQ $%d, R14", size)
	if f.lanes == 16 {
		f.op("ADDQ $%d, R13", size)
		f.op("ADDQ $%d, R15", size)
	}
	f.op("ADDQ $%d, DX", q8Units(format)*f.unit())
	f.pair("DECQ CX", "JNZ loop")
	f.op("VZEROUPPER")
	f.op("RET")
}

// q8Transpose puts 16 bytes of each row, as four numbers of 32 bits, into four registers from b on: the
// first number of all rows, the second and so on. Registers 4 to 7 are temporaries. It prefetches
// its share of a block's lines.
func (f *q8File) transpose(off, b int) {
	f.macro(fmt.Sprintf("TRANSPOSE%d", b), "off", func() {
		for r := range 4 {
			f.op("VMOVDQU %s, X%d", q8Row(r, "off"), b+r)
			for i := 1; i < f.lanes/4; i++ {
				if f.lanes == 8 {
					f.op("VINSERTI128 $%d, %s, Y%d, Y%d", i, q8Row(r+4*i, "off"), b+r, b+r)
				} else {
					f.op("VINSERTI32X4 $%d, %s, Z%d, Z%d", i, q8Row(r+4*i, "off"), b+r, b+r)
				}
			}
		}
		for i, half := range []string{"L", "H"} {
			f.op("VPUNPCK%sDQ %s, %s, %s", half, f.v(b+1), f.v(b), f.v(4+2*i))
			f.op("VPUNPCK%sDQ %s, %s, %s", half, f.v(b+3), f.v(b+2), f.v(5+2*i))
		}
		for i := range 4 {
			f.op("VPUNPCK%sQDQ %s, %s, %s", []string{"L", "H"}[i%2], f.v(5+i/2*2), f.v(4+i/2*2), f.v(b+i))
		}
	}, off)
	all := f.lanes * f.lines
	for i := f.column * all / f.columns; i < (f.column+1)*all/f.columns; i++ {
		r, base := i%f.lanes, "R14"
		if r >= 8 {
			base = "R15"
		}
		f.op("PREFETCHT0 %d(%s)%s", i/f.lanes*64, base, q8Index[r%8])
	}
	f.column++
}

// and computes d = n & m, of registers.
func (f *q8File) and(m, n, d int) {
	op := "VPAND"
	if f.lanes == 16 {
		op = "VPANDD"
	}
	f.op("%s %s, %s, %s", op, f.v(m), f.v(n), f.v(d))
}

// or computes d |= m.
func (f *q8File) or(m, d int) {
	op := "VPOR"
	if f.lanes == 16 {
		op = "VPORD"
	}
	f.op("%s %s, %s, %s", op, f.v(m), f.v(d), f.v(d))
}

// shift shifts all numbers to the left, or to the right if bits is below 0.
func (f *q8File) shift(bits, n, d int) {
	if bits >= 0 {
		f.op("VPSLLD $%d, %s, %s", bits, f.v(n), f.v(d))
	} else {
		f.op("VPSRLD $%d, %s, %s", -bits, f.v(n), f.v(d))
	}
}

// merge adds the bits of register high that are in the mask of register 15 after a shift to d.
func (f *q8File) merge(high, bits, d int) {
	if bits != 0 {
		f.shift(bits, high, 12)
		high = 12
	}
	f.and(15, high, 12)
	f.or(12, d)
}

// store puts a register in its place in the panel.
func (f *q8File) store(reg, unit, vector int) {
	f.op("VMOVUPS %s, %d(DX)", f.v(reg), unit*f.unit()+vector*f.bytes())
}

// half widens the half-precision numbers in the lower and the upper 16 bits of each lane of src, which it
// may destroy; -1: it isn't needed.
func (f *q8File) half(src, low, high int) {
	if f.lanes == 16 {
		if low >= 0 {
			f.op("VPMOVDW Z%d, Y%d", src, low)
			f.op("VCVTPH2PS Y%d, Z%d", low, low)
		}
		f.op("VPSRLD $16, Z%d, Z%d", src, high)
		f.op("VPMOVDW Z%d, Y%d", high, high)
		f.op("VCVTPH2PS Y%d, Z%d", high, high)
		return
	}
	f.op("VPSHUFB ·q8Halves<>(SB), Y%d, Y%d", src, src)
	f.op("VPERMQ $0xd8, Y%d, Y%d", src, src)
	if low >= 0 {
		f.op("VCVTPH2PS X%d, Y%d", src, low)
	}
	f.op("VEXTRACTI128 $1, Y%d, X%d", src, high)
	f.op("VCVTPH2PS X%d, Y%d", high, high)
}

// scaleK puts the steps and minimums of the eight sub-blocks of Q4_K and Q5_K in their places, of which
// kernel's scaleK tells how they are packed.
func (f *q8File) scaleK() {
	f.transpose(0, 0)
	f.half(0, 12, 13)
	f.constant(14, 4) // six bits
	f.constant(15, 8) // two, in their place
	f.and(14, 1, 4)
	f.and(14, 2, 5)
	f.constant(14, 0)
	for i := range 2 { // four scales, four minimums
		f.shift(-4*i, 3, 6+i)
		f.and(14, 6+i, 6+i)
		f.shift(-2, 1+i, 8)
		f.and(15, 8, 8)
		f.or(8, 6+i)
	}
	f.constant(14, 12)
	for j := range 8 {
		for i := range 2 {
			src := 4 + j/4*2 + i
			switch j % 4 {
			case 0:
				f.and(14, src, 8)
			case 3:
				f.shift(-24, src, 8)
			default:
				f.shift(-8*(j%4), src, 8)
				f.and(14, 8, 8)
			}
			f.op("VCVTDQ2PS %s, %s", f.v(8), f.v(8))
			f.op("VMULPS %s, %s, %s", f.v(12+i), f.v(8), f.v(8))
			f.store(8, j, 8+i)
		}
	}
}

// dot writes the products of panels: of step·q − least, or of numbers q−32 with steps for halves.
func (f *q8File) dot(halves bool) {
	name, body := "dotQ8", "acc += d·(step·Σ q·x) − least·dΣx"
	if halves {
		name, body = "dotQ8Halves", "acc += d·(step·Σ (q−32)·x + step·Σ (q−32)·x), a sum for each half"
	}
	name += f.name
	f.line(`
// func %s(a *q8Args)
//
//	acc = 0, or a.acc if a.resume
//	for a.units { %s }
TEXT ·%s(SB), NOSPLIT, $0-8`, name, body, name)
	f.op("MOVQ a+0(FP), DI")
	f.op("MOVQ q8Args_acc(DI), DX")
	f.op("MOVQ q8Args_x(DI), SI")
	f.op("MOVQ q8Args_panel(DI), R8")
	f.op("MOVQ q8Args_ldx(DI), R9")
	f.op("MOVQ q8Args_units(DI), CX")
	f.indexes()
	f.op("MOVQ q8Args_rows(DI), AX")
	rows := f.q8Rows()
	for r := rows; r > 1; r-- {
		f.pair(fmt.Sprintf("CMPQ AX, $%d", r), fmt.Sprintf("JEQ rows%d", r))
	}
	for r := 1; r <= rows; r++ {
		f.dotRows(halves, r)
	}
	f.label("done")
	f.op("VZEROUPPER")
	f.op("RET")
}

// q8Rows is the largest number of rows of x in a tile.
func (f *q8File) q8Rows() int {
	if f.lanes == 16 {
		return 8
	}
	return 4
}

// xRow is the address of what is off bytes from where a row of x is.
func (f *q8File) xRow(r, off int) string { return fmt.Sprintf("%d(SI)%s", off, q8Index[r]) }

// dotRows writes the loop for that many rows of x.
func (f *q8File) dotRows(halves bool, rows int) {
	f.label("rows%d", rows)
	f.zero(f.isa, rows)
	f.pair("CMPQ q8Args_resume(DI), $0", fmt.Sprintf("JEQ rows%d_loop", rows))
	f.eachAcc(rows, func(r int, addr string) { f.op("VMOVUPS %s, %s", addr, f.v(r)) })
	f.op("PCALIGN $32")
	f.label("rows%d_loop", rows)
	f.pack(func() {
		if f.lanes == 16 {
			f.unitVNNI(halves, rows)
		} else {
			f.unitAVX2(halves, rows)
		}
	})
	f.op("ADDQ $48, SI")
	f.op("ADDQ $%d, R8", f.unit())
	f.pair("DECQ CX", fmt.Sprintf("JNZ rows%d_loop", rows))
	f.eachAcc(rows, func(r int, addr string) { f.op("VMOVUPS %s, %s", f.v(r), addr) })
	f.op("JMP done")
}

// eachAcc does do with every row of the sums and its place; it changes AX and BX.
func (f *q8File) eachAcc(rows int, do func(r int, addr string)) {
	f.op("MOVQ DX, AX")
	if rows > 1 {
		f.op("MOVQ q8Args_ldacc(DI), BX")
	}
	for r := range rows {
		if r > 0 {
			f.op("ADDQ BX, AX")
		}
		do(r, "(AX)")
	}
}

// unitVNNI adds 32 numbers of k. The sums of integers begin in registers 8 to 15, those of the second
// halves in 16 to 23; few rows have several, so that no addition waits for the one before it.
func (f *q8File) unitVNNI(halves bool, rows int) {
	parts, chains := 1, max(4/rows, 1)
	if halves {
		parts, chains = 2, max(2/rows, 1)
	}
	sum := func(part, r, chain int) int { return 8 + (part*rows+r)*chains + chain }
	for part := range parts {
		for r := range rows {
			for c := range chains {
				if reg := f.v(sum(part, r, c)); halves && c == 0 {
					f.op("VPBROADCASTD %s, %s", f.xRow(r, 40+4*part), reg)
				} else {
					f.op("VPXORD %s, %s, %s", reg, reg, reg)
				}
			}
		}
		for d := 8 / parts * part; d < 8/parts*(part+1); d++ {
			f.op("VMOVUPS %d(R8), Z%d", d*f.bytes(), 30+d%2)
			for r := range rows {
				f.op("VPDPBUSD.BCST %s, Z%d, %s", f.xRow(r, 4*d), 30+d%2, f.v(sum(part, r, d%chains)))
			}
		}
	}
	for part := range parts {
		for r := range rows {
			for step := chains / 2; step > 0; step /= 2 {
				for c := range step {
					f.op("VPADDD %s, %s, %s", f.v(sum(part, r, c+step)), f.v(sum(part, r, c)), f.v(sum(part, r, c)))
				}
			}
			f.op("VCVTDQ2PS %s, %s", f.v(sum(part, r, 0)), f.v(sum(part, r, 0)))
		}
	}
	f.op("VMOVUPS %d(R8), Z30", 8*f.bytes())
	f.op("VMOVUPS %d(R8), Z31", 9*f.bytes())
	for r := range rows {
		f.op("VMULPS Z30, %s, %s", f.v(sum(0, r, 0)), f.v(sum(0, r, 0)))
		if halves {
			f.op("VFMADD231PS Z31, %s, %s", f.v(sum(1, r, 0)), f.v(sum(0, r, 0)))
		}
	}
	for r := range rows {
		f.op("VFMADD231PS.BCST %s, %s, %s", f.xRow(r, 32), f.v(sum(0, r, 0)), f.v(r))
	}
	if !halves {
		for r := range rows {
			f.op("VFNMADD231PS.BCST %s, Z31, %s", f.xRow(r, 36), f.v(r))
		}
	}
}

// unitAVX2 adds 32 numbers of k. Products of pairs are sums of 16 bits: 63·127·2 fits, twice too, and
// 31·127·2 eight times. Registers 4 to 7 are what the first 16 numbers of a row came to.
func (f *q8File) unitAVX2(halves bool, rows int) {
	for part := range 2 {
		for d := range 4 {
			f.op("VMOVDQU %d(R8), Y%d", (4*part+d)*f.bytes(), 8+d)
		}
		for r := range rows {
			for d := range 4 {
				f.op("VPBROADCASTD %s, Y%d", f.xRow(r, 16*part+4*d), 12+d)
			}
			for d := range 4 {
				f.op("VPMADDUBSW Y%d, Y%d, Y%d", 12+d, 8+d, 12+d)
			}
			f.op("VPADDW Y13, Y12, Y12")
			f.op("VPADDW Y15, Y14, Y14")
			first := fmt.Sprintf("Y%d", 4+r)
			if halves {
				f.op("VPMADDWD ·q8Ones<>(SB), Y12, Y12")
				f.op("VPMADDWD ·q8Ones<>(SB), Y14, Y14")
				f.op("VPBROADCASTD %s, Y13", f.xRow(r, 40+4*part))
				f.op("VPADDD Y14, Y12, Y12")
				f.op("VPADDD Y13, Y12, Y12")
				f.op("VCVTDQ2PS Y12, Y12")
				if part == 0 {
					f.op("VMULPS %d(R8), Y12, %s", 8*f.bytes(), first)
					continue
				}
				f.op("VFMADD231PS %d(R8), Y12, %s", 9*f.bytes(), first)
				f.op("VBROADCASTSS %s, Y13", f.xRow(r, 32))
				f.op("VFMADD231PS Y13, %s, Y%d", first, r)
				continue
			}
			f.op("VPADDW Y14, Y12, Y12")
			if part == 0 {
				f.op("VPMADDWD ·q8Ones<>(SB), Y12, %s", first)
				continue
			}
			f.op("VPMADDWD ·q8Ones<>(SB), Y12, Y12")
			f.op("VBROADCASTSS %s, Y13", f.xRow(r, 32))
			f.op("VBROADCASTSS %s, Y14", f.xRow(r, 36))
			f.op("VPADDD %s, Y12, Y12", first)
			f.op("VCVTDQ2PS Y12, Y12")
			f.op("VMULPS %d(R8), Y12, Y12", 8*f.bytes())
			f.op("VFMADD231PS Y13, Y12, Y%d", r)
			f.op("VFNMADD231PS %d(R8), Y14, Y%d", 9*f.bytes(), r)
		}
	}
}

// round writes the rounding of a row of x; kernel's roundQ8Generic is the same in Go.
func (f *q8File) round() {
	f.line(`
// func roundQ8AVX2(dst *byte, x *float32, units int)
//
// The largest size is found on bit patterns, of which those of Inf and NaN are above all others.
TEXT ·roundQ8AVX2(SB), NOSPLIT, $0-24`)
	f.op("MOVQ dst+0(FP), DI")
	f.op("MOVQ x+8(FP), SI")
	f.op("MOVQ units+16(FP), CX")
	f.op("VPBROADCASTD ·q8Const<>+20(SB), Y12")
	f.op("VPBROADCASTD ·q8Const<>+24(SB), Y13")
	f.op("VPBROADCASTD ·q8Const<>+28(SB), Y14")
	f.op("VPBROADCASTD ·q8Const<>+32(SB), Y15")
	f.op("VMOVDQU ·q8Order<>(SB), Y11")
	f.label("loop")
	for i := range 4 {
		f.op("VMOVUPS %d(SI), Y%d", 32*i, i)
	}
	for i := range 4 {
		f.op("VPAND Y13, Y%d, Y%d", i, 4+i)
	}
	f.op("VPMAXSD Y5, Y4, Y4")
	f.op("VPMAXSD Y7, Y6, Y6")
	f.op("VPMAXSD Y6, Y4, Y4")
	f.op("VEXTRACTI128 $1, Y4, X5")
	f.op("VPMAXSD X5, X4, X4")
	f.op("VPSHUFD $0x4e, X4, X5")
	f.op("VPMAXSD X5, X4, X4")
	f.op("VPSHUFD $0xb1, X4, X5")
	f.op("VPMAXSD X5, X4, X4")
	f.op("VPBROADCASTD X4, Y4")
	f.op("VDIVPS Y12, Y4, Y5") // d
	f.op("VDIVPS Y4, Y12, Y6") // its inverse
	f.op("VPCMPGTD Y14, Y4, Y7")
	f.op("VPAND Y7, Y5, Y5")
	f.op("VPAND Y7, Y6, Y6")
	f.op("VPCMPGTD Y15, Y4, Y7")
	f.op("VPOR Y7, Y5, Y5") // NaN
	f.op("VPANDN Y6, Y7, Y6")
	for i := range 4 {
		// Where the inverse is 0 all become 0: NaN and Inf too, which 0 times them isn't.
		f.op("VMULPS Y6, Y%d, Y%d", i, i)
		f.op("VCVTPS2DQ Y%d, Y%d", i, i)
		f.op("VPANDN Y%d, Y7, Y%d", i, i)
	}
	f.op("VPADDD Y1, Y0, Y8")
	f.op("VPADDD Y3, Y2, Y9")
	f.op("VPHADDD Y9, Y8, Y8")
	f.op("VEXTRACTI128 $1, Y8, X9")
	f.op("VPADDD X9, X8, X8")
	f.op("VPHADDD X8, X8, X8")
	f.op("VPHADDD X8, X8, X9") // the sum of both halves
	f.op("VCVTDQ2PS X9, X9")
	f.op("VMULPS X5, X9, X9")
	f.op("VPXOR X10, X10, X10")
	f.op("VPSLLD $5, X8, X8")
	f.op("VPSUBD X8, X10, X10")
	f.op("VPACKSSDW Y1, Y0, Y0")
	f.op("VPACKSSDW Y3, Y2, Y2")
	f.op("VPACKSSWB Y2, Y0, Y0")
	f.op("VPERMD Y0, Y11, Y0")
	f.op("VMOVDQU Y0, (DI)")
	f.op("VMOVSS X5, 32(DI)")
	f.op("VMOVSS X9, 36(DI)")
	f.op("VMOVQ X10, 40(DI)")
	f.op("ADDQ $128, SI")
	f.op("ADDQ $48, DI")
	f.pair("DECQ CX", "JNZ loop")
	f.op("VZEROUPPER")
	f.op("RET")
}
