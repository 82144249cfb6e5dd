package nn

import (
	"math"
	"math/rand/v2"
	"testing"

	"microrwkv/tensor"
)

// DeepEmbed against its formula.
func TestDeepEmbed(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	const v, c, d, f, rows = 7, 10, 3, 9, 4
	m := DeepEmbed{
		Table:         random(rng, v, d*d).Weight(),
		FromEmbedding: Linear{Weight: random(rng, d*d, c).Weight()},
		Through: LowRank{
			W1: random(rng, c, d).Weight(), W2: random(rng, d, f).Weight(),
			Bias: random(rng, f),
		},
	}
	m.Through.Derive()
	x, e, y := random(rng, rows, c), random(rng, rows, c), tensor.New(rows, f)
	ids := []int{6, 0, 3, 3}
	var s tensor.Scratch
	m.Forward(y, x, ids, e, &s)

	at := func(w *tensor.Weight, i, j int) float64 { return float64(w.Float32().Row(i)[j]) }
	for r := range rows {
		for j := range f {
			want := float64(m.Through.Bias.Data()[j])
			for a := range d {
				var middle float64
				for i := range c {
					middle += float64(x.Row(r)[i]) * at(m.Through.W1, i, a)
				}
				for b := range d {
					matrix := at(m.Table, ids[r], a*d+b)
					for i := range c {
						matrix += at(m.FromEmbedding.Weight, a*d+b, i) * float64(e.Row(r)[i])
					}
					want += middle * matrix * at(m.Through.W2, b, j)
				}
			}
			// sums of some hundred products of numbers near 1
			if got := float64(y.Row(r)[j]); !(math.Abs(got-want) <= 2e-5*max(1, math.Abs(want))) {
				t.Fatalf("row %d: %g, want %g", r, got, want)
			}
		}
	}
}
