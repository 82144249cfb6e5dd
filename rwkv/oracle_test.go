package rwkv

import (
	"cmp"
	"fmt"
	"math"

	"microrwkv/tensor"
)

// The oracle computes every kind straight from its formulas: one sequence at a time, from its
// start, with no state, no kernels and no shortcuts. In float64 it says what is right; in float32
// it shows how far an honest computation in float32 may be from that.

// number is the precision that an oracle computes in.
type number interface{ float32 | float64 }

// rows is a matrix, one position or one output of a weight in each row.
type rows[F number] [][]F

type oracle[F number] struct {
	config  Config
	tensors map[string]*tensor.Weight
	cache   map[string]rows[F]
	show    func(layer string, x rows[F]) // every layer's output, by the names of the golden data
}

// newOracle returns an oracle of a model's weights, as the model's file has them.
func newOracle[F number](m *Model) *oracle[F] {
	o := &oracle[F]{config: m.config, tensors: map[string]*tensor.Weight{}, cache: map[string]rows[F]{}, show: func(string, rows[F]) {}}
	for _, t := range m.tensors {
		o.tensors[t.name] = t.Weight
	}
	return o
}

// forward returns the logits of every position, and the auxiliary loss of each block.
func (o *oracle[F]) forward(ids []int) (logits rows[F], aux []F) {
	switch o.config.Kind {
	case Reference, Causal, X051a:
		return o.transformer(ids)
	case RWKV4:
		return o.official(ids, o.timeMix4, o.shared, "time_mix_"), nil
	case RWKV5:
		return o.official(ids, o.timeMix5, o.shared, "time_mix_"), nil
	case RWKV6:
		return o.official(ids, o.timeMix6, o.shifted, "time_maa_"), nil
	case RWKV7:
		return o.goose(ids), nil
	}
	panic(o.config.Kind)
}

// matrix returns a tensor by its last dimension.
func (o *oracle[F]) matrix(name string) rows[F] {
	if m, ok := o.cache[name]; ok {
		return m
	}
	t, ok := o.tensors[name]
	if !ok {
		panic("oracle: no tensor " + name)
	}
	n := t.Dim(-1)
	m := newRows[F](t.Len()/n, n)
	for i, v := range t.Float32().Data() {
		m[i/n][i%n] = F(v)
	}
	o.cache[name] = m
	return m
}

// vector returns all numbers of a tensor.
func (o *oracle[F]) vector(name string) []F { return flat(o.matrix(name)) }

func (o *oracle[F]) has(name string) bool { return o.tensors[name] != nil }

func newRows[F number](n, c int) rows[F] {
	m := make(rows[F], n)
	for i := range m {
		m[i] = make([]F, c)
	}
	return m
}

// flat returns all numbers of x, row by row.
func flat[F number](x rows[F]) (all []F) {
	for _, r := range x {
		all = append(all, r...)
	}
	return all
}

// cut returns all as rows of c numbers.
func cut[F number](all []F, c int) (x rows[F]) {
	for ; len(all) > 0; all = all[c:] {
		x = append(x, all[:c])
	}
	return x
}

// columns returns columns from to to of x.
func columns[F number](x rows[F], from, to int) (y rows[F]) {
	for _, r := range x {
		y = append(y, r[from:to])
	}
	return y
}

// zip returns f of the elements of x and y.
func zip[F number](x, y rows[F], f func(a, b F) F) rows[F] {
	z := newRows[F](len(x), len(x[0]))
	for i := range z {
		for j := range z[i] {
			z[i][j] = f(x[i][j], y[i][j])
		}
	}
	return z
}

// each returns f of the elements of x.
func each[F number](x rows[F], f func(a F) F) rows[F] {
	return zip(x, x, func(a, _ F) F { return f(a) })
}

func plus[F number](x, y rows[F]) rows[F]  { return zip(x, y, func(a, b F) F { return a + b }) }
func times[F number](x, y rows[F]) rows[F] { return zip(x, y, func(a, b F) F { return a * b }) }

func dot[F number](x, y []F) (sum F) {
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

func exp[F number](x F) F     { return F(math.Exp(float64(x))) }
func sqrt[F number](x F) F    { return F(math.Sqrt(float64(x))) }
func tanh[F number](x F) F    { return F(math.Tanh(float64(x))) }
func sigmoid[F number](x F) F { return 1 / (1 + exp(-x)) }
func silu[F number](x F) F    { return x * sigmoid(x) }
func squareReLU[F number](x F) F {
	return max(x, 0) * max(x, 0)
}

// apply returns x·wᵀ.
func apply[F number](x, w rows[F]) rows[F] {
	y := newRows[F](len(x), len(w))
	for t := range x {
		for i := range w {
			y[t][i] = dot(x[t], w[i])
		}
	}
	return y
}

// linear returns x·name.weightᵀ + name.bias, if there is a bias.
func (o *oracle[F]) linear(x rows[F], name string) rows[F] {
	y := apply(x, o.matrix(name+".weight"))
	if o.has(name + ".bias") {
		b := o.vector(name + ".bias")
		for t := range y {
			for i := range b {
				y[t][i] += b[i]
			}
		}
	}
	return y
}

// normalize returns (x − mean)/√(var + eps) for each row.
func normalize[F number](x rows[F], eps F) rows[F] {
	y := newRows[F](len(x), len(x[0]))
	for t, r := range x {
		var mean, variance F
		for _, v := range r {
			mean += v
		}
		mean /= F(len(r))
		for _, v := range r {
			variance += (v - mean) * (v - mean)
		}
		variance /= F(len(r))
		for i, v := range r {
			y[t][i] = (v - mean) / sqrt(variance+eps)
		}
	}
	return y
}

// scale returns x ⊙ name.weight + name.bias, if there is a bias.
func (o *oracle[F]) scale(x rows[F], name string) rows[F] {
	y := newRows[F](len(x), len(x[0]))
	gain := o.vector(name + ".weight")
	bias := make([]F, len(gain))
	if o.has(name + ".bias") {
		bias = o.vector(name + ".bias")
	}
	for t := range x {
		for i := range gain {
			y[t][i] = x[t][i]*gain[i] + bias[i]
		}
	}
	return y
}

func (o *oracle[F]) layerNorm(x rows[F], name string) rows[F] {
	return o.scale(normalize(x, F(cmp.Or(o.config.NormEps, 1e-5))), name)
}

// groupNorm normalizes each head's numbers alone.
func (o *oracle[F]) groupNorm(x rows[F], name string) rows[F] {
	n := len(x[0]) / o.config.NumHeads
	return o.scale(cut(flat(normalize(cut(flat(x), n), F(cmp.Or(o.config.HeadNormEps, 64e-5)))), len(x[0])), name)
}

// shifted returns x + (x' − x) ⊙ name, with x' the row before and zeros before the first.
func (o *oracle[F]) shifted(x rows[F], name string) rows[F] {
	maa := o.vector(name)
	y := newRows[F](len(x), len(x[0]))
	for t := range x {
		for i := range x[t] {
			var before F
			if t > 0 {
				before = x[t-1][i]
			}
			y[t][i] = x[t][i] + (before-x[t][i])*maa[i]
		}
	}
	return y
}

// softmax returns exp(s − max) divided by their sum.
func softmax[F number](s []F) []F {
	top := F(math.Inf(-1))
	for _, v := range s {
		top = max(top, v)
	}
	p := make([]F, len(s))
	var sum F
	for i, v := range s {
		p[i] = exp(v - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// attend returns the attention of one query to some keys and values.
func attend[F number](q []F, k, v rows[F], scale F) []F {
	scores := make([]F, len(k))
	for s := range k {
		scores[s] = dot(q, k[s]) * scale
	}
	y := make([]F, len(v[0]))
	for s, p := range softmax(scores) {
		for i := range y {
			y[i] += p * v[s][i]
		}
	}
	return y
}

// crossEntropy returns the mean of −log softmax(logits)[target] over the targets that count.
func (o *oracle[F]) crossEntropy(logits rows[F], targets []int) F {
	var sum F
	n := 0
	for t, target := range targets {
		if target != IgnoreTarget {
			sum -= F(math.Log(float64(softmax(logits[t])[target])))
			n++
		}
	}
	return sum / F(n)
}

// layer names a layer of block i in the golden data.
func layer(i int, name string) string { return fmt.Sprintf("h.%d%s", i, name) }
