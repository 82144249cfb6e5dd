package main

import "math"

// table is the constants that the text uses.
var table = []struct {
	name string
	bits uint32
}{
	{"vecOne", f(1)},
	{"vecTwo", f(2)},
	{"vecSign", 0x80000000},
	{"vecAbs", 0x7fffffff},
	{"vecLog2e", f(math.Log2E)},
	{"vecLn2Hi", f(math.Ln2)},
	{"vecLn2Lo", f(math.Ln2 - float64(float32(math.Ln2)))},
	{"vecExpMax", f(89)},   // above it exp is +Inf
	{"vecExpMin", f(-104)}, // below it exp is 0
	{"vecExp7", f(1.0 / 5040)},
	{"vecExp6", f(1.0 / 720)},
	{"vecExp5", f(1.0 / 120)},
	{"vecExp4", f(1.0 / 24)},
	{"vecExp3", f(1.0 / 6)},
	{"vecExp2", f(1.0 / 2)},
	{"vecTanhSmall", f(0.625)},
	{"vecTanh4", f(-5.70498872745e-3)}, // tanh(x) ≈ x + x³·P(x²), Cody and Waite (1980)
	{"vecTanh3", f(2.06390887954e-2)},
	{"vecTanh2", f(-5.37397155531e-2)},
	{"vecTanh1", f(1.33314422036e-1)},
	{"vecTanh0", f(-3.33332819422e-1)},
}

func f(x float64) uint32 { return math.Float32bits(float32(x)) }

// macros are pieces of text that several functions have, each on a line of its own.
var macros = []struct{ name, body string }{
	// V0 = exp(V0); V8 and V9 hold vecExpMax and vecExpMin. Uses V1 to V3.
	// x = n·ln2 + r, exp(x) = 2ⁿ·Σ rⁱ/i! with |r| ≤ ln2/2: the series' rest is below 2⁻²⁷.
	// NaN passes: MIN and MAX return their second source if one is NaN.
	{"EXP", `
	VMINPS V0, V8, V0
	VMAXPS V0, V9, V0
	VMULPS ·vecLog2e(SB), V0, V1
256:	VROUNDPS $8, V1, V1
512:	VRNDSCALEPS $8, V1, V1
	VFNMADD231PS ·vecLn2Hi(SB), V1, V0
	VFNMADD231PS ·vecLn2Lo(SB), V1, V0
	VMOVUPS ·vecExp7(SB), V2
	VFMADD213PS ·vecExp6(SB), V0, V2
	VFMADD213PS ·vecExp5(SB), V0, V2
	VFMADD213PS ·vecExp4(SB), V0, V2
	VFMADD213PS ·vecExp3(SB), V0, V2
	VFMADD213PS ·vecExp2(SB), V0, V2
	VFMADD213PS ·vecOne(SB), V0, V2
	VFMADD213PS ·vecOne(SB), V0, V2
512:	VSCALEFPS V1, V2, V0
256:	VCVTPS2DQ V1, V1
256:	VPSRAD $1, V1, V3
256:	VPSUBD V3, V1, V1
256:	VPSLLD $23, V3, V3
256:	VPSLLD $23, V1, V1
256:	VPADDD ·vecOne(SB), V3, V3
256:	VPADDD ·vecOne(SB), V1, V1
256:	VMULPS V3, V2, V2
256:	VMULPS V1, V2, V0
`},
	// V0 = sigmoid(V4), by e = exp(−|x|): 1/(1+e), or e/(1+e) below 0, so that neither overflows.
	// Uses V1 to V6; V8 and V9 as for EXP, V10 holds ones.
	{"SIGMOID", `
	VORPS ·vecSign(SB), V4, V0
	EXP
	VADDPS V0, V10, V5
256:	VBLENDVPS V4, V0, V10, V6
512:	VPMOVD2M V4, K1
512:	VBLENDMPS V0, V10, K1, V6
	VDIVPS V5, V6, V0
`},
	{"CONSTS", `
	VMOVUPS ·vecExpMax(SB), V8
	VMOVUPS ·vecExpMin(SB), V9
	VMOVUPS ·vecOne(SB), V10
`},
	// X0 = the sum of V0's elements. Uses X1.
	{"REDUCE", `
512:	VEXTRACTF64X4 $1, V0, Y1
512:	VADDPS Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VPERMILPD $1, X0, X1
	VADDPS X1, X0, X0
	VMOVSHDUP X0, X1
	VADDSS X1, X0, X0
`},
}
