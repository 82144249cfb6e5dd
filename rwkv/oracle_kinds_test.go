package rwkv

import (
	"fmt"
	"math"
)

// The kinds of the oracle.

// transformer is the kinds in nanoGPT's layout.
func (o *oracle[F]) transformer(ids []int) (logits rows[F], aux []F) {
	wte, wpe := o.matrix("transformer.wte.weight"), o.matrix("transformer.wpe.weight")
	x := newRows[F](len(ids), o.config.EmbedDim)
	for t, id := range ids {
		for i := range x[t] {
			x[t][i] = wte[id][i] + wpe[t][i]
		}
	}
	o.show("embed", x)
	for i := range o.config.NumLayers {
		p := fmt.Sprintf("transformer.h.%d.", i)
		add := func(name string, y rows[F]) {
			o.show(layer(i, name), y)
			x = plus(x, y)
		}
		if o.config.Kind == X051a {
			h := o.layerNorm(x, p+"ln_1")
			o.show(layer(i, ".ln_1"), h)
			add(".tmix", o.timeMix(h, p+"tmix."))
			h = o.layerNorm(x, p+"ln_2")
			o.show(layer(i, ".ln_2"), h)
			add(".cmix", o.channelMix(h, p+"cmix."))
		} else {
			h := rms(x)
			o.show(layer(i, ".ln_1"), h)
			add(".tmix", o.timeMix(h, p+"tmix."))
			h = rms(x)
			o.show(layer(i, ".ln_2"), h)
			add(".cmix", o.channelMix(h, p+"cmix."))
			add(".sliding_attn", o.slidingAttention(x, p+"sliding_attn."))
			h = o.timeMix(x, p+"tmix.")
			o.show(layer(i, ".tmix.call2"), h)
			add(".grouped_attn", o.groupedAttention(h, p+"grouped_attn."))
			y, a := o.experts(x, p+"moe.")
			aux = append(aux, a)
			add(".moe", y)
		}
		o.show(layer(i, ""), x)
	}
	x = o.layerNorm(x, "transformer.ln_f")
	o.show("ln_f", x)
	return apply(x, wte), aux
}

func rms[F number](x rows[F]) rows[F] {
	y := newRows[F](len(x), len(x[0]))
	for t, r := range x {
		norm := sqrt(dot(r, r)) / sqrt(F(len(r)))
		for i := range r {
			y[t][i] = r[i] / (norm + 1e-8)
		}
	}
	return y
}

func (o *oracle[F]) timeMix(x rows[F], p string) rows[F] {
	r := o.linear(o.shifted(x, p+"time_maa_r"), p+"receptance")
	k := o.linear(o.shifted(x, p+"time_maa_k"), p+"key")
	v := o.linear(o.shifted(x, p+"time_maa_v"), p+"value")
	g := each(o.linear(o.shifted(x, p+"time_maa_g"), p+"gate"), silu)
	n := len(x[0]) / o.config.NumHeads
	y := newRows[F](len(x), len(x[0]))
	for h := range o.config.NumHeads {
		w := float64(float32(math.Exp(-float64(float32(math.Exp(float64(o.vector(p + "time_decay")[h])))))))
		u := o.vector(p + "time_faaaa")[h]
		rh, kh, vh, yh := columns(r, h*n, h*n+n), columns(k, h*n, h*n+n), columns(v, h*n, h*n+n), columns(y, h*n, h*n+n)
		for t := range x {
			for s := range t + 1 {
				c := u
				if s < t {
					c = F(math.Pow(w, float64(t-1-s)))
				}
				c *= dot(rh[t], kh[s])
				for i := range n {
					yh[t][i] += c * vh[s][i]
				}
			}
		}
	}
	return o.linear(times(o.groupNorm(y, p+"ln_x"), g), p+"output")
}

func (o *oracle[F]) channelMix(x rows[F], p string) rows[F] {
	r := each(o.linear(o.shifted(x, p+"time_maa_r"), p+"receptance"), sigmoid)
	k := each(o.linear(o.shifted(x, p+"time_maa_k"), p+"key"), squareReLU)
	return times(r, o.linear(k, p+"value"))
}

func (o *oracle[F]) slidingAttention(x rows[F], p string) rows[F] {
	const w = 256
	t, c := len(x), len(x[0])
	n := c / o.config.NumHeads
	scale := 1 / sqrt(F(n))
	qkv := o.linear(x, p+"qkv")
	y := newRows[F](t, c)
	for h := range o.config.NumHeads {
		var q, k, v rows[F]
		for i, part := range []*rows[F]{&q, &k, &v} {
			*part = columns(qkv, i*c+h*n, i*c+h*n+n)
		}
		if o.config.Kind == Causal {
			for i := range t {
				from := max(0, i-w+1)
				copy(y[i][h*n:], attend(q[i], k[from:i+1], v[from:i+1], scale))
			}
			continue
		}
		padded := (t + w - 1) / w * w
		wide := padded / w * n
		for _, part := range []*rows[F]{&q, &k, &v} {
			*part = cut(append(flat(*part), make([]F, (padded-t)*n)...), wide)
		}
		var all []F
		for i := 0; len(all) < t*n; i++ { // the rows after that would be cut off
			all = append(all, attend(q[i], k, v, scale)...)
		}
		for i := range t {
			copy(y[i][h*n:][:n], all[i*n:])
		}
	}
	return o.linear(y, p+"proj")
}

func (o *oracle[F]) groupedAttention(x rows[F], p string) rows[F] {
	t, c, heads := len(x), len(x[0]), o.config.NumHeads
	d := c / (4 * heads)
	scale := 1 / sqrt(F(d))
	z := o.linear(x, p+"qkvw")
	if o.config.Kind == Causal {
		y := newRows[F](t, c)
		for g := range 4 {
			at := func(slice, head int) rows[F] {
				from := g*c + slice*c/4 + head*d
				return columns(z, from, from+d)
			}
			for h := range heads {
				q, k, v, gate := at(0, h), at(1, h), at(2, h), at(3, h)
				for i := range t {
					for j, a := range attend(q[i], k[:i+1], v[:i+1], scale) {
						y[i][g*c/4+h*d+j] = a * gate[i][j]
					}
				}
			}
		}
		return o.linear(y, p+"out")
	}
	var attended, gates []F
	for g := range 4 {
		slice := func(i int) []F { return flat(columns(z, g*c+i*c/4, g*c+(i+1)*c/4)) }
		q, k, v := cut(slice(0), d), cut(slice(1), d), cut(slice(2), d) // row h·T+i is [h, i]
		y := newRows[F](heads*t, d)
		for i := range t {
			var ki, vi rows[F]
			for h := range heads {
				ki, vi = append(ki, k[h*t+i]), append(vi, v[h*t+i])
			}
			for h := range heads {
				y[h*t+i] = attend(q[h*t+i], ki, vi, scale)
			}
		}
		attended, gates = append(attended, flat(y)...), append(gates, slice(3)...)
	}
	return o.linear(times(cut(attended, c), cut(gates, c)), p+"out")
}

func (o *oracle[F]) experts(x rows[F], p string) (y rows[F], aux F) {
	gate := o.linear(x, p+"gate")
	var sum rows[F]
	numbers := 0
	for j := range o.config.NumActiveExperts {
		h := o.linear(x, fmt.Sprintf("%sexperts.%d", p, j))
		if sum == nil {
			sum = newRows[F](len(x), len(h[0]))
		}
		for t := range x {
			s := softmax(gate[t])[j]
			for i := range sum[t] {
				sum[t][i] += s * h[t][i]
			}
		}
		for i := range h[0] {
			var mean F
			for t := range h {
				mean += h[t][i] / F(len(h))
			}
			aux += mean * mean
			numbers++
		}
	}
	return o.linear(sum, p+"fc"), 0.01 * aux / F(numbers)
}

// goose is RWKV-7.
func (o *oracle[F]) goose(ids []int) (logits rows[F]) {
	x := o.embedded(ids)
	embedded := x
	var first rows[F]
	for i := range o.config.NumLayers {
		p := fmt.Sprintf("blocks.%d.", i)
		var y rows[F]
		y, first = o.timeMix7(o.layerNorm(x, p+"ln1"), p+"att.", first)
		x = plus(x, y)
		h := o.layerNorm(x, p+"ln2")
		k := each(o.linear(o.shifted(h, p+"ffn.x_k"), p+"ffn.key"), squareReLU)
		if o.config.DeepEmbed > 0 {
			k = times(k, o.deepEmbed(ids, embedded, h, p+"ffn."))
		}
		x = plus(x, o.linear(k, p+"ffn.value"))
	}
	return o.linear(o.layerNorm(x, "ln_out"), "head")
}

// narrow returns f(x·name1)·name2, both [in, out].
func (o *oracle[F]) narrow(x rows[F], name string, f func(F) F) rows[F] {
	return apply(each(apply(x, turned(o.matrix(name+"1"))), f), turned(o.matrix(name+"2")))
}

// turned returns x with rows and columns exchanged.
func turned[F number](x rows[F]) rows[F] {
	y := newRows[F](len(x[0]), len(x))
	for i := range x {
		for j := range x[i] {
			y[j][i] = x[i][j]
		}
	}
	return y
}

// timeMix7 returns the layer's output, and v of the first block: nil in first says that this is it.
func (o *oracle[F]) timeMix7(x rows[F], p string, first rows[F]) (y, vFirst rows[F]) {
	same := func(a F) F { return a }
	biased := func(x rows[F], name string) rows[F] { // sigmoid(name + x)
		b := o.vector(name)
		z := newRows[F](len(x), len(b))
		for t := range x {
			for i := range b {
				z[t][i] = sigmoid(b[i] + x[t][i])
			}
		}
		return z
	}
	mixed := func(j string) rows[F] { return o.shifted(x, p+"x_"+j) }
	r, k, v := o.linear(mixed("r"), p+"receptance"), o.linear(mixed("k"), p+"key"), o.linear(mixed("v"), p+"value")
	w := each(biased(o.narrow(mixed("w"), p+"w", tanh), p+"w0"), func(s F) F { return exp(-F(math.Exp(-0.5)) * s) })
	a := biased(o.narrow(mixed("a"), p+"a", same), p+"a0")
	g := o.narrow(mixed("g"), p+"g", sigmoid)
	if first == nil {
		first = v
	} else {
		mix := biased(o.narrow(mixed("v"), p+"v", same), p+"v0")
		v = plus(v, times(zip(first, v, func(f, v F) F { return f - v }), mix))
	}

	n := len(x[0]) / o.config.NumHeads
	kappa, kk, ka := newRows[F](len(x), len(x[0])), o.vector(p+"k_k"), o.vector(p+"k_a")
	rk := o.matrix(p + "r_k")
	y, bonus := newRows[F](len(x), len(x[0])), newRows[F](len(x), len(x[0]))
	for h := range o.config.NumHeads {
		s := o.start(h, n, p)
		for t := range x {
			at := func(m rows[F]) []F { return m[t][h*n : h*n+n] }
			for i := range n {
				at(kappa)[i] = at(k)[i] * kk[h*n+i]
			}
			norm := max(sqrt(dot(at(kappa), at(kappa))), 1e-12)
			for i := range n {
				at(kappa)[i] /= norm
				at(k)[i] *= 1 + (at(a)[i]-1)*ka[h*n+i]
			}
			var rkk F
			for i := range n {
				rkk += at(r)[i] * at(k)[i] * rk[h][i]
			}
			for i := range n {
				old := dot(s[i], at(kappa))
				for j := range n {
					s[i][j] = s[i][j]*at(w)[j] - old*at(kappa)[j]*at(a)[j] + at(v)[i]*at(k)[j]
				}
				at(y)[i] = dot(s[i], at(r))
				at(bonus)[i] = rkk * at(v)[i]
			}
		}
	}
	return o.linear(times(plus(o.groupNorm(y, p+"ln_x"), bonus), g), p+"output"), first
}
