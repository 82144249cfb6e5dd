package rwkv

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// withBF16 skips the kernels that have no products of bfloat16, and says so.
func withBF16(t *testing.T) {
	t.Helper()
	if !tensor.RoundsActivations(tensor.BF16Activations, tensor.BF16) {
		t.Skipf("NOT TESTED HERE: kernels %s have no products of bfloat16", tensor.Kernel())
	}
}

// TestPrecisionBits compares sequences alone, on one thread, with the same ones together on several.
func TestPrecisionBits(t *testing.T) {
	withBF16(t)
	defer tensor.SetThreads(0)
	for _, kind := range streamingKinds {
		for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16} {
			rng := rand.New(rand.NewPCG(3, uint64(dtype)))
			m, err := Random(randomConfig(kind, rng), dtype, 5, Precision(BF16Products))
			if err != nil {
				t.Fatal(err)
			}
			const n = 19
			var states []*State
			var feed [][]int
			var want [][]float32
			tensor.SetThreads(1)
			for i := range n {
				prompt := randomIDs(1+i, m, rng)
				s := m.NewState()
				must(t, s, prompt...)
				states, feed = append(states, s), append(feed, randomIDs(1, m, rng))
				one := m.NewState()
				must(t, one, prompt...)
				want = append(want, must(t, one, feed[i]...))
			}
			tensor.SetThreads(3)
			if err := m.AppendBatch(states, feed); err != nil {
				t.Fatal(err)
			}
			for i, s := range states {
				if !slices.Equal(s.Logits(), want[i]) {
					t.Errorf("%s %v: sequence %d of %d has other logits than alone", kind, dtype, i, n)
				}
			}
		}
	}
}

// TestPrecisionRounds compares the logits with those of float32. Rounding errs by up to 2⁻⁸ of each number and
// a sum of many less, so that some layers of it stay below a twentieth of the largest logit; what is the same
// to 2⁻¹⁶ wasn't rounded.
func TestPrecisionRounds(t *testing.T) {
	withBF16(t)
	for _, kind := range allKinds {
		rng := rand.New(rand.NewPCG(4, 1))
		c := randomConfig(kind, rng)
		exact, err := Random(c, tensor.F32, 6)
		if err != nil {
			t.Fatal(err)
		}
		rounded, err := Random(c, tensor.F32, 6, Precision(PreferBF16Products))
		if err != nil {
			t.Fatal(err)
		}
		if got := rounded.Precision(); got != BF16Products {
			t.Errorf("%s: Precision is %v", kind, got)
		}
		ids := randomIDs(12, exact, rng)
		a, b := must(t, exact.NewState(), ids...), must(t, rounded.NewState(), ids...)
		var scale, worst float64
		for i := range a {
			scale, worst = max(scale, math.Abs(float64(a[i]))), max(worst, math.Abs(float64(a[i])-float64(b[i])))
		}
		if worst > scale/20 || worst < scale*0x1p-16 {
			t.Errorf("%s: products in bfloat16 change logits of up to %g by %g", kind, scale, worst)
		}
	}
}

// TestPrecisionMissing asks kernels for what they don't have.
func TestPrecisionMissing(t *testing.T) {
	before := tensor.Kernel()
	defer tensor.SetKernel(before)
	if err := tensor.SetKernel("generic"); err != nil {
		t.Fatal(err)
	}
	const path = "testdata/golden/microrwkv/mini.pt"
	if _, err := Open(path, Precision(BF16Products)); err == nil || !strings.Contains(err.Error(), "generic of [generic") {
		t.Errorf("kernels without products of bfloat16: %v", err)
	}
	for _, p := range []ProductPrecision{F32Products, PreferBF16Products} {
		m, err := Open(path, Precision(p))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Precision(); got != F32Products {
			t.Errorf("%v became %v", p, got)
		}
		m.Close()
	}
}
