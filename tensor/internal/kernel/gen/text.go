package main

import (
	"fmt"
	"log"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// constants are numbers that the functions use in every lane: NEON has them in registers, AVX in a table.
var constants = map[string]uint32{
	"zero":      0,
	"half":      bits(0.5),
	"one":       bits(1),
	"two":       bits(2),
	"sign":      0x80000000,
	"abs":       0x7fffffff,
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

// constantNames returns their names, sorted.
func constantNames() []string { return slices.Sorted(maps.Keys(constants)) }

// title returns a name with a capital.
func title(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// The text of exp, sigmoid and tanh is written for one vector, in Arm's names of instructions with the
// destination first; operands are names of registers and of constants. Four operations are more than one
// instruction:
//
//	POLY r t x c_k … c_0    r = the polynomial of x with these coefficients; t is a temporary
//	SCALB d x n t           d = x·2ⁿ, exact but for overflow and underflow; n is lost
//	NEGATIVE d x a b        d = a where x is below 0, else b
//	BELOW d x y a b         d = a where x < y, else b

// expText turns e into exp(e); n, p and q are temporaries.
//
// x = n·ln2 + r, exp(x) = 2ⁿ·Σ rⁱ/i! with |r| ≤ ln2/2: the series' rest is below 2⁻²⁷. NaN passes: the
// minimum and the maximum return it.
const expText = `
FMIN e e expMax
FMAX e e expMin
FMUL n e log2e
FRINTN n n
FMLS e n ln2Hi
FMLS e n ln2Lo
POLY p q e exp7 exp6 exp5 exp4 exp3 half one one
SCALB e p n q`

// sigmoidText turns x into p = sigmoid(x), by e = exp(−|x|): 1/(1+e), or e/(1+e) below 0, so that
// neither overflows.
const sigmoidText = `
ORR e x sign` + expText + `
FADD n e one
NEGATIVE q x e one
FDIV p q n`

// tanhText turns x into q = tanh(x), computed on a = |x|: a + a·(a²·P(a²)) where it is small, else
// 1 − 2/(exp(2a)+1).
const tanhText = `
FABS a x
FADD e a a` + expText + `
FADD e e one
FDIV e two e
FSUB e one e
FMUL n a a
POLY q p n tanh4 tanh3 tanh2 tanh1 tanh0
FMUL q q n
MOV p a
FMLA p q a
BELOW q a tanhSmall p e
AND n x sign
ORR q q n`

// expOf is expText on another name.
func expOf(name string) string { return regexp.MustCompile(`\be\b`).ReplaceAllString(expText, name) }

// neonText returns text with the operations of several instructions written out for NEON.
func neonText(text string) string {
	var out []string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		w := strings.Fields(line)
		switch w[0] {
		case "POLY": // the factors alternate between the two registers
			r, t := w[1], w[2]
			if len(w[4:])%2 == 1 {
				r, t = t, r
			}
			out = append(out, "MOV "+r+" "+w[5], "FMLA "+r+" "+w[4]+" "+w[3])
			for _, c := range w[6:] {
				out = append(out, "MOV "+t+" "+c, "FMLA "+t+" "+r+" "+w[3])
				r, t = t, r
			}
		case "SCALB": // in two parts, for neither of which n is out of range
			d, x, n, t := w[1], w[2], w[3], w[4]
			out = append(out, "FCVTNS "+n+" "+n, "SSHR "+t+" "+n+" 1", "SUB "+n+" "+n+" "+t, "SHL "+t+" "+t+" 23", "SHL "+n+" "+n+" 23",
				"ADD "+t+" "+t+" one", "ADD "+n+" "+n+" one", "FMUL "+x+" "+x+" "+t, "FMUL "+d+" "+x+" "+n)
		case "NEGATIVE":
			out = append(out, "SSHR "+w[1]+" "+w[2]+" 31", "BSL "+w[1]+" "+w[3]+" "+w[4])
		case "BELOW":
			out = append(out, "FCMGT "+w[1]+" "+w[3]+" "+w[2], "BSL "+w[1]+" "+w[4]+" "+w[5])
		default:
			out = append(out, strings.Join(w, " "))
		}
	}
	return strings.Join(out, "\n")
}

// avxConstants are the constants that the text for AVX has in registers.
var avxConstants = map[string]string{"expMax": "V8", "expMin": "V9", "one": "V10"}

// avxOps are the instructions of AVX with operands m, n and d, of which m may be in memory.
var avxOps = map[string]string{
	"FADD": "VADDPS", "FSUB": "VSUBPS", "FMUL": "VMULPS", "FDIV": "VDIVPS", "FMLA": "VFMADD231PS", "FMLS": "VFNMADD231PS",
	"ORR": "VORPS", "AND": "VANDPS",
	"FMIN": "VMINPS", "FMAX": "VMAXPS", // which return their second source if one is NaN: n and m change places
}

// avxText returns text for AVX2 and AVX-512, as vec_avx.go has it, with these registers for its names.
func avxText(text string, regs map[string]string) string {
	var out strings.Builder
	op := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	of := func(name string) string {
		if r, ok := regs[name]; ok {
			return r
		}
		if r, ok := avxConstants[name]; ok {
			return r
		}
		if _, ok := constants[name]; !ok {
			log.Panicf("no register %s", name)
		}
		return "·vec" + title(name) + "(SB)"
	}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		w := strings.Fields(line)
		r := make([]string, len(w))
		for i, name := range w[1:] {
			r[1+i] = of(name)
		}
		switch w[0] {
		case "MOV":
			op("VMOVAPS %s, %s", r[2], r[1])
		case "FABS":
			op("VANDPS %s, %s, %s", of("abs"), r[2], r[1])
		case "FRINTN":
			op("256: VROUNDPS $8, %s, %s", r[2], r[1])
			op("512: VRNDSCALEPS $8, %s, %s", r[2], r[1])
		case "FMIN", "FMAX":
			op("%s %s, %s, %s", avxOps[w[0]], r[2], r[3], r[1])
		case "POLY":
			op("VMOVUPS %s, %s", r[4], r[1])
			for _, c := range r[5:] {
				op("VFMADD213PS %s, %s, %s", c, r[3], r[1])
			}
		case "SCALB":
			d, x, n, t := r[1], r[2], r[3], r[4]
			op("512: VSCALEFPS %s, %s, %s", n, x, d)
			op("256: VCVTPS2DQ %s, %s", n, n)
			op("256: VPSRAD $1, %s, %s", n, t)
			op("256: VPSUBD %s, %s, %s", t, n, n)
			for _, half := range []string{t, n} {
				op("256: VPSLLD $23, %s, %s", half, half)
			}
			for _, half := range []string{t, n} {
				op("256: VPADDD %s, %s, %s", of("one"), half, half)
			}
			op("256: VMULPS %s, %s, %s", t, x, x)
			op("256: VMULPS %s, %s, %s", n, x, d)
		case "NEGATIVE":
			op("256: VBLENDVPS %s, %s, %s, %s", r[2], r[3], r[4], r[1])
			op("512: VPMOVD2M %s, K1", r[2])
			op("512: VBLENDMPS %s, %s, K1, %s", r[3], r[4], r[1])
		case "BELOW":
			op("256: VCMPPS $1, %s, %s, %s", r[3], r[2], r[1])
			op("256: VBLENDVPS %s, %s, %s, %s", r[1], r[4], r[5], r[1])
			op("512: VCMPPS $1, %s, %s, K1", r[3], r[2])
			op("512: VBLENDMPS %s, %s, K1, %s", r[4], r[5], r[1])
		default:
			inst, ok := avxOps[w[0]]
			if !ok {
				log.Panicf("no instruction %s", w[0])
			}
			if strings.HasSuffix(r[2], "(SB)") { // only m may be in memory
				op("VMOVUPS %s, V11", r[2])
				r[2] = "V11"
			}
			op("%s %s, %s, %s", inst, r[3], r[2], r[1])
		}
	}
	return out.String()
}
