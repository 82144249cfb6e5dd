package kernel

import (
	"bytes"
	"math"
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
