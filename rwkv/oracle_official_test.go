package rwkv

import (
	"fmt"
	"math"
)

// The official versions before 7 of the oracle, and RWKV-7a's part.

// official is what is around the blocks of versions 4 to 6.
func (o *oracle[F]) official(ids []int, timeMix func(x rows[F], p string) rows[F], mix func(x rows[F], name string) rows[F], prefix string) rows[F] {
	x := o.embedded(ids)
	for i := range o.config.NumLayers {
		p := fmt.Sprintf("blocks.%d.", i)
		x = plus(x, timeMix(o.layerNorm(x, p+"ln1"), p+"att."))
		h := o.layerNorm(x, p+"ln2")
		r := each(o.linear(mix(h, p+"ffn."+prefix+"r"), p+"ffn.receptance"), sigmoid)
		k := each(o.linear(mix(h, p+"ffn."+prefix+"k"), p+"ffn.key"), squareReLU)
		x = plus(x, times(r, o.linear(k, p+"ffn.value")))
		if every := o.config.RescaleEvery; every > 0 && (i+1)%every == 0 {
			x = each(x, func(v F) F { return v / 2 })
		}
	}
	return o.linear(o.layerNorm(x, "ln_out"), "head")
}

// embedded returns the normalized embeddings.
func (o *oracle[F]) embedded(ids []int) rows[F] {
	emb := o.matrix("emb.weight")
	x := newRows[F](len(ids), 0)
	for t, id := range ids {
		x[t] = emb[id]
	}
	return o.layerNorm(x, "blocks.0.ln0")
}

// shared is shifted with the share of the present row.
func (o *oracle[F]) shared(x rows[F], name string) rows[F] {
	share := o.vector(name)
	y := newRows[F](len(x), len(x[0]))
	for t := range x {
		for i := range x[t] {
			y[t][i] = x[t][i] * share[i]
			if t > 0 {
				y[t][i] += x[t-1][i] * (1 - share[i])
			}
		}
	}
	return y
}

// timeMix4 is RWKV-4's: weights e^k by the distance, the largest exponent taken out of each sum.
func (o *oracle[F]) timeMix4(x rows[F], p string) rows[F] {
	r := each(o.linear(o.shared(x, p+"time_mix_r"), p+"receptance"), sigmoid)
	k := o.linear(o.shared(x, p+"time_mix_k"), p+"key")
	v := o.linear(o.shared(x, p+"time_mix_v"), p+"value")
	y := newRows[F](len(x), len(k[0]))
	for c := range y[0] {
		w, u := -math.Exp(float64(o.vector(p + "time_decay")[c])), o.vector(p + "time_first")[c]
		for t := range y {
			exponents := make([]F, t+1)
			top := F(math.Inf(-1))
			for s := range exponents {
				exponents[s] = k[s][c]
				switch {
				case s == t:
					exponents[s] += u
				case s < t-1:
					exponents[s] += F(float64(t-1-s) * w)
				}
				top = max(top, exponents[s])
			}
			var num, den F
			for s, e := range exponents {
				e = exp(e - top)
				num += e * v[s][c]
				den += e
			}
			y[t][c] = num / den
		}
	}
	return o.linear(times(r, y), p+"output")
}

// matrixState is the recurrence that versions 5 and 6 share, with w a decay for each token and channel.
func (o *oracle[F]) matrixState(r, w, k, v rows[F], u []F, p string) rows[F] {
	y := newRows[F](len(r), len(r[0]))
	n := len(u) / o.config.NumHeads
	for h := range o.config.NumHeads {
		s := o.start(h, n, p)
		for t := range y {
			at := func(m rows[F]) []F { return m[t][h*n : h*n+n] }
			var bonus F
			for i := range n {
				bonus += at(r)[i] * u[h*n+i] * at(k)[i]
			}
			for i := range n {
				at(y)[i] = dot(s[i], at(r)) + bonus*at(v)[i]
				for j := range n {
					s[i][j] = s[i][j]*at(w)[j] + at(v)[i]*at(k)[j]
				}
			}
		}
	}
	return y
}

// start returns the state of a head before the first token: zeros, or what the file has.
func (o *oracle[F]) start(head, n int, p string) rows[F] {
	s := newRows[F](n, n)
	if o.has(p + "time_state") {
		for i := range s {
			copy(s[i], o.matrix(p + "time_state")[head*n+i])
		}
	}
	return s
}

// byChannel returns a number for each channel, of one for each channel or head.
func byChannel[F number](x []F, channels int, f func(F) F) []F {
	y := make([]F, channels)
	for i := range y {
		y[i] = f(x[i/(channels/len(x))])
	}
	return y
}

func decayOf[F number](x F) F { return F(math.Exp(-math.Exp(float64(x)))) }

func (o *oracle[F]) timeMix5(x rows[F], p string) rows[F] {
	r := o.linear(o.shared(x, p+"time_mix_r"), p+"receptance")
	k := o.linear(o.shared(x, p+"time_mix_k"), p+"key")
	v := o.linear(o.shared(x, p+"time_mix_v"), p+"value")
	a := len(r[0])
	var u []F
	if o.has(p + "time_first") {
		u = byChannel(o.vector(p+"time_first"), a, exp)
	} else {
		u = byChannel(o.vector(p+"time_faaaa"), a, func(x F) F { return x })
	}
	w := newRows[F](len(x), 0)
	for t := range w {
		w[t] = byChannel(o.vector(p+"time_decay"), a, decayOf)
	}
	y := o.groupNorm(o.matrixState(r, w, k, v, u, p), p+"ln_x")
	if o.has(p + "gate.weight") {
		y = times(y, each(o.linear(o.shared(x, p+"time_mix_g"), p+"gate"), silu))
	}
	return o.linear(y, p+"output")
}

func (o *oracle[F]) timeMix6(x rows[F], p string) rows[F] {
	z := each(apply(o.shifted(x, p+"time_maa_x"), turned(o.matrix(p+"time_maa_w1"))), tanh)
	d := len(z[0]) / 5
	mixed := map[string]rows[F]{}
	for j, name := range []string{"w", "k", "v", "r", "g"} {
		amount := apply(columns(z, j*d, (j+1)*d), turned(o.matrix(p + "time_maa_w2")[j*d:(j+1)*d]))
		maa := o.vector(p + "time_maa_" + name)
		y := newRows[F](len(x), len(x[0]))
		for t := range y {
			for i := range y[t] {
				var before F
				if t > 0 {
					before = x[t-1][i]
				}
				y[t][i] = x[t][i] + (before-x[t][i])*(maa[i]+amount[t][i])
			}
		}
		mixed[name] = y
	}
	w := o.narrow(mixed["w"], p+"time_decay_w", tanh)
	decay := o.vector(p + "time_decay")
	for t := range w {
		for i := range w[t] {
			w[t][i] = decayOf(w[t][i] + decay[i])
		}
	}
	r, k, v := o.linear(mixed["r"], p+"receptance"), o.linear(mixed["k"], p+"key"), o.linear(mixed["v"], p+"value")
	y := o.groupNorm(o.matrixState(r, w, k, v, o.vector(p+"time_faaaa"), p), p+"ln_x")
	return o.linear(times(y, each(o.linear(mixed["g"], p+"gate"), silu)), p+"output")
}

// deepEmbed returns what the inner channels of RWKV-7a's channel mix are multiplied by.
func (o *oracle[F]) deepEmbed(ids []int, embedded, x rows[F], p string) rows[F] {
	d := o.config.DeepEmbed
	middle := apply(x, turned(o.matrix(p+"s1")))
	more := o.linear(embedded, p+"s_emb_x")
	y := newRows[F](len(x), d)
	for t, id := range ids {
		for b := range d {
			for a := range d {
				y[t][b] += middle[t][a] * (o.matrix(p + "s_emb.weight")[id][a*d+b] + more[t][a*d+b])
			}
		}
	}
	y = apply(y, turned(o.matrix(p+"s2")))
	for t := range y {
		for i, bias := range o.vector(p + "s0") {
			y[t][i] += bias
		}
	}
	return y
}
