package rwkv

import "math"

// A token's weight is exp((logit − top)/Temperature): its probability before the division by the
// sum. The candidates' weights are never kept: they are made in blocks, and again where they are
// needed again.

// weightBlock is how many weights are made at a time.
const weightBlock = 64

// weights sets w[i] to exp((logits[i] − top)·invT), for logits of at most top, a finite number; invT may
// be +Inf. The
// relative error is below 4e-15 + 4e-16·|x|, with x the exponent, whose own rounding is most of
// that; what would be below e^-708 is 0. w is at least as long as logits.
//
// It is several times as fast as math.Exp and gives the same bits everywhere: the conversions keep
// the compiler from fusing operations where the machine has instructions for that.
func weights(w []float64, logits []float32, top, invT float64) {
	const (
		round = 0x1.8p52 // adding it rounds to an integer, found in the low bits
		c1    = math.Ln2 / 256
		c2    = c1 * c1 / 2
		c3    = c1 * c1 * c1 / 6
		c4    = c1 * c1 * c1 * c1 / 24
	)
	scale := min(float64(invT*(256/math.Ln2)), math.MaxFloat64) // finite: 0·scale is 0
	w = w[:len(logits)]
	for i, l := range logits {
		y := float64((float64(l) - top) * scale)
		if !(y > -708*256/math.Ln2) { // masked, or the exponent would leave the normal range
			w[i] = 0
			continue
		}
		// 2^(y/256) = 2^(n/256)·2^(f/256) with |f| ≤ 1/2, and the last as a polynomial: the next
		// term is below 4e-17.
		z := y + round
		n := math.Float64bits(z)
		f := y - (z - round)
		p := float64(f*c4) + c3
		p = float64(p*f) + c2
		p = float64(p*f) + c1
		e := math.Float64frombits(exp2Table[n&255] + n&^255<<44)
		w[i] = e + float64(e*float64(p*f))
	}
}

// exp2Table is the bits of 2^(i/256). Square roots and products are the same on every machine.
var exp2Table = func() (t [256]uint64) {
	var root [8]float64 // 2^(2^i/256)
	x := 2.0
	for i := range root {
		x = math.Sqrt(x)
		root[7-i] = x
	}
	for i := range t {
		y := 1.0
		for j, r := range root {
			if i>>j&1 == 1 {
				y *= r
			}
		}
		t[i] = math.Float64bits(y)
	}
	return t
}()

// weigh returns the sum of the weights, and keeps the sums of the blocks for pick.
func (s *sampler) weigh(logits []float32, top, invT float64) float64 {
	s.sums = s.sums[:0]
	var total float64
	for from := 0; from < len(logits); from += weightBlock {
		w := s.block[:min(weightBlock, len(logits)-from)]
		weights(w, logits[from:from+len(w)], top, invT)
		sum := sumOf(w)
		s.sums = append(s.sums, sum)
		total += sum
	}
	return total
}

// sumOf returns the sum of w, adding in four chains that don't wait for each other.
func sumOf(w []float64) float64 {
	var a, b, c, d float64
	for ; len(w) >= 4; w = w[4:] {
		a += w[0]
		b += w[1]
		c += w[2]
		d += w[3]
	}
	for _, x := range w {
		a += x
	}
	return (a + b) + (c + d)
}

// pick returns the first index up to which the weights add up to more than r, at least 0 and below
// the sum that weigh returned last.
func (s *sampler) pick(logits []float32, top, r float64) int {
	b, before := 0, 0.0
	for last := 0; last < len(s.sums); last++ {
		if s.sums[last] == 0 {
			continue
		}
		b = last
		if before+s.sums[b] > r {
			break
		}
		before += s.sums[b]
	}
	from := b * weightBlock
	w := s.block[:min(weightBlock, len(logits)-from)]
	weights(w, logits[from:from+len(w)], top, s.invT)
	i := 0
	for j, x := range w {
		if x == 0 {
			continue
		}
		i = j // if roundings keep the sum from passing r, it is the last with a weight
		if before += x; before > r {
			break
		}
	}
	return from + i
}
