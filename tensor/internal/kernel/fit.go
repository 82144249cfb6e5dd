package kernel

import "math"

// The search for the scales of the K formats: many steps are tried at once, and what numbers were rounded to by
// each tells, by least squares, a better step and zero, which are tried again.

// trials is how many steps are tried at once.
const trials = 16

// trial is numbers x rounded to q·step + zero, least ≤ q ≤ most, by as many steps and zeros as there are lanes.
type trial struct {
	step, inverse, zero [trials]float32
	q, qq, e, qe, ee    [trials]float32 // what comes of it: Σq, Σq², Σe, Σqe and Σe², where e is x minus its rounding
}

func tryGeneric(t *trial, x []float32, least, most float32) {
	const integer = 3 << 22 // in numbers of this size a step is 1: adding it rounds to nearest, ties to even
	for i, step := range t.step {
		inverse, zero := t.inverse[i], t.zero[i]
		var sumQ, sumQQ, sumE, sumQE, sumEE float32
		for _, v := range x {
			v -= zero
			q := float32(float32(v*inverse)+integer) - integer
			if q > most {
				q = most
			} else if !(q >= least) {
				q = least
			}
			e := v - q*step
			sumQ += q
			sumQQ += q * q
			sumE += e
			sumQE += q * e
			sumEE += e * e
		}
		t.q[i], t.qq[i], t.e[i], t.qe[i], t.ee[i] = sumQ, sumQQ, sumE, sumQE, sumEE
	}
}

// set sets what a lane tries.
func (t *trial) set(i int, step, zero float32) {
	t.step[i], t.inverse[i], t.zero[i] = step, inverse(step), zero
}

// best returns the lane with the least error.
func (t *trial) best() (best int) {
	for i, e := range t.ee {
		if e < t.ee[best] {
			best = i
		}
	}
	return best
}

// affine returns the step and zero ≤ 0 that fit what n numbers were rounded to in a lane best, and the error
// that they leave at most; what was tried, if there are none.
func (t *trial) affine(i int, n float32) (step, zero, err float32) {
	step, zero, err = t.step[i], t.zero[i], t.ee[i]
	q, qq, e, qe := t.q[i], t.qq[i], t.e[i], t.qe[i]
	det := n*qq - q*q
	if !(det > 0) {
		return step, zero, err
	}
	s, z := (n*qe-q*e)/det, (qq*e-q*qe)/det
	if zero+z > 0 { // then it is 0, and the step is by itself
		z = -zero
		s = (qe - z*q) / qq
		if step+s > 0 {
			return step + s, 0, err - 2*z*e + n*z*z - s*(qe-z*q)
		}
		return step, zero, err
	}
	if !(step+s > 0) {
		return step, zero, err
	}
	return step + s, zero + z, err - s*qe - z*e
}

// fitAffine returns step and zero ≤ 0 that make the error of rounding x to q·step + zero, q from 0 to top, small.
func fitAffine(t *trial, x []float32, top int) (step, zero float32) {
	least, most := span(x)
	least = min(least, 0)
	if most <= least {
		return 0, least
	}
	for i := range trials {
		t.set(i, (most-least)/(float32(top-1)+float32(i)*(2./(trials-1))), least)
	}
	best := float32(math.Inf(1))
	for range 3 {
		active.try(t, x, 0, float32(top))
		for i := range trials {
			s, z, err := t.affine(i, float32(len(x)))
			if err < best {
				best, step, zero = err, s, z
			}
			t.set(i, s, z)
		}
	}
	return step, zero
}

// fitSymmetric returns a step that makes the error of rounding x to step·q, q from least to most, small.
func fitSymmetric(t *trial, x []float32, least, most float32) (step float32) {
	far := largest(x)
	if far == 0 {
		return 0
	}
	for i := range trials {
		t.set(i, far/(least-0.9+float32(i)*(1.8/(trials-1))), 0)
	}
	best := float32(math.Inf(1))
	for range 2 {
		active.try(t, x, least, most)
		for i := range trials {
			s := t.qe[i] / t.qq[i]
			if err := t.ee[i] - s*t.qe[i]; err < best {
				best, step = err, t.step[i]+s
			}
			t.set(i, t.step[i]+s, 0)
		}
	}
	return step
}
