package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// attention64 is the definition: one query over some keys.
func attention64(q []float32, keys, values [][]float32, scale float64, zeros int) []float64 {
	scores := make([]float64, len(keys))
	for j, k := range keys {
		for i := range q {
			scores[j] += float64(q[i]) * float64(k[i])
		}
		scores[j] *= scale
	}
	out := make([]float64, len(q))
	for j, p := range softmax64(scores, zeros) {
		for i := range out {
			out[i] += p * float64(values[j][i])
		}
	}
	return out
}

// closeTo fails unless got is within tol of want. Attention's scores here are sums of up to 40
// products below 1: their errors, below 41·2⁻²⁴·40 ≈ 1e-4 at worst and 1e-6 as they fall, are the
// relative errors of the weights, whose sum with values below 1 is the result.
func closeTo(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= 1e-5) {
			t.Fatalf("%s: [%d] = %g, want %g", what, i, got[i], want[i])
		}
	}
}

// randomSpans returns the bounds of a few sequences of up to most rows, some of them empty unless
// least is 1.
func randomSpans(rng *rand.Rand, least, most int) []int {
	spans := []int{0}
	for range 1 + rng.IntN(3) {
		spans = append(spans, spans[len(spans)-1]+least+rng.IntN(most-least+1))
	}
	return spans
}

// The definition pads with rows of zeros and re-reads; see FoldedAttention.
func TestFoldedAttention(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		for range 60 {
			heads, n, width := 1+rng.IntN(3), 1+rng.IntN(9), 1+rng.IntN(90)
			spans := randomSpans(rng, 0, 150)
			rows, c := spans[len(spans)-1], heads*n
			q, k, v := random(rng, rng.IntN(2)*5, rows, c), random(rng, rng.IntN(2)*5, rows, c), random(rng, rng.IntN(2)*5, rows, c)
			dst := random(rng, 0, rows, c)
			FoldedAttention(dst, q, k, v, heads, width, 0.5, spans)
			for i := range len(spans) - 1 {
				length := spans[i+1] - spans[i]
				fold := (length + width - 1) / width
				for h := range heads {
					reread := func(x *Tensor) [][]float32 {
						flat := make([]float32, width*fold*n)
						for p := range length {
							copy(flat[p*n:], x.Row(spans[i] + p)[h*n:][:n])
						}
						r := make([][]float32, width)
						for j := range r {
							r[j] = flat[j*fold*n:][:fold*n]
						}
						return r
					}
					qs, ks, vs := reread(q), reread(k), reread(v)
					for p := range length {
						want := attention64(qs[p/fold], ks, vs, 0.5, 0)[p%fold*n:][:n]
						closeTo(t, fmt.Sprintf("heads=%d n=%d width=%d spans=%v row %d", heads, n, width, spans, spans[i]+p), dst.Row(spans[i] + p)[h*n:][:n], want)
					}
				}
			}
		}
	})
}

// The definition re-reads each slice of z as [H, T, d]; see HeadAttention.
func TestHeadAttention(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(17, 18))
		for range 60 {
			heads, d := 1+rng.IntN(5), 1+rng.IntN(9)
			w := heads * d
			c := 4 * w
			spans := randomSpans(rng, 1, 40)
			rows := spans[len(spans)-1]
			z := random(rng, rng.IntN(2)*5, rows, 4*c)
			all, some := New(rows, c), New(len(spans)-1, c)
			HeadAttention(all, z, heads, 4, 0.5, spans, false)
			first := rng.IntN(4) // groups before it are left out
			for i := range len(spans) - 1 {
				length := spans[i+1] - spans[i]
				first = min(first, (length-1)*4/length)
			}
			HeadAttention(some, z.Cols(first*c, 4*c), heads, 4-first, 0.5, spans, true)
			for i := range len(spans) - 1 {
				length := spans[i+1] - spans[i]
				var want []float64
				for g := range 4 {
					var parts [4][]float32 // q, k, v and gate, re-read
					for j := range parts {
						for r := spans[i]; r < spans[i+1]; r++ {
							parts[j] = append(parts[j], z.Row(r)[g*c+j*w:][:w]...)
						}
					}
					at := func(j, h, m int) []float32 { return parts[j][(h*length+m)*d:][:d] }
					for h := range heads {
						for m := range length {
							var ks, vs [][]float32
							for o := range heads {
								ks, vs = append(ks, at(1, o, m)), append(vs, at(2, o, m))
							}
							for e, y := range attention64(at(0, h, m), ks, vs, 0.5, 0) {
								want = append(want, y*float64(at(3, h, m)[e]))
							}
						}
					}
				}
				name := fmt.Sprintf("heads=%d d=%d spans=%v first=%d sequence %d", heads, d, spans, first, i)
				closeTo(t, name, all.data[spans[i]*c:spans[i+1]*c], want)
				if last := some.Row(i); !slices.Equal(last, all.Row(spans[i+1]-1)) {
					t.Fatalf("%s: the last row alone is %v, want %v", name, last, all.Row(spans[i+1]-1))
				}
			}
		}
	})
}

// Sequences that go on over several calls, through caches that fill up, against all their keys.
func TestCausalAttention(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		for range 40 {
			groups, per, d, window := 1+rng.IntN(3), 1+rng.IntN(2), 1+rng.IntN(40), 1+rng.IntN(100)
			heads, stride := groups*per, per*d+rng.IntN(5)
			capacity := window + rng.IntN(100)
			cols := HeadColumns{PerGroup: per, Stride: stride}
			type sequence struct {
				cache  KVCache
				ks, vs [][]float32 // all rows so far
			}
			seqs := make([]sequence, 1+rng.IntN(3))
			for i := range seqs {
				seqs[i].cache = KVCache{K: random(rng, 0, heads, capacity, d), V: random(rng, 0, heads, capacity, d), Window: window}
			}
			for range 3 {
				spans := []int{0}
				for range seqs {
					spans = append(spans, spans[len(spans)-1]+rng.IntN(3)*rng.IntN(90))
				}
				rows := spans[len(seqs)]
				q, k, v, gate := random(rng, rng.IntN(2)*3, rows, groups*stride), random(rng, 1, rows, groups*stride), random(rng, 0, rows, groups*stride), random(rng, 2, rows, groups*stride)
				if rng.IntN(2) == 0 {
					gate = nil
				}
				dst := random(rng, rng.IntN(2)*6, rows, heads*d)
				CausalAttention(dst, q, k, v, gate, cols, 0.7, spans, func(i int) *KVCache { return &seqs[i].cache })
				for i := range seqs {
					s := &seqs[i]
					for r := spans[i]; r < spans[i+1]; r++ {
						s.ks, s.vs = append(s.ks, k.Row(r)), append(s.vs, v.Row(r))
						from := max(0, len(s.ks)-window)
						for h := range heads {
							col := cols.at(h, d)
							var ks, vs [][]float32
							for j := from; j < len(s.ks); j++ {
								ks, vs = append(ks, s.ks[j][col:][:d]), append(vs, s.vs[j][col:][:d])
							}
							want := attention64(q.Row(r)[col:][:d], ks, vs, 0.7, 0)
							for e := range want {
								if gate != nil {
									want[e] *= float64(gate.Row(r)[col+e])
								}
							}
							closeTo(t, fmt.Sprintf("groups=%d per=%d d=%d window=%d capacity=%d row %d", groups, per, d, window, capacity, len(s.ks)-1), dst.Row(r)[h*d:][:d], want)
						}
					}
				}
			}
		}
	})
}

func TestTokenShift(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(21, 22))
		for range 40 {
			c, spans := 1+rng.IntN(70), randomSpans(rng, 0, 30)
			rows := spans[len(spans)-1]
			x := random(rng, rng.IntN(2)*3, rows, c)
			outs := make([]Mixed, 1+rng.IntN(maxMixed))
			for i := range outs {
				outs[i] = Mixed{Dst: New(rows, c), Mix: random(rng, 0, c)}
			}
			var last, before [][]float32
			for range len(spans) - 1 {
				l := random(rng, 0, c).data
				if rng.IntN(3) == 0 {
					l = nil
				}
				last, before = append(last, l), append(before, slices.Clone(l))
			}
			TokenShift(x, spans, func(i int) []float32 { return last[i] }, outs...)
			for i := range len(spans) - 1 {
				prev := make([]float32, c)
				copy(prev, before[i])
				for r := spans[i]; r < spans[i+1]; r++ {
					for _, o := range outs {
						for e, v := range x.Row(r) { // two roundings of numbers up to 2, and one of their sum
							want := float64(v) + (float64(prev[e])-float64(v))*float64(o.Mix.data[e])
							if got := float64(o.Dst.Row(r)[e]); math.Abs(got-want) > 8*eps32 {
								t.Fatalf("c=%d spans=%v row %d: %g, want %g", c, spans, r, got, want)
							}
						}
					}
					prev = x.Row(r)
				}
				if last[i] != nil && !slices.Equal(last[i], prev) {
					t.Fatalf("c=%d spans=%v: sequence %d ends with %v, want %v", c, spans, i, last[i], prev)
				}
			}
		}
	})
}

func TestMixture(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(23, 24))
		for range 40 {
			rows, size, n := 1+rng.IntN(20), 1+rng.IntN(50), 1+rng.IntN(4)
			experts := n + rng.IntN(3)
			x, logits, dst := random(rng, 0, rows, n*size), random(rng, 0, rows, experts), New(rows, size)
			p := make([][]float64, rows)
			for r := range p {
				p[r] = softmax64(wide(logits.Row(r)), 0)
			}
			Mixture(dst, x, logits)
			for r := range rows {
				want := make([]float64, size)
				for j := range n {
					for e := range want {
						want[e] += p[r][j] * float64(x.Row(r)[j*size+e])
					}
				}
				closeTo(t, fmt.Sprintf("rows=%d size=%d n=%d of %d", rows, size, n, experts), dst.Row(r), want)
			}
		}
	})
}

// wide converts to float64.
func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
