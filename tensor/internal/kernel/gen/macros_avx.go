package main

// macrosAVX are pieces of text that several functions have, each on a line of its own. They use V0 to V3
// and V11; V8 to V10 hold what CONSTS puts there.
var macrosAVX = map[string]string{
	"CONSTS": `
	VMOVUPS ·vecExpMax(SB), V8
	VMOVUPS ·vecExpMin(SB), V9
	VMOVUPS ·vecOne(SB), V10
`,
	// V0 = exp(V0).
	"EXP": avxText(expText, map[string]string{"e": "V0", "n": "V1", "p": "V2", "q": "V3"}),
	// V0 = sigmoid(V4).
	"SIGMOID": avxText(sigmoidText, map[string]string{"x": "V4", "p": "V0", "n": "V1", "e": "V2", "q": "V3"}),
	// V0 = tanh(V4). Uses V5 too.
	"TANH": avxText(tanhText, map[string]string{"x": "V4", "q": "V0", "n": "V1", "e": "V2", "p": "V3", "a": "V5"}),
	// X0 = the sum of V0's elements.
	"REDUCE": `
512:	VEXTRACTF64X4 $1, V0, Y1
512:	VADDPS Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VPERMILPD $1, X0, X1
	VADDPS X1, X0, X0
	VMOVSHDUP X0, X1
	VADDSS X1, X0, X0
`,
}
