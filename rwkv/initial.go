package rwkv

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// The initial weights of a model that is to be trained: those of the published training programs. Each
// family has a table of rules by the ends of the parameters' names; see family.initial.

// initialRule is how a parameter begins whose name ends in suffix; the first rule that fits counts.
type initialRule struct {
	suffix string
	fill   func(p *place, w []float32)
}

// place is where a parameter is in a model.
type place struct {
	config Config
	shape  []int
	rng    *rand.Rand
	block  int
	r, q   float64 // block/(L−1), 0 if L = 1; 1 − block/L
}

// initialValues returns a parameter's initial values. They depend on the seed, the name and the Config alone.
func (f *family) initialValues(c Config, seed uint64, name string, shape []int) []float32 {
	n := 1
	for _, d := range shape {
		n *= d
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	p := &place{config: c, shape: shape, rng: rand.New(rand.NewPCG(seed, h.Sum64())), q: 1}
	for _, part := range strings.Split(name, ".") {
		if i, err := strconv.Atoi(part); err == nil {
			p.block = i
			break // an expert's number comes after the block's
		}
	}
	if l := c.NumLayers; l > 1 {
		p.r = float64(p.block) / float64(l-1)
	}
	p.q = 1 - float64(p.block)/float64(c.NumLayers)
	w := make([]float32, n)
	for _, rule := range f.initial {
		if strings.HasSuffix(name, rule.suffix) {
			rule.fill(p, w)
			break
		}
	}
	return w
}

// constant begins with one number.
func constant(x float64) func(*place, []float32) {
	return elements(func(*place, int) float64 { return x })
}

// elements begins with a number for each element.
func elements(f func(p *place, i int) float64) func(*place, []float32) {
	return func(p *place, w []float32) {
		for i := range w {
			w[i] = float32(f(p, i))
		}
	}
}

// normal begins with a normal distribution around 0.
func normal(dev func(p *place) float64) func(*place, []float32) {
	return func(p *place, w []float32) {
		d := dev(p)
		for i := range w {
			w[i] = float32(d * p.rng.NormFloat64())
		}
	}
}

// orthogonal begins with a random matrix whose rows, or columns if there are fewer of those, are
// orthogonal and of length gain.
func orthogonal(gain func(p *place) float64) func(*place, []float32) {
	return func(p *place, w []float32) {
		rows, cols := p.shape[0], p.shape[1]
		count, size := min(rows, cols), max(rows, cols)
		v := make([]float64, count*size)
		for i := range v {
			v[i] = p.rng.NormFloat64()
		}
		for i := range count { // Gram and Schmidt's way
			a := v[i*size:][:size]
			for j := range i {
				b := v[j*size:][:size]
				addScaled(a, -dot64(a, b), b)
			}
			addScaled(a, 1/math.Sqrt(dot64(a, a))-1, a)
		}
		g := gain(p)
		for i := range rows {
			for j := range cols {
				if rows <= cols {
					w[i*cols+j] = float32(g * v[i*size+j])
				} else {
					w[i*cols+j] = float32(g * v[j*size+i])
				}
			}
		}
	}
}

// dot64 returns a·b, adding in four chains that don't wait for each other.
func dot64(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	for ; len(a) >= 4; a, b = a[4:], b[4:] {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
	}
	for i, x := range a {
		s0 += x * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}

func addScaled(a []float64, x float64, b []float64) {
	b = b[:len(a)]
	for i := range a {
		a[i] += x * b[i]
	}
}

// column returns i/C of element i of a vector.
func (p *place) column(i int) float64 { return float64(i) / float64(p.config.EmbedDim) }

// head returns h/(H−1), 0 if H = 1.
func (p *place) head(h int) float64 {
	if n := p.config.NumHeads; n > 1 {
		return float64(h) / float64(n-1)
	}
	return 0
}

// mixing begins with 1 − (column/C)^power − less.
func mixing(power, less func(p *place) float64) func(*place, []float32) {
	return elements(func(p *place, i int) float64 { return 1 - math.Pow(p.column(i), power(p)) - less(p) })
}

func byDepth(x float64) func(*place) float64 { return func(p *place) float64 { return x * p.q } }
func always(x float64) func(*place) float64 {
	return func(*place) float64 { return x }
}

// transformerInitial is the table of nanoGPT's layout.
var transformerInitial = []initialRule{
	{"tmix.time_maa_k", mixing(byDepth(1), always(0))},
	{"tmix.time_maa_v", mixing(byDepth(1), func(p *place) float64 { return 0.3 * p.r })},
	{"tmix.time_maa_r", mixing(byDepth(0.5), always(0))},
	{"tmix.time_maa_g", mixing(byDepth(0.5), always(0))},
	{"cmix.time_maa_k", mixing(byDepth(1), always(0))},
	{"cmix.time_maa_r", mixing(byDepth(1), always(0))},
	{"time_decay", elements(func(p *place, h int) float64 { return -6 + 5*math.Pow(p.head(h), 0.7+1.3*p.r) })},
	{"time_faaaa", elements(func(p *place, h int) float64 { return p.r * (1 - p.head(h)) })},
	{".bias", constant(0)},
	{"ln_1.weight", constant(1)},
	{"ln_2.weight", constant(1)},
	{"ln_x.weight", constant(1)},
	{"ln_f.weight", constant(1)},
	{"tmix.output.weight", normal(func(p *place) float64 { return 0.02 / math.Sqrt(2*float64(p.config.NumLayers)) })},
	{".weight", normal(always(0.02))},
}

// linear and zig are RWKV-7's patterns over the columns.
func (p *place) linear(i int) float64 { return float64(i)/float64(p.config.EmbedDim-1) - 0.5 }
func (p *place) zig(i int) float64 {
	n := p.config.EmbedDim / p.config.NumHeads
	half := float64(n-1) / 2
	z := (float64(i%n) - half) / half
	return z * math.Abs(z)
}

// gooseInitial is the table of RWKV-7.
var gooseInitial = []initialRule{
	{"att.x_r", mixing(byDepth(0.2), always(0))},
	{"att.x_g", mixing(byDepth(0.2), always(0))},
	{"att.x_w", mixing(byDepth(0.9), always(0))},
	{"att.x_a", mixing(byDepth(0.9), always(0))},
	{"att.x_k", mixing(byDepth(0.7), always(0))},
	{"att.x_v", mixing(byDepth(0.7), always(0))},
	{"ffn.x_k", mixing(func(p *place) float64 { return p.q * p.q * p.q * p.q }, always(0))},
	{"att.w0", elements(func(p *place, i int) float64 {
		return -6 + 6*math.Pow(p.linear(i)+0.5, 1+math.Pow(p.r, 0.3)) + 0.5 + 2.5*p.zig(i)
	})},
	{"att.a0", elements(func(p *place, i int) float64 { return -0.19 + 0.3*p.zig(i) + 0.4*p.linear(i) })},
	{"att.v0", elements(func(p *place, i int) float64 { return 0.73 - 0.4*p.linear(i) })},
	{"att.k_k", elements(func(p *place, i int) float64 { return 0.71 - 0.1*p.linear(i) })},
	{"att.k_a", constant(1.02)},
	{"att.r_k", constant(-0.04)},
	{"att.w1", constant(0)}, {"att.a1", constant(0)}, {"att.v1", constant(0)}, {"att.g1", constant(0)},
	{"att.w2", orthogonal(narrow(0.1))}, {"att.a2", orthogonal(narrow(0.1))}, {"att.v2", orthogonal(narrow(0.1))}, {"att.g2", orthogonal(narrow(0.1))},
	{"att.receptance.weight", orthogonal(always(1))},
	{"att.key.weight", orthogonal(always(0.1))},
	{"att.value.weight", orthogonal(always(1))},
	{"ffn.key.weight", orthogonal(always(1))},
	{"att.output.weight", constant(0)},
	{"ffn.value.weight", constant(0)},
	{"ln_x.weight", elements(func(p *place, _ int) float64 {
		return math.Pow(float64(p.block+1)/float64(p.config.NumLayers), 0.7)
	})},
	{"emb.weight", elements(func(p *place, _ int) float64 { return (2*p.rng.Float64() - 1) * 1e-4 })},
	{"head.weight", orthogonal(narrow(0.5))},
	{".bias", constant(0)},
	{".weight", constant(1)}, // of norms
}

// narrow is a gain that grows with the rows beyond the columns.
func narrow(gain float64) func(*place) float64 {
	return func(p *place) float64 {
		return gain * math.Sqrt(max(1, float64(p.shape[0])/float64(p.shape[1])))
	}
}

// freshSource tells the shapes of what a new model has where the Config doesn't: the ranks of RWKV-7's
// narrow products, as its training program chooses them.
type freshSource map[string][]int

// Names implements source.
func (s freshSource) Names() []string { return nil }

// Tensor implements source.
func (s freshSource) Tensor(name string) (*tensor.Weight, error) {
	return nil, fmt.Errorf("tensor %q: %w", name, checkpoint.ErrNotFound)
}

// Shape implements source.
func (s freshSource) Shape(name string) ([]int, bool) {
	shape, ok := s[name]
	return shape, ok
}

// gooseFresh is RWKV-7's shapes, those of the first block's tensors without use included.
func gooseFresh(c Config) freshSource {
	s := freshSource{}
	d := c.EmbedDim
	for i := range c.NumLayers {
		prefix := "blocks." + strconv.Itoa(i) + ".att."
		for _, l := range [...]struct {
			name   string
			factor float64
		}{{"w", 2.5}, {"a", 2.5}, {"v", 1.7}, {"g", 5}} {
			rank := max(32, 32*int(math.RoundToEven(l.factor*math.Sqrt(float64(d))/32)))
			s[prefix+l.name+"1"], s[prefix+l.name+"2"] = []int{d, rank}, []int{rank, d}
		}
		s[prefix+"v0"] = []int{1, 1, d}
	}
	return s
}
