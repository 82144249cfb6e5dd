package main

import (
	"fmt"
	"strings"
)

// nnTiles are the sizes of the tiles of a product a·b, in rows of a and vectors of columns of b.
// Their sums fill the registers: 24 of 32, or 12 of 16, beside the columns of b and one number
// of a.
func nnTiles(bits int) [][2]int {
	if bits == 512 {
		return [][2]int{{12, 2}, {8, 2}, {4, 2}, {2, 2}, {1, 2}, {12, 1}, {8, 1}, {4, 1}, {2, 1}, {1, 1}, {1, 4}}
	}
	return [][2]int{{6, 2}, {4, 2}, {2, 2}, {1, 2}, {6, 1}, {4, 1}, {2, 1}, {1, 1}, {1, 4}}
}

// nnTile returns the function for a tile of rows by cols vectors.
//
// V0 … are the sums, row by row; then come the columns of b and the number of a.
func nnTile(rows, cols int) function {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, "\t"+format+"\n", args...) }
	sum := func(r, c int) string { return fmt.Sprintf("V%d", r*cols+c) }
	col := func(c int) string { return fmt.Sprintf("V%d", rows*cols+c) }
	num := fmt.Sprintf("V%d", rows*cols+cols)
	// addresses of rows of a: three of them from each of up to four registers
	bases := []string{"SI", "R11", "R12", "R13"}
	at := func(r int) string {
		return [3]string{"(" + bases[r/3] + ")", "(" + bases[r/3] + ")(R9*1)", "(" + bases[r/3] + ")(R9*2)"}[r%3]
	}

	p("MOVQ dst+0(FP), DI")
	p("MOVQ ldd+8(FP), R8")
	p("MOVQ a+16(FP), SI")
	p("MOVQ lda+24(FP), R9")
	p("MOVQ b+32(FP), DX")
	p("MOVQ ldb+40(FP), R10")
	p("MOVQ k+48(FP), CX")
	p("SHLQ $2, R8")
	p("SHLQ $2, R9")
	p("SHLQ $2, R10")
	if rows > 3 {
		p("LEAQ (R9)(R9*2), BX")
		for i := 1; i <= (rows-1)/3; i++ {
			p("LEAQ (%s)(BX*1), %s", bases[i-1], bases[i])
		}
	}
	for r := range rows {
		for c := range cols {
			p("VXORPS %s, %s, %s", sum(r, c), sum(r, c), sum(r, c))
		}
	}
	b.WriteString("loop:\n")
	for c := range cols {
		p("VMOVUPS (%d*W)(DX), %s", c, col(c))
	}
	for r := range rows {
		p("VBROADCASTSS %s, %s", at(r), num)
		for c := range cols {
			p("VFMADD231PS %s, %s, %s", col(c), num, sum(r, c))
		}
	}
	for i := 0; i <= (rows-1)/3; i++ {
		p("ADDQ $4, %s", bases[i])
	}
	p("ADDQ R10, DX")
	p("DECQ CX")
	p("JNZ loop")
	p("CMPQ add+56(FP), $0")
	p("JEQ store")
	p("MOVQ DI, AX")
	for r := range rows {
		for c := range cols {
			p("VADDPS (%d*W)(AX), %s, %s", c, sum(r, c), sum(r, c))
		}
		if r < rows-1 {
			p("ADDQ R8, AX")
		}
	}
	b.WriteString("store:\n")
	for r := range rows {
		for c := range cols {
			p("VMOVUPS %s, (%d*W)(DI)", sum(r, c), c)
		}
		if r < rows-1 {
			p("ADDQ R8, DI")
		}
	}
	p("VZEROUPPER")
	p("RET")
	return function{fmt.Sprintf("nn%dx%d", rows, cols), "dst *float32, ldd int, a *float32, lda int, b *float32, ldb int, k int, add int",
		fmt.Sprintf("a tile of %d rows and %d vectors of columns: dst = a·b over k, or dst += a·b if add isn't 0", rows, cols), b.String()}
}
