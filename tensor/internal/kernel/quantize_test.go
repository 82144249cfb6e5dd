package kernel

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// Rounding what is rounded changes nothing, number by number too, and no number is farther off than a step.
func TestQuantize(t *testing.T) {
	eachBlocked(t, func(t *testing.T, d DType) {
		if !d.Quantizes() {
			t.Skip("isn't written")
		}
		numbers, size := d.Block()
		for _, scale := range []float32{1, 1e-3, 100} {
			x := randoms(newRand(), 4*numbers)
			for i := range x {
				x[i] *= scale
			}
			b, y := make([]byte, 4*size), make([]float32, 4*numbers)
			Quantize(d, b, x)
			Widen(d, y, b)
			for i, v := range y {
				block := b[i/numbers*size:][:size]
				step, _ := grids[d].affine(block, i%numbers)
				if off := math.Abs(float64(v - x[i])); !(off <= 1.5*math.Abs(float64(step))+1e-6*float64(scale)) {
					t.Errorf("%g is rounded to %g, a step is %g", x[i], v, step)
				}
				before := bytes.Clone(block)
				if got := Requantize(d, block, i%numbers, v); math.Abs(float64(got-v)) > 1e-6*math.Abs(float64(step)) || !bytes.Equal(before, block) {
					t.Fatalf("number %d, %g, becomes %g", i, v, got)
				}
			}
			if again := Requantize(d, b[:size], 3, y[3]+1e9*scale); again == y[3] {
				t.Error("a number stays what it was")
			}
		}
	})
}

// TestTry compares the sums of many roundings with float64.
func TestTry(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := rand.New(rand.NewPCG(33, 1))
		for _, n := range []int{1, 2, 15, 16, 32} {
			for _, limits := range [][2]float32{{0, 15}, {-32, 31}} {
				x, tr := uniform(rng, n, 4), &trial{}
				for i := range trials {
					tr.set(i, 0.05+rng.Float32(), -rng.Float32())
				}
				tr.set(3, 0, -1) // rounds to zero alone
				im.try(tr, x, limits[0], limits[1])
				for i := range trials {
					var want [5]float64
					for _, v := range x {
						y := float64(v - tr.zero[i])
						q := min(max(math.RoundToEven(float64((v-tr.zero[i])*tr.inverse[i])), float64(limits[0])), float64(limits[1]))
						e := y - q*float64(tr.step[i])
						for k, term := range []float64{q, q * q, e, q * e, e * e} {
							want[k] += term
						}
					}
					for k, got := range []float32{tr.q[i], tr.qq[i], tr.e[i], tr.qe[i], tr.ee[i]} {
						if bound := 1e-4 * (1 + math.Abs(want[k])); !(math.Abs(float64(got)-want[k]) <= bound) {
							t.Fatalf("%d numbers, lane %d, sum %d: %g, want %g", n, i, k, got, want[k])
						}
					}
				}
			}
		}
	})
}

// The K formats keep the quality of the search: of normal numbers they lose no more than it lost when it tried
// all steps one by one.
func TestQuantizeK(t *testing.T) {
	for _, c := range []struct {
		d     DType
		bound float64 // of the root mean square error, as a part of that of the numbers
	}{{Q4_K, 0.0697}, {Q5_K, 0.0345}, {Q6_K, 0.0171}} {
		eachImpl(t, func(t *testing.T, im *impl) {
			before := Active()
			defer Use(before)
			if err := Use(im.name); err != nil {
				t.Fatal(err)
			}
			x := randoms(newRand(), 256*400)
			b, y := make([]byte, c.d.Bytes(len(x))), make([]float32, len(x))
			Quantize(c.d, b, x)
			Widen(c.d, y, b)
			var e, s float64
			for i, v := range x {
				e += float64(v-y[i]) * float64(v-y[i])
				s += float64(v) * float64(v)
			}
			if got := math.Sqrt(e / s); !(got <= c.bound) {
				t.Errorf("%v: an error of %.5f, want at most %.5f", c.d, got, c.bound)
			}
		})
	}
}

// Numbers at the ends of what float32 has don't make other blocks than finite ones, and equal ones are exact
// within the scales' own rounding.
func TestQuantizeOdd(t *testing.T) {
	eachBlocked(t, func(t *testing.T, d DType) {
		if !d.Quantizes() {
			t.Skip("isn't written")
		}
		numbers, size := d.Block()
		for _, v := range []float32{0, 1, -1, 1e-42, -1e-42, 1e-30, 3e4, -3e4} {
			x, b, y := make([]float32, numbers), make([]byte, size), make([]float32, numbers)
			for i := range x {
				x[i] = v
			}
			Quantize(d, b, x)
			Widen(d, y, b)
			for i, got := range y {
				if !(math.Abs(float64(got-v)) <= 0.005*math.Abs(float64(v))+6e-8*63*63) {
					t.Fatalf("%v: %g becomes %g at %d", d, v, got, i)
				}
			}
		}
	})
}
