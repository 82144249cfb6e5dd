package kernel

import "math"

// The reference of what only backward passes and optimizers need.

func squareReLUGradGeneric(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = 2 * (a[i] * float32(math.Sqrt(float64(b[i]))))
	}
}

func mixGradGeneric(dx, s, d, next, mix, diff []float32) {
	s, d, next, mix, diff = s[:len(dx)], d[:len(dx)], next[:len(dx)], mix[:len(dx)], diff[:len(dx)]
	for i := range dx {
		x := d[i]
		dx[i] += x + (next[i]-x)*mix[i]
		s[i] += x * diff[i]
	}
}

func adamGeneric(p, m, v, g []float32, f *AdamFactors) {
	p, m, v = p[:len(g)], m[:len(g)], v[:len(g)]
	for i, x := range g {
		x *= f.Clip
		m[i] += (x - m[i]) * f.Rest1
		y := v[i]*f.Beta2 + f.Rest2*x*x
		v[i] = y
		p[i] = p[i]*f.Keep - f.Rate*m[i]/(float32(math.Sqrt(float64(y)))*f.Correct+f.Eps)
	}
}

func transposeGeneric(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	i := 0
	for ; i+8 <= rows; i += 8 {
		s0, s1, s2, s3 := src[i*lds:][:cols], src[(i+1)*lds:][:cols], src[(i+2)*lds:][:cols], src[(i+3)*lds:][:cols]
		s4, s5, s6, s7 := src[(i+4)*lds:][:cols], src[(i+5)*lds:][:cols], src[(i+6)*lds:][:cols], src[(i+7)*lds:][:cols]
		for j, x := range s0 {
			d := (*[8]float32)(dst[j*ldd+i:])
			d[0], d[1], d[2], d[3] = x, s1[j], s2[j], s3[j]
			d[4], d[5], d[6], d[7] = s4[j], s5[j], s6[j], s7[j]
		}
	}
	for ; i < rows; i++ {
		for j, x := range src[i*lds:][:cols] {
			dst[j*ldd+i] = x
		}
	}
}
