package attention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/tensortest"
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
	for j, p := range tensortest.Softmax64(scores, zeros) {
		for i := range out {
			out[i] += p * float64(values[j][i])
		}
	}
	return out
}

// The definition pads with rows of zeros and re-reads; see Folded.
func TestFolded(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		for range 60 {
			heads, n, width := 1+rng.IntN(3), 1+rng.IntN(9), 1+rng.IntN(90)
			spans := tensortest.RandomSpans(rng, 0, 150)
			rows, c := spans[len(spans)-1], heads*n
			q, k, v := tensortest.Random(rng, rng.IntN(2)*5, rows, c), tensortest.Random(rng, rng.IntN(2)*5, rows, c), tensortest.Random(rng, rng.IntN(2)*5, rows, c)
			dst := tensortest.Random(rng, 0, rows, c)
			Folded(nil, dst, q, k, v, heads, width, 0.5, spans)
			for i := range len(spans) - 1 {
				length := spans[i+1] - spans[i]
				fold := (length + width - 1) / width
				for h := range heads {
					reread := func(x *tensor.Tensor) [][]float32 {
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
						tensortest.CloseTo(t, fmt.Sprintf("heads=%d n=%d width=%d spans=%v row %d", heads, n, width, spans, spans[i]+p), dst.Row(spans[i] + p)[h*n:][:n], want)
					}
				}
			}
		}
	})
}

// The definition re-reads each slice of z as [H, T, d]; see Heads.
func TestHeads(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(17, 18))
		for range 60 {
			heads, d := 1+rng.IntN(5), 1+rng.IntN(9)
			w := heads * d
			c := 4 * w
			spans := tensortest.RandomSpans(rng, 1, 40)
			rows := spans[len(spans)-1]
			z := tensortest.Random(rng, rng.IntN(2)*5, rows, 4*c)
			all, some := tensor.New(rows, c), tensor.New(len(spans)-1, c)
			Heads(nil, all, z, heads, 4, 0.5, spans, false)
			first := rng.IntN(4) // groups before it are left out
			for i := range len(spans) - 1 {
				length := spans[i+1] - spans[i]
				first = min(first, (length-1)*4/length)
			}
			Heads(nil, some, z.Cols(first*c, 4*c), heads, 4-first, 0.5, spans, true)
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
				tensortest.CloseTo(t, name, all.Data()[spans[i]*c:spans[i+1]*c], want)
				if last := some.Row(i); !slices.Equal(last, all.Row(spans[i+1]-1)) {
					t.Fatalf("%s: the last row alone is %v, want %v", name, last, all.Row(spans[i+1]-1))
				}
			}
		}
	})
}

// Sequences that go on over several calls, through caches that fill up, against all their keys.
func TestCausal(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
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
				seqs[i].cache = KVCache{K: tensortest.Random(rng, 0, heads, capacity, d), V: tensortest.Random(rng, 0, heads, capacity, d), Window: window}
			}
			for range 3 {
				spans := []int{0}
				for range seqs {
					spans = append(spans, spans[len(spans)-1]+rng.IntN(3)*rng.IntN(90))
				}
				rows := spans[len(seqs)]
				q, k, v, gate := tensortest.Random(rng, rng.IntN(2)*3, rows, groups*stride), tensortest.Random(rng, 1, rows, groups*stride), tensortest.Random(rng, 0, rows, groups*stride), tensortest.Random(rng, 2, rows, groups*stride)
				if rng.IntN(2) == 0 {
					gate = nil
				}
				dst := tensortest.Random(rng, rng.IntN(2)*6, rows, heads*d)
				Causal(nil, dst, q, k, v, gate, cols, 0.7, spans, func(i int) *KVCache { return &seqs[i].cache })
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
							tensortest.CloseTo(t, fmt.Sprintf("groups=%d per=%d d=%d window=%d capacity=%d row %d", groups, per, d, window, capacity, len(s.ks)-1), dst.Row(r)[h*d:][:d], want)
						}
					}
				}
			}
		}
	})
}

func TestShapesThatDontFitPanic(t *testing.T) {
	a, b := tensor.New(2, 3), tensor.New(2, 4)
	for name, f := range map[string]func(){
		"Folded": func() { Folded(nil, a, a, a, b, 1, 4, 1, []int{0, 2}) },
		"heads":  func() { Folded(nil, tensor.New(2, 3), a, a, a, 2, 4, 1, []int{0, 2}) },
		"Heads":  func() { Heads(nil, tensor.New(2, 4), tensor.New(2, 12), 1, 4, 1, []int{0, 2}, false) },
		"Causal": func() {
			Causal(nil, tensor.New(2, 3), a, a, a, nil, HeadColumns{PerGroup: 1}, 1, []int{0, 2}, func(int) *KVCache {
				return &KVCache{K: tensor.New(1, 2, 2), V: tensor.New(1, 2, 2), Window: 2}
			})
		},
	} {
		tensortest.Panics(t, name, f)
	}
}

// Scores of −80 to −90 beside the padding's zeros: the weights are tiny, the values large, and the products
// must be right.
func TestFoldedBesideZeros(t *testing.T) {
	tensortest.EachKernel(t, func(t *testing.T) {
		for _, score := range []float64{-80, -86, -90} {
			q, k, v, dst := tensor.New(1, 1), tensor.New(1, 1), tensor.New(1, 1), tensor.New(1, 1)
			q.Row(0)[0], k.Row(0)[0], v.Row(0)[0] = float32(score), 1, 1e30
			Folded(nil, dst, q, k, v, 1, 4, 1, []int{0, 1})
			want := 1e30 * math.Exp(score) / (3 + math.Exp(score))
			if got := float64(dst.Row(0)[0]); math.Abs(got-want) > 1e-4*want {
				t.Errorf("score %g: %g, want %g", score, got, want)
			}
		}
	})
}
