//go:build !purego

package kernel

// vecNEON puts the elementwise operations, reductions and recurrences into im.
func vecNEON(im *impl) {
	im.dot = func(x, y []float32) float32 {
		var s float32
		for ; len(x) > vecCall; x, y = x[vecCall:], y[vecCall:] {
			s += dotNEON(x[:vecCall], y[:vecCall])
		}
		return s + dotNEON(x, y)
	}
	im.sum = func(x []float32) float32 {
		var s float32
		for ; len(x) > vecCall; x = x[vecCall:] {
			s += sumNEON(x[:vecCall])
		}
		return s + sumNEON(x)
	}
	im.sumSquares = func(x []float32, mean float32) float32 {
		var s float32
		for ; len(x) > vecCall; x = x[vecCall:] {
			s += sumSquaresNEON(x[:vecCall], mean)
		}
		return s + sumSquaresNEON(x, mean)
	}
	im.max = func(x []float32) float32 {
		m := negInf
		for ; len(x) > vecCall; x = x[vecCall:] {
			m = max(m, maxNEON(x[:vecCall]))
		}
		return max(m, maxNEON(x))
	}
	im.add = binaryCalls(addNEON)
	im.mul = binaryCalls(mulNEON)
	im.axpy = factorCalls(axpyNEON)
	im.scale = factorCalls(scaleNEON)
	im.mix = func(dst, x, prev, maa []float32) {
		for len(dst) > vecCall {
			mixNEON(dst[:vecCall], x, prev, maa)
			dst, x, prev, maa = dst[vecCall:], x[vecCall:], prev[vecCall:], maa[vecCall:]
		}
		mixNEON(dst, x, prev, maa)
	}
	im.norm = func(dst, x []float32, mean, rstd float32, gain, bias []float32) {
		for i := 0; i < len(dst); i += vecCall {
			d := dst[i:min(i+vecCall, len(dst))]
			if gain != nil && bias != nil {
				normAffineNEON(d, x[i:], mean, rstd, gain[i:], bias[i:])
				continue
			}
			normNEON(d, x[i:], mean, rstd)
			if gain != nil {
				mulNEON(d, d, gain[i:])
			}
			if bias != nil {
				addNEON(d, d, bias[i:])
			}
		}
	}
	im.squareReLU = unaryCalls(squareReLUNEON)
	im.exp = unaryCalls(expNEON)
	im.sigmoid = unaryCalls(sigmoidNEON)
	im.silu = unaryCalls(siluNEON)
	im.tanh = unaryCalls(tanhNEON)
	im.expSum = func(dst, x []float32, shift float32) float32 {
		var s float32
		for ; len(dst) > vecCall; dst, x = dst[vecCall:], x[vecCall:] {
			s += expSumNEON(dst[:vecCall], x, shift)
		}
		return s + expSumNEON(dst, x, shift)
	}
	im.widen[BF16] = halves(widenCalls(widenBF16NEON))
	im.widen[F16] = halves(widenCalls(widenF16NEON))
	im.wkv5 = wkv5NEON
	im.wkv7 = wkv7NEON
}

// vecCall is how many numbers one call of the assembly gets at most: it isn't preempted, so a call
// takes some tens of microseconds at most. Functions count by their first slice.
const vecCall = 8192

// unaryCalls returns f over slices of any length, in calls of at most vecCall numbers; so do the
// functions below for other arguments.
func unaryCalls(f func(dst, x []float32)) func(dst, x []float32) {
	return func(dst, x []float32) {
		for ; len(dst) > vecCall; dst, x = dst[vecCall:], x[vecCall:] {
			f(dst[:vecCall], x)
		}
		f(dst, x)
	}
}

func binaryCalls(f func(dst, a, b []float32)) func(dst, a, b []float32) {
	return func(dst, a, b []float32) {
		for ; len(dst) > vecCall; dst, a, b = dst[vecCall:], a[vecCall:], b[vecCall:] {
			f(dst[:vecCall], a, b)
		}
		f(dst, a, b)
	}
}

func factorCalls(f func(dst []float32, a float32, x []float32)) func(dst []float32, a float32, x []float32) {
	return func(dst []float32, a float32, x []float32) {
		for ; len(dst) > vecCall; dst, x = dst[vecCall:], x[vecCall:] {
			f(dst[:vecCall], a, x)
		}
		f(dst, a, x)
	}
}

func widenCalls(f func(dst []float32, src []uint16)) func(dst []float32, src []uint16) {
	return func(dst []float32, src []uint16) {
		for ; len(dst) > vecCall; dst, src = dst[vecCall:], src[vecCall:] {
			f(dst[:vecCall], src)
		}
		f(dst, src)
	}
}

//go:noescape
func addNEON(dst, a, b []float32)

//go:noescape
func mulNEON(dst, a, b []float32)

//go:noescape
func axpyNEON(dst []float32, a float32, x []float32)

//go:noescape
func scaleNEON(dst []float32, a float32, x []float32)

//go:noescape
func mixNEON(dst, x, prev, maa []float32)

//go:noescape
func normNEON(dst, x []float32, mean, rstd float32)

//go:noescape
func normAffineNEON(dst, x []float32, mean, rstd float32, gain, bias []float32)

//go:noescape
func squareReLUNEON(dst, x []float32)

//go:noescape
func expNEON(dst, x []float32)

//go:noescape
func sigmoidNEON(dst, x []float32)

//go:noescape
func siluNEON(dst, x []float32)

//go:noescape
func tanhNEON(dst, x []float32)

//go:noescape
func expSumNEON(dst, x []float32, shift float32) float32

//go:noescape
func dotNEON(x, y []float32) float32

//go:noescape
func sumNEON(x []float32) float32

//go:noescape
func sumSquaresNEON(x []float32, mean float32) float32

//go:noescape
func maxNEON(x []float32) float32

//go:noescape
func widenBF16NEON(dst []float32, src []uint16)

//go:noescape
func widenF16NEON(dst []float32, src []uint16)

//go:noescape
func wkv5NEON(y, s, r, k, v []float32, w, u float32)

//go:noescape
func wkv7NEON(y, s, r, w, k, v, a, b []float32)
