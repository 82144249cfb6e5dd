package kernel

import "math"

var negInf = float32(math.Inf(-1))

// generic is the reference in Go: right on every platform, and what the assembly is tested
// against. Sums run over eight interleaved partial sums, as short SIMD code would.
var generic = impl{
	name:       "generic",
	products:   productsGeneric,
	roundings:  [numActivations]rounding{Q8Activations: q8Generic()},
	gemmNN:     gemmNNGeneric,
	dot:        dotGeneric,
	sum:        sumGeneric,
	sumSquares: sumSquaresGeneric,
	max:        maxGeneric,
	add:        addGeneric,
	mul:        mulGeneric,
	axpy:       axpyGeneric,
	scale:      scaleGeneric,
	mix:        mixGeneric,
	norm:       normGeneric,
	squareReLU: squareReLUGeneric,

	squareReLUGrad: squareReLUGradGeneric,
	mixGrad:        mixGradGeneric,
	adam:           adamGeneric,
	transpose:      transposeGeneric,

	normalize:   normalizeParts,
	normGrad:    normGradParts,
	gateGrad:    gateGradParts,
	mixRows:     mixRowsParts,
	mixGradRows: mixGradRowsParts,
	expColumns:  expColumnsByRows,
	gradColumns: gradColumnsByRows,

	prepare7: prepare7Generic,
	finish7:  finish7Generic,
	decay7:   decay7Generic,
	solve7:   solve7Parts,

	exp:     func(dst, x []float32) { mapGeneric(dst, x, exp) },
	sigmoid: func(dst, x []float32) { mapGeneric(dst, x, sigmoid) },
	silu:    func(dst, x []float32) { mapGeneric(dst, x, silu) },
	tanh:    func(dst, x []float32) { mapGeneric(dst, x, tanh) },
	expSum:  expSumGeneric,
	widen:   widenGeneric(),
	try:     tryGeneric,
	wkv5:    wkv5Generic,
	wkv7:    wkv7Generic,
	peak:    peakGeneric,
	read:    func(x []float32) { sumGeneric(x) },
}

func dotGeneric(x, y []float32) float32 {
	y = y[:len(x)]
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	i := 0
	for ; i+8 <= len(x); i += 8 {
		a, b := (*[8]float32)(x[i:]), (*[8]float32)(y[i:])
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
		s4 += a[4] * b[4]
		s5 += a[5] * b[5]
		s6 += a[6] * b[6]
		s7 += a[7] * b[7]
	}
	for ; i < len(x); i++ {
		s0 += x[i] * y[i]
	}
	return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
}

func gemmNTGeneric(dst []float32, ldd int, x []float32, ldx int, w []float32, ldw int, m, n, k int, acc bool) {
	for j := range n { // each row of w is read once
		wj := w[j*ldw:][:k]
		for i := range m {
			y := dotGeneric(x[i*ldx:][:k], wj)
			if acc {
				y += dst[i*ldd+j]
			}
			dst[i*ldd+j] = y
		}
	}
}

// productsGeneric has the product of float32 numbers; all others go through it.
var productsGeneric = [numDTypes]func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool){
	F32: func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
		gemmNTGeneric(dst, ldd, x, ldx, View[float32](w), ldw/4, m, n, k, acc)
	},
}

// widenGeneric returns the references of dtypes.
func widenGeneric() (w [numDTypes]widening) {
	for d := range w {
		w[d] = dtypes[d].widen
	}
	return w
}

func gemmNNGeneric(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
	for i := range m {
		d := dst[i*ldd:][:n]
		if !acc {
			clear(d)
		}
		for p, av := range a[i*lda:][:k] {
			axpyGeneric(d, av, b[p*ldb:][:n])
		}
	}
}

func sumGeneric(x []float32) float32 {
	var s float32
	for _, v := range x {
		s += v
	}
	return s
}

func sumSquaresGeneric(x []float32, mean float32) float32 {
	var s float32
	for _, v := range x {
		s += (v - mean) * (v - mean)
	}
	return s
}

func maxGeneric(x []float32) float32 {
	m := x[0]
	for _, v := range x[1:] {
		if v > m {
			m = v
		}
	}
	return m
}

func addGeneric(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

func mulGeneric(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

func axpyGeneric(dst []float32, a float32, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += a * x[i]
	}
}

func scaleGeneric(dst []float32, a float32, x []float32) {
	for i := range dst {
		dst[i] = a * x[i]
	}
}

func mixGeneric(dst, x, prev, maa []float32) {
	for i := range dst {
		dst[i] = x[i] + (prev[i]-x[i])*maa[i]
	}
}

func normGeneric(dst, x []float32, mean, rstd float32, gain, bias []float32) {
	for i, v := range x {
		y := (v - mean) * rstd
		if gain != nil {
			y *= gain[i]
		}
		if bias != nil {
			y += bias[i]
		}
		dst[i] = y
	}
}

func squareReLUGeneric(dst, x []float32) {
	for i, v := range x {
		v = max(v, 0)
		dst[i] = v * v
	}
}

func exp(x float32) float32     { return float32(math.Exp(float64(x))) }
func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
func silu(x float32) float32    { return float32(float64(x) / (1 + math.Exp(-float64(x)))) }
func tanh(x float32) float32    { return float32(math.Tanh(float64(x))) }

func mapGeneric(dst, x []float32, f func(float32) float32) {
	for i, v := range x {
		dst[i] = f(v)
	}
}

func expSumGeneric(dst, x []float32, shift float32) float32 {
	var s float32
	for i, v := range x {
		e := exp(v - shift)
		dst[i] = e
		s += e
	}
	return s
}

func widenBF16Generic(dst []float32, src []uint16) {
	for i, b := range src {
		dst[i] = math.Float32frombits(uint32(b) << 16)
	}
}

func widenF16Generic(dst []float32, src []uint16) {
	for i, b := range src {
		dst[i] = halfToFloat(b)
	}
}

// halfToFloat widens IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits.
func halfToFloat(h uint16) float32 {
	sign := uint32(h>>15) << 31
	e, frac := uint32(h>>10)&31, uint32(h)&1023
	switch e {
	case 0: // zero or subnormal: frac·2⁻²⁴, exact in float32
		f := float32(frac) * 0x1p-24
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31: // Inf or NaN
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (e+112)<<23 | frac<<13)
}

func wkv5Generic(y, s, r, k, v []float32, w, u float32) {
	n := len(y)
	clear(y)
	for i := range n {
		row := s[i*n:][:n]
		ri, ki := r[i], k[i]
		for j, vj := range v {
			kv := ki * vj
			y[j] += ri * (row[j] + u*kv)
			row[j] = w*row[j] + kv
		}
	}
}

func wkv7Generic(y, s, r, w, k, v, a, b []float32) {
	n := len(y)
	for i := range n {
		row := s[i*n:][:n]
		sa := dotGeneric(row, a)
		vi := v[i]
		for j := range row {
			row[j] = row[j]*w[j] - sa*b[j] + vi*k[j]
		}
		y[i] = dotGeneric(row, r)
	}
}

// peakNumbers are unknown to the compiler, so that it computes with them.
var peakNumbers [8]float32

func peakGeneric(n int) int {
	p := &peakNumbers
	s0, s1, s2, s3, s4, s5, s6, s7 := p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]
	x, y := p[0], p[1]
	for range n {
		s0 = s0*x + y
		s1 = s1*x + y
		s2 = s2*x + y
		s3 = s3*x + y
		s4 = s4*x + y
		s5 = s5*x + y
		s6 = s6*x + y
		s7 = s7*x + y
	}
	*p = [8]float32{s0, s1, s2, s3, s4, s5, s6, s7}
	return 2 * 8 * n
}
