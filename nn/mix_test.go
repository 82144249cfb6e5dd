package nn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
)

// checkStates fails unless sequences that go on from states, row by row or in pieces, get what they
// get in one go.
func checkStates[S any](t *testing.T, x *tensor.Tensor, spans Spans, want table, newState func() S, forward func(dst, x *tensor.Tensor, spans Spans, states []S, s *tensor.Scratch)) {
	t.Helper()
	for _, size := range []int{1, 3, 8} {
		var s tensor.Scratch
		got := tensor.New(x.Shape()...)
		states := make([]S, spans.Len())
		for i := range states {
			states[i] = newState()
		}
		for at := 0; at < slices.Max(lengths); at += size {
			// the next rows of every sequence, if there are any
			var in []float32
			next := Spans{0}
			for i := range spans.Len() {
				from, to := min(spans[i]+at, spans[i+1]), min(spans[i]+at+size, spans[i+1])
				in = append(in, x.Data()[from*x.Dim(1):to*x.Dim(1)]...)
				next = append(next, next[i]+to-from)
			}
			dst := tensor.New(next[spans.Len()], x.Dim(1))
			forward(dst, tensor.FromSlice(in, dst.Shape()...), next, states, &s)
			for i := range spans.Len() {
				for r := next[i]; r < next[i+1]; r++ {
					copy(got.Row(spans[i]+at+r-next[i]), dst.Row(r))
				}
			}
		}
		agree(t, "in pieces", got, want)
	}
}

func TestTimeMix(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for _, c := range []struct{ heads, n int }{{1, 1}, {1, 5}, {3, 2}, {2, 16}} {
		d := c.heads * c.n
		m := TimeMix{
			MixK: random(rng, d), MixV: random(rng, d), MixR: random(rng, d), MixG: random(rng, d),
			Decay: []float32{0.9, 0, 1}[:c.heads], Bonus: tensor.FromSlice([]float32{0.3, -1, 2}[:c.heads], c.heads),
			Receptance: linear(rng, d, d, true), Key: linear(rng, d, d, false), Value: linear(rng, d, d, true), Gate: linear(rng, d, d, true), Output: linear(rng, d, d, true),
			LnX: GroupNorm{Groups: c.heads, Gain: random(rng, d), Bias: random(rng, d), Eps: 64e-5},
		}
		formula := func(x table) table {
			r, k, v := times(mixed(x, m.MixR), m.Receptance), times(mixed(x, m.MixK), m.Key), times(mixed(x, m.MixV), m.Value)
			y := zeros(len(x), d)
			for h := range c.heads {
				for t := range x {
					for s := range t + 1 {
						f := float64(m.Bonus.Data()[h])
						if s < t {
							f = math.Pow(float64(m.Decay[h]), float64(t-1-s))
						}
						f *= dot(r[t][h*c.n:][:c.n], k[s][h*c.n:][:c.n])
						for i := h * c.n; i < (h+1)*c.n; i++ {
							y[t][i] += f * v[s][i]
						}
					}
				}
			}
			y = groupNorm(y, c.heads, m.LnX.Gain, m.LnX.Bias, 64e-5)
			return times(each(y, times(mixed(x, m.MixG), m.Gate), func(y, g float64) float64 { return y * g * sigmoid(g) }), m.Output)
		}
		x, spans := sequences(rng, d)
		want := eachSequence(x, spans, formula)
		checkLayer(t, x, want, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) {
			m.Forward(dst, x, nil, Context{spans, add, s})
		})
		checkStates(t, x, spans, want, func() TimeMixState { return NewTimeMixState(d, c.heads) },
			func(dst, x *tensor.Tensor, spans Spans, states []TimeMixState, s *tensor.Scratch) {
				m.Forward(dst, x, func(i int) *TimeMixState { return &states[i] }, Context{spans, false, s})
			})
		panics(t, "x too wide", func() {
			var s tensor.Scratch
			m.Forward(tensor.New(1, d+1), tensor.New(1, d+1), nil, Context{Spans{0, 1}, false, &s})
		}, "tensor: ")
	}
}

func TestChannelMix(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, c := range []struct{ c, f int }{{1, 1}, {5, 15}, {18, 7}} {
		m := ChannelMix{MixK: random(rng, c.c), MixR: random(rng, c.c), Key: linear(rng, c.f, c.c, true), Value: linear(rng, c.c, c.f, true), Receptance: linear(rng, c.c, c.c, false)}
		seven := ChannelMix7{MixK: m.MixK, Key: m.Key, Value: m.Value}
		x, spans := sequences(rng, c.c)
		value := func(x table) table {
			k := times(mixed(x, m.MixK), m.Key)
			return times(each(k, k, squareReLU), m.Value)
		}
		want := eachSequence(x, spans, func(x table) table {
			return each(times(mixed(x, m.MixR), m.Receptance), value(x), func(r, v float64) float64 { return sigmoid(r) * v })
		})
		checkLayer(t, x, want, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) {
			m.Forward(dst, x, nil, Context{spans, add, s})
		})
		newState := func() ChannelMixState { return NewChannelMixState(c.c) }
		checkStates(t, x, spans, want, newState, func(dst, x *tensor.Tensor, spans Spans, states []ChannelMixState, s *tensor.Scratch) {
			m.Forward(dst, x, func(i int) *ChannelMixState { return &states[i] }, Context{spans, false, s})
		})

		want = eachSequence(x, spans, value)
		states := make([]ChannelMixState, spans.Len())
		for i := range states {
			states[i] = newState()
		}
		checkLayer(t, x, want, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) {
			seven.Forward(dst, x, func(i int) *ChannelMixState { clear(states[i].Shift); return &states[i] }, Context{spans, add, s})
		})
		checkStates(t, x, spans, want, newState, func(dst, x *tensor.Tensor, spans Spans, states []ChannelMixState, s *tensor.Scratch) {
			seven.Forward(dst, x, func(i int) *ChannelMixState { return &states[i] }, Context{spans, false, s})
		})
	}
}

func TestTimeMix7(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for _, c := range []struct {
		heads, n, rank int
		first          bool
	}{{1, 1, 1, true}, {1, 8, 3, false}, {2, 16, 5, true}, {3, 5, 9, false}} {
		d := c.heads * c.n
		low := func(rank int, bias bool) LowRank {
			l := LowRank{Down: weight(rng, rank, d), Up: weight(rng, d, rank)}
			if bias {
				l.Bias = random(rng, d)
			}
			return l
		}
		m := TimeMix7{
			Heads: c.heads,
			MixR:  random(rng, d), MixW: random(rng, d), MixK: random(rng, d), MixV: random(rng, d), MixA: random(rng, d), MixG: random(rng, d),
			Decay: low(c.rank, true), Rate: low(c.rank+1, true), Gate: low(c.rank+3, false),
			KK: random(rng, d), KA: random(rng, d), RK: random(rng, d),
			Receptance: linear(rng, d, d, false), Key: linear(rng, d, d, false), Value: linear(rng, d, d, false), Output: linear(rng, d, d, false),
			LnX: GroupNorm{Groups: c.heads, Gain: random(rng, d), Bias: random(rng, d), Eps: 64e-5},
		}
		if !c.first {
			m.ValueMix = low(c.rank+2, true)
		}
		narrow := func(x table, l LowRank, middle, out func(a, _ float64) float64) table {
			h := times(x, Linear{Weight: l.Down})
			y := times(each(h, h, middle), Linear{Weight: l.Up, Bias: l.Bias})
			return each(y, y, out)
		}
		same := func(a, _ float64) float64 { return a }
		sig := func(a, _ float64) float64 { return sigmoid(a) }
		x, spans := sequences(rng, d)
		given := random(rng, x.Dim(0), d) // the first block's v
		at := 0
		wantFirst := of(given)
		want := eachSequence(x, spans, func(x table) table {
			r, k, v := times(mixed(x, m.MixR), m.Receptance), times(mixed(x, m.MixK), m.Key), times(mixed(x, m.MixV), m.Value)
			w := narrow(mixed(x, m.MixW), m.Decay, func(a, _ float64) float64 { return math.Tanh(a) }, sig)
			a, g := narrow(mixed(x, m.MixA), m.Rate, same, sig), narrow(mixed(x, m.MixG), m.Gate, sig, same)
			if c.first {
				copy(wantFirst[at:], v)
			} else {
				mix := narrow(mixed(x, m.MixV), m.ValueMix, same, sig)
				v = each(v, each(each(wantFirst[at:][:len(x)], v, func(f, v float64) float64 { return f - v }), mix, product), func(a, b float64) float64 { return a + b })
			}
			at += len(x)
			y, extra := zeros(len(x), d), zeros(len(x), d)
			kk, ka, rk := vector(m.KK), vector(m.KA), vector(m.RK)
			for h := range c.heads {
				s := zeros(c.n, c.n)
				for t := range x {
					kappa, norm, bonus := make([]float64, c.n), 0.0, 0.0
					for i := range c.n {
						j := h*c.n + i
						kappa[i] = k[t][j] * kk[j]
						norm += kappa[i] * kappa[i]
						k[t][j] *= 1 + (a[t][j]-1)*ka[j]
						bonus += r[t][j] * k[t][j] * rk[j]
					}
					for i := range kappa {
						kappa[i] /= max(math.Sqrt(norm), 1e-12)
					}
					for i := range c.n {
						removed := dot(s[i], kappa)
						for n := range c.n {
							j := h*c.n + n
							s[i][n] = s[i][n]*math.Exp(-math.Exp(-0.5)*w[t][j]) - removed*kappa[n]*a[t][j] + v[t][h*c.n+i]*k[t][j]
						}
						y[t][h*c.n+i] = dot(s[i], r[t][h*c.n:][:c.n])
						extra[t][h*c.n+i] = bonus * v[t][h*c.n+i]
					}
				}
			}
			y = each(groupNorm(y, c.heads, m.LnX.Gain, m.LnX.Bias, 64e-5), extra, func(a, b float64) float64 { return a + b })
			return times(each(y, g, product), m.Output)
		})
		states := make([]TimeMixState, spans.Len())
		for i := range states {
			states[i] = NewTimeMixState(d, c.heads)
		}
		vFirst := tensor.New(given.Shape()...)
		vFirst.CopyFrom(given)
		checkLayer(t, x, want, func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch) {
			m.Forward(dst, x, vFirst, func(i int) *TimeMixState { Reset(&states[i]); return &states[i] }, Context{spans, add, s})
		})
		agree(t, "first v", vFirst, wantFirst)
	}
}
