package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tensor/attention"
)

// flat returns all numbers, row by row, and cut cuts them into rows again.
func flat(x table) (all []float64) {
	for _, r := range x {
		all = append(all, r...)
	}
	return all
}

func cut(all []float64, n int) (x table) {
	for ; len(all) > 0; all = all[n:] {
		x = append(x, all[:n])
	}
	return x
}

// byHeads returns what f says of the same n columns of q, k and v, for each head, side by side.
func byHeads(q, k, v table, heads int, f func(q, k, v table) table) table {
	n := len(q[0]) / heads
	y := zeros(len(q), len(q[0]))
	for h := range heads {
		for t, row := range f(part(q, h*n, n), part(k, h*n, n), part(v, h*n, n)) {
			copy(y[t][h*n:], row)
		}
	}
	return y
}

// causal returns attention to the newest window positions.
func causal(window int) func(q, k, v table) table {
	return func(q, k, v table) (y table) {
		for t := range q {
			from := max(0, t-window+1)
			y = append(y, attend(q[t], k[from:t+1], v[from:t+1], 1/math.Sqrt(float64(len(q[t])))))
		}
		return y
	}
}

func TestSlidingWindowAttention(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ heads, n, window int }{{1, 1, 1}, {1, 3, 4}, {3, 4, 2}, {2, 5, 7}, {2, 2, 13}, {1, 8, 100}} {
		d := c.heads * c.n
		a := SlidingWindowAttention{Heads: c.heads, Window: c.window, QKV: weight(rng, 3*d, d), Proj: weight(rng, d, d)}
		x, spans := sequences(rng, d)
		by := func(f func(q, k, v table) table) table {
			return eachSequence(x, spans, func(x table) table {
				qkv := times(x, Linear{Weight: a.QKV})
				return times(byHeads(part(qkv, 0, d), part(qkv, d, d), part(qkv, 2*d, d), c.heads, f), Linear{Weight: a.Proj})
			})
		}
		published := by(func(q, k, v table) table {
			each := (len(q) + c.window - 1) / c.window // positions in a row
			pad := func(x table) table {
				return cut(append(flat(x), make([]float64, (each*c.window-len(x))*c.n)...), each*c.n)
			}
			var y table
			for _, row := range pad(q) {
				y = append(y, attend(row, pad(k), pad(v), 1/math.Sqrt(float64(c.n))))
			}
			return cut(flat(y), c.n)[:len(q)]
		})
		t.Run(fmt.Sprint("published", c), func(t *testing.T) {
			checkLayer(t, x, published, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) { a.Forward(dst, x, Context{spans, add, s}) })
		})
		for _, capacity := range []int{c.window, c.window + 1, 2 * c.window} {
			t.Run(fmt.Sprint("causal", c, capacity), func(t *testing.T) {
				checkCaches(t, x, spans, by(causal(c.window)), func() KVCache { return NewKVCache(c.heads, capacity, c.n, c.window) }, a.ForwardCausal)
			})
		}
	}
}

// checkCaches is checkLayer and checkStates for layers whose states are caches.
func checkCaches(t *testing.T, x *tensor.Tensor, spans Spans, want table, newCache func() KVCache, forward func(dst, x *tensor.Tensor, states func(i int) *KVCache, ctx Context)) {
	t.Helper()
	caches := make([]KVCache, spans.Len())
	for i := range caches {
		caches[i] = newCache()
	}
	empty := func(i int) *KVCache { Reset(&caches[i]); return &caches[i] }
	checkLayer(t, x, want, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) {
		forward(dst, x, empty, Context{spans, add, s})
	})
	checkStates(t, x, spans, want, newCache, func(dst, x *tensor.Tensor, spans Spans, states []KVCache, s *tensor.Scratch) {
		forward(dst, x, func(i int) *KVCache { return &states[i] }, Context{spans, false, s})
	})
}

func TestGroupedQueryAttention(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, c := range []struct{ heads, d int }{{1, 1}, {2, 1}, {3, 2}, {2, 5}, {7, 1}} {
		width := 4 * c.heads * c.d
		quarter := width / 4
		a := GroupedQueryAttention{Heads: c.heads, QKVW: weight(rng, 4*width, width), Out: weight(rng, width, width)}
		x, spans := sequences(rng, width)
		slice := func(z table, g, i int) table { return part(z, g*width+i*quarter, quarter) }
		published := eachSequence(x, spans, func(x table) table {
			z := times(x, Linear{Weight: a.QKVW})
			var y, gates []float64
			for g := range 4 {
				read := func(i int) table { return cut(flat(slice(z, g, i)), c.d) } // [h, t] is row h·T + t
				q, k, v := read(0), read(1), read(2)
				out := zeros(len(q), c.d)
				for t := range x {
					var ks, vs table
					for h := range c.heads {
						ks, vs = append(ks, k[h*len(x)+t]), append(vs, v[h*len(x)+t])
					}
					for h := range c.heads {
						out[h*len(x)+t] = attend(q[h*len(x)+t], ks, vs, 1/math.Sqrt(float64(c.d)))
					}
				}
				y, gates = append(y, flat(out)...), append(gates, flat(slice(z, g, 3))...)
			}
			return times(each(cut(y, width), cut(gates, width), product), Linear{Weight: a.Out})
		})
		t.Run(fmt.Sprint("published", c), func(t *testing.T) {
			checkLayer(t, x, published, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) { a.Forward(dst, x, Context{spans, add, s}) })
		})
		t.Run(fmt.Sprint("last", c), func(t *testing.T) {
			var rows []float32
			full := Spans{0}
			var want table
			for i := range spans.Len() {
				if from, to := spans[i], spans[i+1]; from < to { // a last row needs a row
					rows = append(rows, x.Data()[from*width:to*width]...)
					full = append(full, full[len(full)-1]+to-from)
					want = append(want, published[to-1])
				}
			}
			checkLayer(t, tensor.FromSlice(rows, len(rows)/width, width), want, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) {
				a.ForwardLast(dst, x, Context{full, add, s})
			})
		})
		t.Run(fmt.Sprint("causal", c), func(t *testing.T) {
			want := eachSequence(x, spans, func(x table) table {
				z := times(x, Linear{Weight: a.QKVW})
				y := zeros(len(x), width)
				for g := range 4 {
					for t, row := range each(byHeads(slice(z, g, 0), slice(z, g, 1), slice(z, g, 2), c.heads, causal(20)), slice(z, g, 3), product) {
						copy(y[t][g*quarter:], row)
					}
				}
				return times(y, Linear{Weight: a.Out})
			})
			checkCaches(t, x, spans, want, func() KVCache { return NewKVCache(4*c.heads, 20, c.d, 20) }, a.ForwardCausal)
		})
	}
}

func TestMoE(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	for _, c := range []struct{ width, experts, active, size int }{{1, 1, 1, 1}, {5, 4, 2, 3}, {8, 3, 3, 17}, {6, 20, 19, 5}} {
		m := MoE{Gate: linear(rng, c.experts, c.width, true), FC: linear(rng, c.width, c.size, true)}
		for range c.active {
			m.Experts = append(m.Experts, linear(rng, c.size, c.width, true))
		}
		x, spans := sequences(rng, c.width)
		aux := make([]float64, spans.Len())
		var wantAux []float64
		want := eachSequence(x, spans, func(x table) table {
			gate := times(x, m.Gate)
			sum := zeros(len(x), c.size)
			loss := 0.0
			for j, e := range m.Experts {
				h := times(x, e)
				for t := range x {
					var all float64
					for _, g := range gate[t] {
						all += math.Exp(g)
					}
					for i := range sum[t] {
						sum[t][i] += math.Exp(gate[t][j]) / all * h[t][i]
					}
				}
				for i := range c.size {
					var mean float64
					for t := range h {
						mean += h[t][i] / float64(len(h))
					}
					loss += mean * mean
				}
			}
			wantAux = append(wantAux, 0.01*loss/float64(c.active*c.size))
			return times(sum, m.FC)
		})
		checkLayer(t, x, want, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) {
			m.Forward(dst, x, nil, Context{spans, add, s})
		})
		var s tensor.Scratch
		m.Forward(tensor.New(x.Shape()...), x, aux, Context{spans, false, &s})
		aux = slices.DeleteFunc(aux, math.IsNaN) // of the sequence without rows, which has no mean
		agree(t, fmt.Sprint("auxiliary losses", c), single(aux), table{wantAux})
	}
}

func single(x []float64) *tensor.Tensor {
	t := tensor.New(1, len(x))
	for i, v := range x {
		t.Data()[i] = float32(v)
	}
	return t
}

func TestKVCacheRows(t *testing.T) {
	c := NewKVCache(2, 7, 3, 4)
	rng := rand.New(rand.NewPCG(4, 2))
	x := random(rng, 11, 6)
	for i := range 11 {
		row := x.Rows(i, i+1)
		attention.Causal(nil, tensor.New(1, 6), row, row, row, nil, attention.HeadColumns{PerGroup: 2}, 1, []int{0, 1}, func(int) *attention.KVCache { return &c.KVCache })
		rows := min(i+1, 3) // the next position attends to itself and three more
		if c.Rows() != rows {
			t.Fatalf("%d rows after %d positions, want %d", c.Rows(), i+1, rows)
		}
		size, err := c.Size(rows)
		if err != nil || size != 2*2*3*rows {
			t.Errorf("size %d (%v), want %d", size, err, 12*rows)
		}
		var want, got []float32 // keys, then values, and the same here; of each head the newest rows
		for range 2 {
			for h := range 2 {
				for r := i + 1 - rows; r <= i; r++ {
					want = append(want, x.Row(r)[3*h:3*h+3]...)
				}
			}
		}
		for p := range c.Parts {
			got = append(got, p...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("after %d positions: %v, want %v", i+1, got, want)
		}
	}
	for range c.Parts {
		break // leaving the loop is all it takes
	}
}

func TestStates(t *testing.T) {
	tmix, cmix, cache := NewTimeMixState(12, 3), NewChannelMixState(5), NewKVCache(2, 9, 3, 5)
	for _, c := range []struct {
		s              State
		rows, size     int
		refused, parts int // rows that don't fit, number of parts
	}{{&tmix, 0, 12 + 3*4*4, 1, 2}, {&cmix, 0, 5, 1, 1}, {&cache, 4, 4 * 2 * 2 * 3, 5, 4}} {
		if err := c.s.SetRows(c.rows); err != nil || c.s.Rows() != c.rows {
			t.Errorf("%T: %d rows (%v), want %d", c.s, c.s.Rows(), err, c.rows)
		}
		parts, numbers := 0, 0
		for p := range c.s.Parts {
			parts++
			numbers += len(p)
			for i := range p {
				p[i] = 1
			}
		}
		size, err := c.s.Size(c.rows)
		if err != nil || size != c.size || numbers != c.size || parts != c.parts {
			t.Errorf("%T: size %d (%v), %d numbers in %d parts, want %d in %d", c.s, size, err, numbers, parts, c.size, c.parts)
		}
		for _, n := range []int{c.refused, -1, math.MaxInt} {
			if _, err := c.s.Size(n); err == nil {
				t.Errorf("%T: Size(%d): no error", c.s, n)
			}
			if err := c.s.SetRows(n); err == nil || c.s.Rows() != c.rows {
				t.Errorf("%T: SetRows(%d): error %v, then %d rows", c.s, n, err, c.s.Rows())
			}
		}
		Reset(c.s)
		for p := range c.s.Parts {
			if slices.Contains(p, 1) {
				t.Errorf("%T: %v after Reset", c.s, p)
			}
		}
		if c.s.Rows() != 0 {
			t.Errorf("%T: %d rows after Reset", c.s, c.s.Rows())
		}
	}
}

// Shapes that don't fit are the caller's bug: the panic says which.
func TestWrongShapesPanic(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 2))
	var s tensor.Scratch
	five, four := tensor.New(2, 5), tensor.New(2, 4)
	spans := Spans{0, 2}
	swa := SlidingWindowAttention{Heads: 2, Window: 3, QKV: weight(rng, 12, 4), Proj: weight(rng, 4, 4)}
	gqa := GroupedQueryAttention{Heads: 1, QKVW: weight(rng, 16, 4), Out: weight(rng, 4, 4)}
	moe := MoE{Gate: linear(rng, 2, 4, true), Experts: []Linear{linear(rng, 3, 4, true)}, FC: linear(rng, 4, 3, true)}
	cmix := ChannelMix{MixK: random(rng, 4), MixR: random(rng, 4), Key: linear(rng, 6, 4, false), Value: linear(rng, 4, 6, false), Receptance: linear(rng, 4, 4, false)}
	panics(t, "sliding x", func() { swa.Forward(five, five, Context{spans, false, &s}) }, "[2 5]", "[12 4]")
	panics(t, "sliding dst", func() { swa.Forward(five, four, Context{spans, false, &s}) }, "[2 5]", "[4 4]")
	panics(t, "grouped x", func() { gqa.Forward(five, five, Context{spans, false, &s}) }, "[2 5]", "[16 4]")
	panics(t, "grouped dst", func() { gqa.Forward(five, four, Context{spans, false, &s}) }, "[2 5]", "[4 4]")
	panics(t, "MoE x", func() { moe.Forward(five, five, nil, Context{spans, false, &s}) }, "[2 5]", "[2 4]")
	panics(t, "MoE dst", func() { moe.Forward(five, four, nil, Context{spans, false, &s}) }, "[2 5]", "[4 3]")
	panics(t, "ChannelMix x", func() { cmix.Forward(five, five, nil, Context{spans, false, &s}) }, "Mix", "[5]", "[4]")
	panics(t, "ChannelMix dst", func() { cmix.Forward(five, four, nil, Context{spans, false, &s}) }, "[2 5]", "[4 6]")
}
