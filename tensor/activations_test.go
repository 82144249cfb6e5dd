package tensor_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
)

// roundingKinds are the formats with products of such activations.
func roundingKinds(a tensor.Activations) (kinds []tensor.DType) {
	for d := tensor.Q8_0; d <= tensor.Q6_K; d++ {
		if tensor.RoundsActivations(a, d) {
			kinds = append(kinds, d)
		}
	}
	return kinds
}

// blocksOf returns a random weight [n, k] rounded to blocks.
func blocksOf(rng *rand.Rand, d tensor.DType, n, k int) *tensor.Weight {
	w := tensor.New(n, k)
	for i := range w.Data() {
		w.Data()[i] = float32(rng.NormFloat64())
	}
	return w.Weight().Convert(d)
}

// Rounded products: rows have the same bits alone and among others, on one thread and on several; several
// products of an X take one rounding; nothing is allocated once warm; the results are near the exact ones.
func TestLinearRoundsActivations(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	defer tensor.SetThreads(0)
	kinds := roundingKinds(tensor.Q8Activations)
	if !slices.Contains(kinds, tensor.Q4_K) || !slices.Contains(kinds, tensor.Q6_K) {
		t.Fatalf("8-bit activations beside %v", kinds)
	}
	const k = 256
	for _, d := range kinds {
		w := blocksOf(rng, d, 170, k)
		for _, m := range []int{1, 3, 17, 300} {
			t.Run(fmt.Sprintf("%v/rows=%d", d, m), func(t *testing.T) {
				w := w
				if m > 256 { // more rows than share one reading of a weight
					w = w.Rows(0, 130)
				}
				n, x := w.Dim(0), tensor.New(m, k)
				for i := range x.Data() {
					x.Data()[i] = float32(rng.NormFloat64())
				}
				rounded := w.WithActivations(tensor.Q8Activations)
				y, z, exact := tensor.New(m, n), tensor.New(m, n), tensor.New(m, n)
				products := []tensor.Product{{Dst: y, X: x, W: rounded}, {Dst: z, X: x, W: rounded, Act: tensor.SquareReLU}, {Dst: exact, X: x, W: w}}
				tensor.SetThreads(2)
				tensor.Linear(products...)
				for i, v := range y.Data() {
					if off := v - exact.Data()[i]; !(off < 1 && off > -1) { // of sums of 256 terms near 1: some 16
						t.Fatalf("%g, exactly %g", v, exact.Data()[i])
					}
					if want := max(v, 0) * max(v, 0); z.Data()[i] != want {
						t.Fatalf("activated %g, want %g", z.Data()[i], want)
					}
				}
				if slices.Equal(y.Data(), exact.Data()) {
					t.Error("nothing was rounded")
				}
				tensor.SetThreads(1)
				added := tensor.New(m, n)
				copy(added.Data(), y.Data())
				tensor.Linear(tensor.Product{Dst: added, X: x, W: rounded, Act: tensor.SquareReLU, Add: true})
				for i, v := range y.Data() {
					if want := v + z.Data()[i]; added.Data()[i] != want {
						t.Fatalf("added %g, want %g", added.Data()[i], want)
					}
				}
				alone := tensor.New(1, n)
				for i := 0; i < m; i += 1 + m/10 {
					tensor.Linear(tensor.Product{Dst: alone, X: x.Rows(i, i+1), W: rounded})
					if !slices.Equal(alone.Data(), y.Data()[i*n:][:n]) {
						t.Fatalf("row %d alone has other bits", i)
					}
				}
				// three runs: their mean is rounded down, so that an allocation of the runtime's own doesn't count
				if n := testing.AllocsPerRun(3, func() { tensor.Linear(products...) }); n != 0 {
					t.Errorf("%v allocations", n)
				}
			})
		}
	}
}

// Epilogues of many rows and columns, of so few numbers each that a piece has more than one buffer holds.
func TestLinearManyShortRows(t *testing.T) {
	defer tensor.SetThreads(0)
	tensor.SetThreads(1)
	const m, n, k = 250, 400, 4
	x, w, y, z := tensor.New(m, k), tensor.New(n, k), tensor.New(m, n), tensor.New(m, n)
	for i := range x.Data() {
		x.Data()[i] = float32(i%7 - 3)
	}
	for i := range w.Data() {
		w.Data()[i] = float32(i%5 - 2)
	}
	tensor.Linear(tensor.Product{Dst: y, X: x, W: w.Weight()})
	tensor.Linear(tensor.Product{Dst: z, X: x, W: w.Weight(), Act: tensor.SquareReLU, Add: true})
	for i, v := range y.Data() {
		if want := max(v, 0) * max(v, 0); z.Data()[i] != want {
			t.Fatalf("number %d: %g, want %g", i, z.Data()[i], want)
		}
	}
}
