package rwkv

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// RWKV-7 "Goose", kind rwkv7: the official models' layout.

// headSize is N of every official model.
const headSize = 64

var goose = family{
	kinds:      map[Kind]FullRule{RWKV7: KeepHalf}, // never full
	vocabulary: "world",
	match: func(src source, _ string) (Kind, error) {
		has := func(name string) bool {
			_, ok := src.Shape("blocks.0.att." + name)
			return ok
		}
		version := ""
		switch {
		case has("x_r") || has("r_k") || has("w0"):
			return RWKV7, nil
		case has("time_maa_x") || has("time_maa_w1"):
			version = "RWKV-6 (x060)"
		case has("gate.weight"):
			version = "RWKV-5 (x051 or x052)"
		case has("time_mix_k") && has("time_first"):
			version = "RWKV-4"
			if _, ok := src.Shape("blocks.0.att.ln_x.weight"); ok {
				version = "RWKV-5 (x050)"
			}
		default:
			return "", nil
		}
		return "", fmt.Errorf("this is %s, which isn't supported yet: want RWKV-7 (x070)", version)
	},
	configure: func(src source, c *Config) error {
		const rk = "blocks.0.att.r_k"
		var heads, n, in int
		c.NumLayers = countLayers(src, "blocks.")
		err := errors.Join(
			sizes(src, "emb.weight", &c.VocabSize, &c.EmbedDim),
			sizes(src, rk, &heads, &n),
			sizes(src, "blocks.0.ffn.key.weight", &c.FFNDim, &in),
		)
		if n != 0 && n != headSize {
			return errors.Join(err, fmt.Errorf("head size %d (tensor %q): want %d", n, rk, headSize))
		}
		c.NumHeads = heads
		return err
	},
	fill: func(c *Config) {
		c.NumExperts, c.NumActiveExperts, c.ExpertDim, c.ExpertWidth = 0, 0, 0, 0
		c.BlockSize, c.Bias = 0, false
		if c.FFNDim == 0 {
			c.FFNDim = 4 * c.EmbedDim
		}
	},
	validate: func(*Config) error { return nil },
	specs:    gooseSpecs,
	build:    buildGoose,
}

type gooseNet struct {
	config Config
	emb    nn.Embedding
	ln0    nn.LayerNorm
	blocks []gooseBlock
	lnOut  nn.LayerNorm
	out    *tensor.Tensor
}

type gooseBlock struct {
	ln1, ln2 nn.LayerNorm
	att      nn.TimeMix7
	ffn      nn.ChannelMix7
}

func buildGoose(c Config, l *loader) network {
	d := c.EmbedDim
	if c.EmbedDim != c.NumHeads*headSize {
		l.errs = append(l.errs, fmt.Errorf("n_embd = %d in %d heads: want a head size of %d", d, c.NumHeads, headSize))
		return nil
	}
	n := &gooseNet{
		config: c,
		emb:    nn.Embedding{Weight: l.tensor("emb.weight", c.VocabSize, d)},
		ln0:    l.layerNorm("blocks.0.ln0", true, d),
		lnOut:  l.layerNorm("ln_out", true, d),
		out:    l.tensor("head.weight", c.VocabSize, d),
	}
	for i := range c.NumLayers {
		p := fmt.Sprintf("blocks.%d.", i)
		a := p + "att."
		b := gooseBlock{
			ln1: l.layerNorm(p+"ln1", true, d), ln2: l.layerNorm(p+"ln2", true, d),
			att: nn.TimeMix7{
				Heads: c.NumHeads,
				MixR:  l.vector(a+"x_r", d), MixW: l.vector(a+"x_w", d), MixK: l.vector(a+"x_k", d),
				MixV: l.vector(a+"x_v", d), MixA: l.vector(a+"x_a", d), MixG: l.vector(a+"x_g", d),
				Decay: l.lowRank(a, "w", true, d), Rate: l.lowRank(a, "a", true, d), Gate: l.lowRank(a, "g", false, d),
				KK: l.vector(a+"k_k", d), KA: l.vector(a+"k_a", d), RK: l.matrixVector(a+"r_k", c.NumHeads, headSize),
				Receptance: l.linear(a+"receptance", false, d, d), Key: l.linear(a+"key", false, d, d),
				Value: l.linear(a+"value", false, d, d), Output: l.linear(a+"output", false, d, d),
				LnX: nn.GroupNorm{Groups: c.NumHeads, Gain: l.vector(a+"ln_x.weight", d), Bias: l.vector(a+"ln_x.bias", d), Eps: 64e-5},
			},
			ffn: nn.ChannelMix7{MixK: l.vector(p+"ffn.x_k", d), Key: l.linear(p+"ffn.key", false, c.FFNDim, d), Value: l.linear(p+"ffn.value", false, d, c.FFNDim)},
		}
		if i > 0 {
			b.att.ValueMix = l.lowRank(a, "v", true, d)
		} else {
			l.ignore(a+"v0", a+"v1", a+"v2") // not used in the first block, and not in every file
		}
		n.blocks = append(n.blocks, b)
	}
	return n
}

// lowRank returns the layer of the tensors prefix+name+{0,1,2}, of which 1 and 2 are stored
// [in, out]: copies of them with rows and columns exchanged are what the kernels take.
func (l *loader) lowRank(prefix, name string, bias bool, d int) nn.LowRank {
	r := nn.LowRank{Bias: l.optional(bias, prefix+name+"0", d)}
	rank := 1
	if shape, ok := l.src.Shape(prefix + name + "1"); ok && len(shape) == 2 {
		rank = shape[1]
	} else if shape, ok := l.src.Shape(prefix + name + "2"); ok && len(shape) == 2 {
		rank = shape[0]
	}
	if down := l.tensor(prefix+name+"1", d, rank); down != nil {
		r.Down = down.Transpose()
	}
	if up := l.tensor(prefix+name+"2", rank, d); up != nil {
		r.Up = up.Transpose()
	}
	return r
}

// matrixVector returns a tensor of that shape as a vector of its numbers.
func (l *loader) matrixVector(name string, rows, cols int) *tensor.Tensor {
	t := l.tensor(name, rows, cols)
	if t == nil {
		return nil
	}
	return t.Float32().Reshape(rows * cols)
}

func (n *gooseNet) head() *tensor.Tensor { return n.out }

func (n *gooseNet) forward(b *batch) *tensor.Tensor {
	s := &b.scratch
	x := s.New(len(b.ids), n.config.EmbedDim)
	h, vFirst := s.New(x.Shape()...), s.New(x.Shape()...)
	n.emb.Forward(x, b.ids)
	n.ln0.Forward(x, x)
	for i := range n.blocks {
		m := &n.blocks[i]
		m.ln1.Forward(h, x)
		m.att.Forward(x, h, true, vFirst, i == 0, b.spans, func(q int) *nn.TimeMixState { return &b.states[q].(*nanoState).layers[i].tmix }, s)
		m.ln2.Forward(h, x)
		m.ffn.Forward(x, h, true, b.spans, func(q int) *nn.ChannelMixState { return &b.states[q].(*nanoState).layers[i].cmix }, s)
	}
	return finish(b, n.lnOut, x)
}

// newState returns a state of the same parts as nanoRWKV's: RWKV-7's S is [H, N, N] too, though
// by value and key.
func (n *gooseNet) newState() layerStates { return newNanoState(n.config) }

func gooseSpecs(c Config) []tensorSpec {
	d := c.EmbedDim
	specs := []tensorSpec{vectorSpec("emb.weight", 0, 0.3, c.VocabSize, d), vectorSpec("head.weight", 0, 0.05, c.VocabSize, d)}
	norm := func(prefix string) { specs = append(specs, normSpecs(prefix, true, d)...) }
	norm("blocks.0.ln0")
	norm("ln_out")
	rank := map[string]int{"w": lowRank(d, 0.5, 1.8), "a": lowRank(d, 0.5, 1.8), "v": lowRank(d, 0.5, 1.3), "g": lowRank(d, 0.8, 0.6)}
	if d == 1024 {
		rank["g"] = 128 // as the official 0.4B has it, below the rule
	}
	for i := range c.NumLayers {
		p := fmt.Sprintf("blocks.%d.", i)
		norm(p + "ln1")
		norm(p + "ln2")
		a := p + "att."
		for _, x := range strings.Fields("x_r x_w x_k x_v x_a x_g") {
			specs = append(specs, vectorSpec(a+x, 0.5, 0.2, 1, 1, d))
		}
		for _, x := range strings.Fields("w a v g") {
			if x == "v" && i == 0 {
				continue
			}
			if x != "g" {
				specs = append(specs, vectorSpec(a+x+"0", 0, 0.5, 1, 1, d))
			}
			specs = append(specs, matrixSpec(a+x+"1", d, rank[x]), matrixSpec(a+x+"2", rank[x], d))
		}
		specs = append(specs, vectorSpec(a+"k_k", 0.8, 0.1, 1, 1, d), vectorSpec(a+"k_a", 1, 0.1, 1, 1, d), vectorSpec(a+"r_k", 0, 0.1, c.NumHeads, headSize))
		for _, w := range strings.Fields("receptance key value output") {
			specs = append(specs, matrixSpec(a+w+".weight", d, d))
		}
		norm(a + "ln_x")
		specs = append(specs, vectorSpec(p+"ffn.x_k", 0.5, 0.2, 1, 1, d), matrixSpec(p+"ffn.key.weight", c.FFNDim, d), matrixSpec(p+"ffn.value.weight", d, c.FFNDim))
	}
	return specs
}

// lowRank is the official width of the narrow products: a multiple of 32 near factor·d^power.
func lowRank(d int, power, factor float64) int {
	return max(32, int(math.Round(factor*math.Pow(float64(d), power)/32))*32)
}
