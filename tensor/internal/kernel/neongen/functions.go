package main

import (
	"math"
	"regexp"
)

// constants are numbers that the functions keep in registers.
var constants = map[string]uint32{
	"zero":      0,
	"half":      bits(0.5),
	"one":       bits(1),
	"two":       bits(2),
	"sign":      0x80000000,
	"log2e":     bits(math.Log2E),
	"ln2Hi":     bits(math.Ln2),
	"ln2Lo":     bits(math.Ln2 - float64(float32(math.Ln2))),
	"expMax":    bits(89),   // above it exp is +Inf
	"expMin":    bits(-104), // below it exp is 0
	"exp7":      bits(1.0 / 5040),
	"exp6":      bits(1.0 / 720),
	"exp5":      bits(1.0 / 120),
	"exp4":      bits(1.0 / 24),
	"exp3":      bits(1.0 / 6),
	"tanhSmall": bits(0.625),
	"tanh4":     bits(-5.70498872745e-3), // tanh(x) ≈ x + x³·P(x²), Cody and Waite (1980)
	"tanh3":     bits(2.06390887954e-2),
	"tanh2":     bits(-5.37397155531e-2),
	"tanh1":     bits(1.33314422036e-1),
	"tanh0":     bits(-3.33332819422e-1),
}

func bits(x float64) uint32 { return math.Float32bits(float32(x)) }

// function is a loop over slices. Its body is written for one vector, destinations first: names
// are of slices (what is loaded), of constants and float32 arguments (in every lane), of acc (an
// accumulator) and of temporaries.
type function struct {
	name, signature, doc string

	in    string // slices that are read
	out   string // what is stored to dst; empty if there is no dst
	lanes int    // vectors in a turn of the main loop
	body  string
	alone string // between the body and its last line, for a number without a vector's neighbours
	join  string // how accumulators are joined, and the name of a result; empty if there is none
}

// expText turns e into exp(e); n, p and q are temporaries.
//
// x = n·ln2 + r, exp(x) = 2ⁿ·Σ rⁱ/i! with |r| ≤ ln2/2: the series' rest is below 2⁻²⁷. 2ⁿ is
// multiplied in two parts, for neither of which n is out of range. NaN passes: FMIN and FMAX
// return it.
const expText = `
FMIN e e expMax
FMAX e e expMin
FMUL n e log2e
FRINTN n n
FMLS e n ln2Hi
FMLS e n ln2Lo
MOV p exp6
FMLA p exp7 e
MOV q exp5
FMLA q p e
MOV p exp4
FMLA p q e
MOV q exp3
FMLA q p e
MOV p half
FMLA p q e
MOV q one
FMLA q p e
MOV p one
FMLA p q e
FCVTNS n n
SSHR q n 1
SUB n n q
SHL q q 23
SHL n n 23
ADD q q one
ADD n n one
FMUL p p q
FMUL e p n`

// expOf is expText on another name.
func expOf(name string) string { return regexp.MustCompile(`\be\b`).ReplaceAllString(expText, name) }

// sigmoidText turns x into p = sigmoid(x), by e = exp(−|x|): 1/(1+e), or e/(1+e) below 0, so that
// neither overflows.
const sigmoidText = `
ORR e x sign` + expText + `
FADD n e one
SSHR q x 31
BSL q e one
FDIV p q n`

// tanhText turns x into q = tanh(x), computed on a = |x|: a + a³·P(a²) where it is small, else
// 1 − 2/(exp(2a)+1).
const tanhText = `
FABS a x
FADD e a a` + expText + `
FADD e e one
FDIV e two e
FSUB e one e
FMUL n a a
MOV p tanh3
FMLA p tanh4 n
MOV q tanh2
FMLA q p n
MOV p tanh1
FMLA p q n
MOV q tanh0
FMLA q p n
FMUL n n a
MOV p a
FMLA p q n
FCMGT q tanhSmall a
BSL q p e
AND n x sign
ORR q q n`

var functions = []function{
	{name: "add", signature: "dst, a, b []float32", doc: "dst = a + b",
		in: "a b", out: "a", lanes: 4, body: "FADD a a b"},
	{name: "mul", signature: "dst, a, b []float32", doc: "dst = a ⊙ b",
		in: "a b", out: "a", lanes: 4, body: "FMUL a a b"},
	{name: "axpy", signature: "dst []float32, a float32, x []float32", doc: "dst += a·x",
		in: "dst x", out: "dst", lanes: 4, body: "FMLA dst x a"},
	{name: "scale", signature: "dst []float32, a float32, x []float32", doc: "dst = a·x",
		in: "x", out: "x", lanes: 4, body: "FMUL x x a"},
	{name: "mix", signature: "dst, x, prev, maa []float32", doc: "dst = x + (prev−x) ⊙ maa",
		in: "x prev maa", out: "x", lanes: 4, body: "FSUB prev prev x\nFMLA x prev maa"},
	{name: "norm", signature: "dst, x []float32, mean, rstd float32", doc: "dst = (x−mean)·rstd",
		in: "x", out: "x", lanes: 4, body: "FSUB x x mean\nFMUL x x rstd"},
	{name: "normAffine", signature: "dst, x []float32, mean, rstd float32, gain, bias []float32", doc: "dst = (x−mean)·rstd ⊙ gain + bias",
		in: "x gain bias", out: "bias", lanes: 4, body: "FSUB x x mean\nFMUL x x rstd\nFMLA bias x gain"},
	{name: "squareReLU", signature: "dst, x []float32", doc: "dst = max(x, 0)²; NaN passes: FMAX returns it",
		in: "x", out: "x", lanes: 4, body: "FMAX x x zero\nFMUL x x x"},
	{name: "exp", signature: "dst, x []float32", doc: "dst = exp(x)",
		in: "x", out: "x", lanes: 4, body: expOf("x")},
	{name: "sigmoid", signature: "dst, x []float32", doc: "dst = 1/(1+exp(−x))",
		in: "x", out: "p", lanes: 2, body: sigmoidText},
	{name: "silu", signature: "dst, x []float32", doc: "dst = x·sigmoid(x)",
		in: "x", out: "p", lanes: 2, body: sigmoidText + "\nFMUL p p x"},
	{name: "tanh", signature: "dst, x []float32", doc: "dst = tanh(x): by |x|, x + x³·P(x²) where it is small, else 1 − 2/(exp(2x)+1), with x's sign",
		in: "x", out: "q", lanes: 2, body: tanhText},
	{name: "expSum", signature: "dst, x []float32, shift float32", doc: "dst = exp(x−shift), Σ dst",
		in: "x", out: "x", lanes: 2, body: "FSUB x x shift" + expOf("x") + "\nFADD acc acc x", alone: "LOW x x", join: "FADD"},
	{name: "dot", signature: "x, y []float32", doc: "Σ x·y",
		in: "x y", lanes: 4, body: "FMLA acc x y", join: "FADD"},
	{name: "sum", signature: "x []float32", doc: "Σ x",
		in: "x", lanes: 4, body: "FADD acc acc x", join: "FADD"},
	{name: "sumSquares", signature: "x []float32, mean float32", doc: "Σ (x−mean)²",
		in: "x", lanes: 4, body: "FSUB x x mean\nFMLA acc x x", alone: "LOW x x", join: "FADD"},
	{name: "max", signature: "x []float32", doc: "the largest element",
		in: "x", lanes: 4, body: "FMAX acc acc x", join: "FMAX"},
}
