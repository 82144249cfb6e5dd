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
