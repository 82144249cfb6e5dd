package main

import (
	"fmt"
	"go/format"
	"log"
	"strings"
)

// shapes are the kinds of Go functions around the assembly, by what goes in: the bulk is done in
// place, what is left over in blocks of 16 that are padded with numbers that don't matter.
var shapes = []struct {
	ops  string // names of functions
	text string // OP is the function, ISA the suffix
}{
	{"add mul squareReLUGrad", `
func OPVecISA(dst, a, b []float32) {
	n := len(dst) &^ 15
	if n > 0 {
		OPISA(&dst[0], &a[0], &b[0], n)
	}
	if n < len(dst) {
		var d, x, y [16]float32
		copy(x[:], a[n:])
		copy(y[:], b[n:])
		OPISA(&d[0], &x[0], &y[0], 16)
		copy(dst[n:], d[:])
	}
}
`},
	{"squareReLU exp sigmoid silu tanh", `
func OPVecISA(dst, x []float32) {
	n := len(dst) &^ 15
	if n > 0 {
		OPISA(&dst[0], &x[0], n)
	}
	if n < len(dst) {
		var d, v [16]float32
		copy(v[:], x[n:])
		OPISA(&d[0], &v[0], 16)
		copy(dst[n:], d[:])
	}
}
`},
	{"axpy scale", `
func OPVecISA(dst []float32, a float32, x []float32) {
	n := len(dst) &^ 15
	if n > 0 {
		OPISA(&dst[0], &x[0], n, a)
	}
	if n < len(dst) {
		var d, v [16]float32
		copy(d[:], dst[n:])
		copy(v[:], x[n:])
		OPISA(&d[0], &v[0], 16, a)
		copy(dst[n:], d[:])
	}
}
`},
	{"mix", `
func OPVecISA(dst, x, prev, maa []float32) {
	n := len(dst) &^ 15
	if n > 0 {
		OPISA(&dst[0], &x[0], &prev[0], &maa[0], n)
	}
	if n < len(dst) {
		var d, v, p, m [16]float32
		copy(v[:], x[n:])
		copy(p[:], prev[n:])
		copy(m[:], maa[n:])
		OPISA(&d[0], &v[0], &p[0], &m[0], 16)
		copy(dst[n:], d[:])
	}
}
`},
	{"mixGrad", `
func OPVecISA(dx, s, d, next, mix, diff []float32) {
	n := len(dx) &^ 15
	if n > 0 {
		OPISA(&dx[0], &s[0], &d[0], &next[0], &mix[0], &diff[0], n)
	}
	if n < len(dx) {
		var x, sum, g, after, m, v [16]float32
		copy(x[:], dx[n:])
		copy(sum[:], s[n:])
		copy(g[:], d[n:])
		copy(after[:], next[n:])
		copy(m[:], mix[n:])
		copy(v[:], diff[n:])
		OPISA(&x[0], &sum[0], &g[0], &after[0], &m[0], &v[0], 16)
		copy(dx[n:], x[:])
		copy(s[n:], sum[:])
	}
}
`},
	{"adam", `
func OPVecISA(p, m, v, g []float32, f *AdamFactors) {
	n := len(p) &^ 15
	if n > 0 {
		OPISA(&p[0], &m[0], &v[0], &g[0], &f.Clip, n)
	}
	if n < len(p) {
		var a, b, c, d [16]float32
		copy(a[:], p[n:])
		copy(b[:], m[n:])
		copy(c[:], v[n:])
		copy(d[:], g[n:])
		OPISA(&a[0], &b[0], &c[0], &d[0], &f.Clip, 16)
		copy(p[n:], a[:])
		copy(m[n:], b[:])
		copy(v[n:], c[:])
	}
}
`},
	{"transpose", `
func OPVecISA(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	i, n := 0, cols&^3
	for ; i+8 <= rows && n > 0; i += 8 {
		OPISA(&dst[i], &src[i*lds], 4*ldd, 4*lds, n)
		if n < cols {
			transposeGeneric(dst[n*ldd+i:], ldd, src[i*lds+n:], lds, 8, cols-n)
		}
	}
	if i < rows {
		transposeGeneric(dst[i:], ldd, src[i*lds:], lds, rows-i, cols)
	}
}
`},
	{"norm", `
func OPVecISA(dst, x []float32, mean, rstd float32, gain, bias []float32) {
	n := len(dst) &^ 15
	if n > 0 {
		OPISA(&dst[0], &x[0], n, mean, rstd)
	}
	if n < len(dst) {
		var d, v [16]float32
		copy(v[:], x[n:])
		OPISA(&d[0], &v[0], 16, mean, rstd)
		copy(dst[n:], d[:])
	}
	if gain != nil {
		mulVecISA(dst, dst, gain)
	}
	if bias != nil {
		addVecISA(dst, dst, bias)
	}
}
`},
	{"expSum", `
func OPVecISA(dst, x []float32, shift float32) float32 {
	n := len(dst) &^ 15
	var sum float32
	if n > 0 {
		sum = OPISA(&dst[0], &x[0], n, shift)
	}
	if n < len(dst) {
		var d, v [16]float32
		for i := copy(v[:], x[n:]); i < len(v); i++ {
			v[i] = negInf // its exp adds 0
		}
		sum += OPISA(&d[0], &v[0], 16, shift)
		copy(dst[n:], d[:])
	}
	return sum
}
`},
	{"dot", `
func OPVecISA(x, y []float32) float32 {
	n := len(x) &^ 15
	var sum float32
	if n > 0 {
		sum = OPISA(&x[0], &y[0], n)
	}
	if n < len(x) {
		var v, u [16]float32
		copy(v[:], x[n:])
		copy(u[:], y[n:])
		sum += OPISA(&v[0], &u[0], 16)
	}
	return sum
}
`},
	{"sum", `
func OPVecISA(x []float32) float32 {
	n := len(x) &^ 15
	var sum float32
	if n > 0 {
		sum = OPISA(&x[0], n)
	}
	if n < len(x) {
		var v [16]float32
		copy(v[:], x[n:])
		sum += OPISA(&v[0], 16)
	}
	return sum
}
`},
	{"sumSquares", `
func OPVecISA(x []float32, mean float32) float32 {
	n := len(x) &^ 15
	var sum float32
	if n > 0 {
		sum = OPISA(&x[0], n, mean)
	}
	if n < len(x) {
		var v [16]float32
		for i := copy(v[:], x[n:]); i < len(v); i++ {
			v[i] = mean
		}
		sum += OPISA(&v[0], 16, mean)
	}
	return sum
}
`},
	{"max", `
func OPVecISA(x []float32) float32 {
	n := len(x) &^ 15
	largest := x[0]
	if n > 0 {
		largest = OPISA(&x[0], n)
	}
	for _, v := range x[n:] {
		if v > largest {
			largest = v
		}
	}
	return largest
}
`},
	{"widenBF16 widenF16", `
func OPVecISA(dst []float32, src []uint16) {
	n := len(dst) &^ 15
	if n > 0 {
		OPISA(&dst[0], &src[0], n)
	}
	if n < len(dst) {
		var d [16]float32
		var v [16]uint16
		copy(v[:], src[n:])
		OPISA(&d[0], &v[0], 16)
		copy(dst[n:], d[:])
	}
}
`},
	{"wkv5", `
func OPVecISA(y, s, r, k, v []float32, w, u float32) {
	if len(y)%16 != 0 {
		OPGeneric(y, s, r, k, v, w, u)
		return
	}
	OPISA(&y[0], &s[0], &r[0], &k[0], &v[0], len(y), w, u)
}
`},
	{"wkv7", `
func OPVecISA(y, s, r, w, k, v, a, b []float32) {
	if len(y)%16 != 0 {
		OPGeneric(y, s, r, w, k, v, a, b)
		return
	}
	OPISA(&y[0], &s[0], &r[0], &w[0], &k[0], &v[0], &a[0], &b[0], len(y))
}
`},
}

// wrappers returns the Go file for an instruction set.
func wrappers(s isa) []byte {
	var text strings.Builder
	for _, shape := range shapes {
		for _, op := range strings.Fields(shape.ops) {
			text.WriteString(strings.ReplaceAll(shape.text, "OP", op))
		}
	}
	return goFile(s, "vec", "puts the vector kernels into im.", "", functionsAVX, text.String())
}

// goFile returns a Go file with a function called by a name and the instruction set's, which puts functions into
// an impl, with their declarations and with text, where ISA stands for the instruction set.
func goFile(s isa, name, doc, imports string, functions []functionAVX, text string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "// Code generated by go run ./gen; DO NOT EDIT.\n\n//go:build !purego\n\npackage kernel\n\n")
	fmt.Fprintf(&b, "%s\n\n", imports)
	fmt.Fprintf(&b, "// %sISA %s\nfunc %sISA(im *impl) {\n", name, doc, name)
	for _, f := range functions {
		if dtype, ok := strings.CutPrefix(f.name, "widen"); ok {
			fmt.Fprintf(&b, "im.widen[%s] = halves(%sVecISA)\n", dtype, f.name)
			continue
		}
		fmt.Fprintf(&b, "im.%s = %sVecISA\n", f.name, f.name)
	}
	fmt.Fprintf(&b, "}\n\n")
	for _, f := range functions {
		returns := ""
		if strings.Contains(f.body, "ret+") {
			returns = " float32"
		}
		fmt.Fprintf(&b, "//go:noescape\nfunc %sISA(%s)%s\n\n", f.name, f.signature, returns)
	}
	b.WriteString(text)
	src, err := format.Source([]byte(strings.ReplaceAll(b.String(), "ISA", s.name)))
	if err != nil {
		log.Fatal(err)
	}
	return src
}
