package main

// functionNEON is a loop over slices. Its body is written for one vector, destinations first: names
// are of slices (what is loaded), of constants and float32 arguments (in every lane), of acc (an
// accumulator) and of temporaries.
type functionNEON struct {
	name, signature, doc string

	in    string // slices that are read
	out   string // what is stored to dst; empty if there is no dst
	lanes int    // vectors in a turn of the main loop
	body  string
	alone string // between the body and its last line, for a number without a vector's neighbours
	join  string // how accumulators are joined, and the name of a result; empty if there is none
}

var functionsNEON = []functionNEON{
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
