// Package kernel holds the inner loops of package tensor: float32 slices in, float32 slices out.
//
// Every operation has a reference in Go (generic.go) and may have assembly for an instruction
// set (amd64: avx2, avx512; arm64: neon). The table impls lists what this CPU can run; active is
// the entry in use, the fastest one unless MICRORWKV_KERNEL names another. The tag purego leaves
// the Go reference alone.
//
// The exported functions check lengths once, in Go, and panic on a slice that is too short, so
// that assembly can trust its arguments. Unless a function says otherwise, dst may be the very
// same slice as an operand (same start) but must not overlap it partly.
//
// Numbers. Operations follow IEEE 754 float32 with fused multiply-adds in the assembly; NaN and Inf
// propagate as in the formula, denormals are kept. Every element of a product is summed in an
// order that depends on k alone, not on m, n or the element's place in the matrix: the same
// row gives the same bits alone and inside a batch, whatever the tiling or the number of threads.
//
// The assembly, but for a few lines, is written by the program in gen.
package kernel

//go:generate go run ./gen

import (
	"fmt"
	"os"
)

// weightProduct computes dst[m,n] = x[m,k]·w[n,k]ᵀ, w of one type, ldw in bytes; see impl.
type weightProduct = func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool)

// matrixProduct computes a product of matrices a and b; see impl.
type matrixProduct = func(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool)

// impl is one instruction set's kernels.
type impl struct {
	name string

	// Products of row-major matrices; ld* is the distance between rows. m, n, k > 0.
	// acc adds the product to what dst holds, after the sum is complete.
	// products has dst[m,n] = x[m,k]·w[n,k]ᵀ by the type of w, ldw in bytes; nil goes through widen.
	products [numDTypes]weightProduct
	// few has products of few rows of x, up to as many as it says, by the type of w. They have the bits that
	// the product of more rows has.
	few [numDTypes]struct {
		rows    int
		product weightProduct
	}
	// roundings are the products whose activations are rounded; that of Exact is empty.
	roundings [numActivations]rounding
	gemmNN    matrixProduct // dst[m,n] = a[m,k]·b[k,n]
	gemmTN    matrixProduct // dst[m,n] = a[k,m]ᵀ·b[k,n]; nil transposes a

	// Reductions; the slices are not empty.
	dot        func(x, y []float32) float32
	sum        func(x []float32) float32
	sumSquares func(x []float32, mean float32) float32 // Σ (x−mean)²
	max        func(x []float32) float32

	// Elementwise; all slices have dst's length.
	add        func(dst, a, b []float32)
	mul        func(dst, a, b []float32)
	axpy       func(dst []float32, a float32, x []float32) // dst += a·x
	scale      func(dst []float32, a float32, x []float32) // dst = a·x
	mix        func(dst, x, prev, maa []float32)           // dst = x + (prev−x)⊙maa
	norm       func(dst, x []float32, mean, rstd float32, gain, bias []float32)
	squareReLU func(dst, x []float32)
	// What only backward passes and optimizers need.
	squareReLUGrad func(dst, a, b []float32)                  // dst = 2·a·√b
	mixGrad        func(dx, s, d, next, mix, diff []float32)  // dx += d + (next−d)⊙mix, s += d⊙diff
	adam           func(p, m, v, g []float32, f *AdamFactors) // one step of AdamW
	transpose      func(dst []float32, ldd int, src []float32, lds, rows, cols int)

	// On rows, see Normalize and so on; im is this impl.
	normalize   func(im *impl, dst, x, gain, bias, rstd []float32, groups int, eps float32)
	normGrad    func(im *impl, dx, dgain, dbias, dy, hat, gain, rstd, tmp []float32, add bool)
	gateGrad    func(im *impl, dz, g, d, z, hat, gain, bias, tmp []float32)
	mixRows     func(im *impl, dst []float32, ldd int, x []float32, ldx int, prev, mix []float32, rows int)
	mixGradRows func(im *impl, dx []float32, lddx int, s, d []float32, ldd int, x []float32, ldx int, mix, tmp []float32, rows int, ends MixEnds)

	// Of chunks of RWKV-7, see Chunk7, Decay7 and Solve7.
	prepare7 func(c *Chunk7, r, w, k, a, b []float32, ld int)
	finish7  func(c *Chunk7, dr, dw, dk, da, db, planes, log []float32, ld int)
	decay7   func(d, s, pow, log []float32)
	solve7   func(im *impl, x, m []float32, ld, rows, n int, back bool)

	exp     func(dst, x []float32)
	sigmoid func(dst, x []float32)
	silu    func(dst, x []float32)
	tanh    func(dst, x []float32)
	expSum  func(dst, x []float32, shift float32) float32 // dst = exp(x−shift); Σ dst

	// Softmaxes of columns, see ExpColumns and GradColumns.
	expColumns  func(im *impl, x []float32, ld, rows, n int, most, sums []float32)
	gradColumns func(im *impl, s, d []float32, ld, rows, n int, most, factors []float32)

	widen [numDTypes]widening // exact
	try   func(t *trial, x []float32, least, most float32)

	// Recurrences of one head and one token; n = len(y), s is [n,n].
	wkv5 func(y, s, r, k, v []float32, w, u float32)
	wkv7 func(y, s, r, w, k, v, a, b []float32)

	// peak runs n steps of nothing but independent multiply-adds and returns their number of
	// floating-point operations, two each.
	peak func(n int) int
	// read does nothing but read x, as fast as it can be.
	read func(x []float32)
}

// impls lists what this CPU can run: the Go reference first, the fastest last.
var impls = append([]impl{generic}, archImpls()...)

// active is the fastest, or the one MICRORWKV_KERNEL names; a name this CPU lacks panics.
var active = mustChoose(os.Getenv("MICRORWKV_KERNEL"))

// Names lists the kernels that this CPU can run, the slowest first.
func Names() []string {
	names := make([]string, len(impls))
	for i, im := range impls {
		names[i] = im.name
	}
	return names
}

// Active names the kernels in use.
func Active() string { return active.name }

// Use selects kernels by name. It must not run while kernels do.
func Use(name string) error {
	im, err := choose(name)
	if err == nil {
		active = im
	}
	return err
}

func choose(name string) (*impl, error) {
	if name == "" {
		return &impls[len(impls)-1], nil
	}
	for i := range impls {
		if impls[i].name == name {
			return &impls[i], nil
		}
	}
	return nil, fmt.Errorf("kernel %q: this build and CPU have %v", name, Names())
}

func mustChoose(name string) *impl {
	im, err := choose(name)
	if err != nil {
		panic("MICRORWKV_KERNEL: " + err.Error())
	}
	return im
}

// checkMatrix panics unless data holds rows×cols numbers at row distance ld.
func checkMatrix(op, name string, length, ld, rows, cols int) {
	if ld < cols || (rows-1)*ld+cols > length {
		panic(fmt.Sprintf("kernel: %s: %s has %d elements at row distance %d, want [%d %d]", op, name, length, ld, rows, cols))
	}
}

// emptyProduct deals with products of size zero: with k = 0 the sum is empty, so dst is zero
// unless acc. It reports whether nothing is left to do, and panics on a negative size.
func emptyProduct(op string, dst []float32, ldd, m, n, k int, acc bool) bool {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("kernel: %s: sizes m=%d n=%d k=%d", op, m, n, k))
	}
	if m == 0 || n == 0 {
		return true
	}
	checkMatrix(op, "dst", len(dst), ldd, m, n)
	if k == 0 && !acc {
		for i := range m {
			clear(dst[i*ldd:][:n])
		}
	}
	return k == 0
}

// GemmNT is Product of float32 numbers. ldd, ldx and ldw are the distances between rows.
func GemmNT(dst []float32, ldd int, x []float32, ldx int, w []float32, ldw int, m, n, k int, acc bool) {
	Product(F32, dst, ldd, x, ldx, BytesOf(w), 4*ldw, m, n, k, acc)
}

// GemmNN computes dst[m,n] = a[m,k] · b[k,n], or adds the product to dst if acc. dst must not
// overlap a or b.
func GemmNN(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	if emptyProduct("GemmNN", dst, ldd, m, n, k, acc) {
		return
	}
	checkMatrix("GemmNN", "a", len(a), lda, m, k)
	checkMatrix("GemmNN", "b", len(b), ldb, k, n)
	active.gemmNN(dst, ldd, a, lda, b, ldb, m, n, k, acc)
}

// GemmTN computes dst[m,n] = a[k,m]ᵀ · b[k,n], or adds the product to dst if acc: the bits that GemmNN has for
// aᵀ. dst must not overlap a or b.
func GemmTN(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	if emptyProduct("GemmTN", dst, ldd, m, n, k, acc) {
		return
	}
	checkMatrix("GemmTN", "a", len(a), lda, k, m)
	checkMatrix("GemmTN", "b", len(b), ldb, k, n)
	active.productTN(dst, ldd, a, lda, b, ldb, m, n, k, acc)
}

// productTN is GemmTN of sizes that aren't zero.
func (im *impl) productTN(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	if im.gemmTN != nil {
		im.gemmTN(dst, ldd, a, lda, b, ldb, m, n, k, acc)
		return
	}
	ld := k + TransposeGap
	buf := getBuffer(m * ld)
	im.transpose(buf.data, ld, a, lda, k, m)
	im.gemmNN(dst, ldd, buf.data, ld, b, ldb, m, n, k, acc)
	buf.put()
}

// PeakFMA runs n steps of multiply-adds that wait for nothing, on the vectors of the kernels in
// use, and returns how many floating-point operations that was: timed, it is one core's limit,
// which benchmarks compare themselves with.
func PeakFMA(n int) (flops int) { return active.peak(n) }

// Read reads x, all but the last few pages of it at most: timed, it is the memory's limit, which
// benchmarks compare themselves with.
func Read(x []float32) { active.read(x) }

func checkLen(op string, n int, lens ...int) {
	for i, l := range lens {
		if l != n {
			panic(fmt.Sprintf("kernel: %s: operand %d has %d elements, want %d", op, i+1, l, n))
		}
	}
}

// Dot returns Σ x·y; 0 for empty slices.
func Dot(x, y []float32) float32 {
	checkLen("Dot", len(x), len(y))
	if len(x) == 0 {
		return 0
	}
	return active.dot(x, y)
}

// Sum returns Σ x.
func Sum(x []float32) float32 {
	if len(x) == 0 {
		return 0
	}
	return active.sum(x)
}

// SumSquares returns Σ (x−mean)².
func SumSquares(x []float32, mean float32) float32 {
	if len(x) == 0 {
		return 0
	}
	return active.sumSquares(x, mean)
}

// Max returns the largest element; −Inf for an empty slice. With a NaN in x the result is
// unspecified.
func Max(x []float32) float32 {
	if len(x) == 0 {
		return negInf
	}
	return active.max(x)
}

// Add computes dst = a + b.
func Add(dst, a, b []float32) {
	checkLen("Add", len(dst), len(a), len(b))
	if len(dst) > 0 {
		active.add(dst, a, b)
	}
}

// Mul computes dst = a ⊙ b.
func Mul(dst, a, b []float32) {
	checkLen("Mul", len(dst), len(a), len(b))
	if len(dst) > 0 {
		active.mul(dst, a, b)
	}
}

// Axpy computes dst += a·x.
func Axpy(dst []float32, a float32, x []float32) {
	checkLen("Axpy", len(dst), len(x))
	if len(dst) > 0 {
		active.axpy(dst, a, x)
	}
}

// Scale computes dst = a·x.
func Scale(dst []float32, a float32, x []float32) {
	checkLen("Scale", len(dst), len(x))
	if len(dst) > 0 {
		active.scale(dst, a, x)
	}
}

// Mix computes dst = x + (prev−x) ⊙ maa, the token shift of RWKV-6 and -7.
func Mix(dst, x, prev, maa []float32) {
	checkLen("Mix", len(dst), len(x), len(prev), len(maa))
	if len(dst) > 0 {
		active.mix(dst, x, prev, maa)
	}
}

// Norm computes dst = (x−mean)·rstd ⊙ gain + bias; a nil gain is 1, a nil bias 0.
func Norm(dst, x []float32, mean, rstd float32, gain, bias []float32) {
	checkLen("Norm", len(dst), len(x))
	if gain != nil {
		checkLen("Norm gain", len(dst), len(gain))
	}
	if bias != nil {
		checkLen("Norm bias", len(dst), len(bias))
	}
	if len(dst) > 0 {
		active.norm(dst, x, mean, rstd, gain, bias)
	}
}

// SquareReLU computes dst = max(x, 0)².
func SquareReLU(dst, x []float32) {
	checkLen("SquareReLU", len(dst), len(x))
	if len(dst) > 0 {
		active.squareReLU(dst, x)
	}
}

// SquareReLUGrad computes dst = 2·dy·√y: the gradient of SquareReLU's argument from that of its result y,
// whose root is max(x, 0) again.
func SquareReLUGrad(dst, dy, y []float32) {
	checkLen("SquareReLUGrad", len(dst), len(dy), len(y))
	if len(dst) > 0 {
		active.squareReLUGrad(dst, dy, y)
	}
}

// MixGrad adds to the gradients of Mix, from those of its result in this row, d, and in the next one: that
// of x, dx += d + (next−d) ⊙ mix, and that of mix, s += d ⊙ diff with diff = prev−x. No slice may overlap
// another.
func MixGrad(dx, s, d, next, mix, diff []float32) {
	checkLen("MixGrad", len(dx), len(s), len(d), len(next), len(mix), len(diff))
	if len(dx) > 0 {
		active.mixGrad(dx, s, d, next, mix, diff)
	}
}

// AdamFactors are what one step of AdamW (Loshchilov and Hutter, arXiv:1711.05101) multiplies with.
type AdamFactors struct {
	Clip            float32 // what gradients are multiplied by
	Rest1           float32 // 1 − β1
	Beta2, Rest2    float32 // β2 and 1 − β2
	Correct         float32 // 1/√(1−β2^t)
	Eps, Keep, Rate float32 // Keep is 1 − rate·decay, Rate is rate/(1−β1^t)
}

// Adam does one step: with x = Clip·g,
//
//	m += (x−m)·Rest1;  v = Beta2·v + Rest2·x²;  p = Keep·p − Rate·m/(Correct·√v + Eps)
func Adam(p, m, v, g []float32, f *AdamFactors) {
	checkLen("Adam", len(p), len(m), len(v), len(g))
	if len(p) > 0 {
		active.adam(p, m, v, g, f)
	}
}

// Exp computes dst = exp(x).
func Exp(dst, x []float32) {
	checkLen("Exp", len(dst), len(x))
	if len(dst) > 0 {
		active.exp(dst, x)
	}
}

// Sigmoid computes dst = 1/(1+exp(−x)).
func Sigmoid(dst, x []float32) {
	checkLen("Sigmoid", len(dst), len(x))
	if len(dst) > 0 {
		active.sigmoid(dst, x)
	}
}

// SiLU computes dst = x·sigmoid(x).
func SiLU(dst, x []float32) {
	checkLen("SiLU", len(dst), len(x))
	if len(dst) > 0 {
		active.silu(dst, x)
	}
}

// Tanh computes dst = tanh(x).
func Tanh(dst, x []float32) {
	checkLen("Tanh", len(dst), len(x))
	if len(dst) > 0 {
		active.tanh(dst, x)
	}
}

// ExpSum computes dst = exp(x−shift) and returns Σ dst.
func ExpSum(dst, x []float32, shift float32) float32 {
	checkLen("ExpSum", len(dst), len(x))
	if len(dst) == 0 {
		return 0
	}
	return active.expSum(dst, x, shift)
}

// WKV5 is t tokens of one head of RWKV x051a's recurrence (Peng et al., arXiv:2404.05892, with one
// decay w and one bonus u for the whole head). s [n,n] has a row for each key element and a column
// for each value element; token i has its n values at y[i·ldy], r[i·ld], k[i·ld] and v[i·ld]:
//
//	y = r·(s + u·kᵀv)
//	s ← w·s + kᵀv
//
// y must not overlap the operands.
func WKV5(y []float32, ldy int, s, r, k, v []float32, ld int, w, u float32, n, t int) {
	if emptyRecurrence("WKV5", y, ldy, s, n, t, ld, len(r), len(k), len(v)) {
		return
	}
	for i := range t {
		at := i * ld
		active.wkv5(y[i*ldy:][:n], s[:n*n], r[at:][:n], k[at:][:n], v[at:][:n], w, u)
	}
}

// WKV7 is t tokens of one head of RWKV-7's recurrence (Peng et al., arXiv:2503.14456). s [n,n] has
// a row for each value element and a column for each key element; token i has its n values at
// y[i·ldy], r[i·ld] and so on:
//
//	s ← s·diag(w) − (s·a)·bᵀ + v·kᵀ
//	y = s·r
//
// y must not overlap the operands.
func WKV7(y []float32, ldy int, s, r, w, k, v, a, b []float32, ld, n, t int) {
	if emptyRecurrence("WKV7", y, ldy, s, n, t, ld, len(r), len(w), len(k), len(v), len(a), len(b)) {
		return
	}
	for i := range t {
		at := i * ld
		active.wkv7(y[i*ldy:][:n], s[:n*n], r[at:][:n], w[at:][:n], k[at:][:n], v[at:][:n], a[at:][:n], b[at:][:n])
	}
}

// emptyRecurrence checks the operands of a recurrence and reports whether there is nothing to do.
func emptyRecurrence(op string, y []float32, ldy int, s []float32, n, t, ld int, lens ...int) bool {
	if n < 0 || t < 0 {
		panic(fmt.Sprintf("kernel: %s: sizes n=%d t=%d", op, n, t))
	}
	if n == 0 || t == 0 {
		return true
	}
	checkMatrix(op, "y", len(y), ldy, t, n)
	checkMatrix(op, "state", len(s), n, n, n)
	for _, l := range lens {
		checkMatrix(op, "operand", l, ld, t, n)
	}
	return false
}
