// Package tensortest has what the tests of package tensor and of those below it share.
package tensortest

import (
	"math"
	"math/rand/v2"
	"testing"

	"microrwkv/tensor"
)

// Eps32 is half a unit in the last place of float32 numbers from 1 to 2.
const Eps32 = 0x1p-24

// EachKernel runs a test with each set of kernels that this CPU has.
func EachKernel(t *testing.T, f func(t *testing.T)) {
	before := tensor.Kernel()
	defer tensor.SetKernel(before)
	for _, name := range tensor.Kernels() {
		t.Run(name, func(t *testing.T) {
			if err := tensor.SetKernel(name); err != nil {
				t.Fatal(err)
			}
			f(t)
		})
	}
}

// Random returns a tensor of uniform numbers in ±1, as a view with gaps between the rows if gap is
// above 0.
func Random(rng *rand.Rand, gap int, shape ...int) *tensor.Tensor {
	if gap == 0 {
		t := tensor.New(shape...)
		for i := range t.Data() {
			t.Data()[i] = 2*rng.Float32() - 1
		}
		return t
	}
	wide := Random(rng, 0, shape[0], shape[1]+gap)
	return wide.Cols(gap/2, gap/2+shape[1])
}

// Softmax64 returns softmax(scores) with some more scores of zero, whose shares are dropped.
func Softmax64(scores []float64, zeros int) []float64 {
	var sum float64
	for _, s := range scores {
		sum += math.Exp(s)
	}
	sum += float64(zeros)
	p := make([]float64, len(scores))
	for i, s := range scores {
		p[i] = math.Exp(s) / sum
	}
	return p
}

// CloseTo fails unless got is within tol of want. Attention's scores here are sums of up to 40
// products below 1: their errors, below 41·2⁻²⁴·40 ≈ 1e-4 at worst and 1e-6 as they fall, are the
// relative errors of the weights, whose sum with values below 1 is the result.
func CloseTo(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= 1e-5) {
			t.Fatalf("%s: [%d] = %g, want %g", what, i, got[i], want[i])
		}
	}
}

// RandomSpans returns the bounds of a few sequences of up to most rows, some of them empty unless
// least is 1.
func RandomSpans(rng *rand.Rand, least, most int) []int {
	spans := []int{0}
	for range 1 + rng.IntN(3) {
		spans = append(spans, spans[len(spans)-1]+least+rng.IntN(most-least+1))
	}
	return spans
}

// Wide converts to float64.
func Wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// Panics fails unless f panics.
func Panics(t *testing.T, name string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", name)
		}
	}()
	f()
}
