package attention

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
)

// TestCausalWhole compares whole sequences and their gradients with the definition, for heads of all places and
// sizes, windows that end within a block of queries, and sequences of several blocks.
func TestCausalWhole(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(19, 20))
		for range 60 {
			per, d, window := 1+rng.IntN(3), 1+rng.IntN(20), 1+rng.IntN(150)
			groups, stride := 1+rng.IntN(2), per*d+rng.IntN(5)
			heads, cols := groups*per, HeadColumns{PerGroup: per, Stride: stride}
			spans := tensortest.RandomSpans(rng, 0, 110)
			rows := spans[len(spans)-1]
			wide := func() *tensor.Tensor { return tensortest.Random(rng, rng.IntN(2)*3, rows, groups*stride) }
			q, k, v, gate, dq, dk, dv, dgate := wide(), wide(), wide(), wide(), wide(), wide(), wide(), wide()
			if rng.IntN(2) == 0 {
				gate, dgate = nil, nil
			}
			y, dy := tensortest.Random(rng, rng.IntN(2)*6, rows, heads*d), tensortest.Random(rng, rng.IntN(2)*6, rows, heads*d)
			softmaxes := tensor.New(2*heads, rows)
			CausalWhole(y, softmaxes, q, k, v, gate, heads, window, cols, 0.7, spans)
			CausalBackward(dq, dk, dv, dgate, dy, softmaxes, q, k, v, gate, heads, window, cols, 0.7, spans)
			for h := range heads {
				col := cols.at(h, d)
				for i := range len(spans) - 1 {
					part := func(m *tensor.Tensor, col int) [][]float32 {
						var list [][]float32
						for r := spans[i]; m != nil && r < spans[i+1]; r++ {
							list = append(list, m.Row(r)[col:][:d])
						}
						return list
					}
					want := causalHead64(part(q, col), part(k, col), part(v, col), part(gate, col), part(dy, h*d), window, 0.7)
					got := [5][][]float32{part(y, h*d), part(dq, col), part(dk, col), part(dv, col), part(dgate, col)}
					for j, name := range []string{"y", "dq", "dk", "dv", "dgate"} {
						for r, row := range got[j] {
							what := fmt.Sprintf("d=%d window=%d spans=%v sequence %d head %d: %s row %d", d, window, spans, i, h, name, r)
							tensortest.CloseTo(t, what, row, want[j][r])
						}
					}
				}
			}
		}
	})
}

// causalHead64 is the definition of a head's output y, and of the gradients dq, dk, dv and dgate.
func causalHead64(q, k, v, gate, dy [][]float32, window int, scale float64) (all [5][][]float64) {
	for i := range all {
		all[i] = make([][]float64, len(q))
		for r := range q {
			all[i][r] = make([]float64, len(q[r]))
		}
	}
	y, dq, dk, dv, dgate := all[0], all[1], all[2], all[3], all[4]
	dot := func(a []float64, b []float32) (sum float64) {
		for i, x := range a {
			sum += x * float64(b[i])
		}
		return sum
	}
	for i := range q {
		from := max(0, i-window+1)
		scores := make([]float64, i+1-from)
		for j := range scores {
			scores[j] = scale * dot(tensortest.Wide(q[i]), k[from+j])
		}
		p := tensortest.Softmax64(scores, 0)
		out, dout := make([]float64, len(q[i])), tensortest.Wide(dy[i])
		for j, w := range p {
			for e, x := range v[from+j] {
				out[e] += w * float64(x)
			}
		}
		copy(y[i], out)
		if gate != nil {
			for e, g := range gate[i] {
				y[i][e] *= float64(g)
				dgate[i][e] = dout[e] * out[e]
				dout[e] *= float64(g)
			}
		}
		mean := 0.0
		for j, w := range p {
			mean += w * dot(dout, v[from+j])
		}
		for j, w := range p {
			ds := scale * w * (dot(dout, v[from+j]) - mean)
			for e := range dout {
				dq[i][e] += ds * float64(k[from+j][e])
				dk[from+j][e] += ds * float64(q[i][e])
				dv[from+j][e] += w * dout[e]
			}
		}
	}
	return all
}
