package rwkv

import (
	"errors"
	"fmt"
	"math"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// RWKV-7 "Goose", kind rwkv7: the official models' layout.

// headSize is N of every official model.
const headSize = 64

var goose = family{
	kinds:      map[Kind]FullRule{RWKV7: KeepHalf}, // never full
	vocabulary: "world",
	match:      isOfficial("RWKV-7 (x070)", RWKV7),
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
	fill: func(c Config) Config {
		f := Config{Kind: c.Kind, VocabSize: c.VocabSize, NumLayers: c.NumLayers, NumHeads: c.NumHeads, EmbedDim: c.EmbedDim, Dropout: c.Dropout, FFNDim: c.FFNDim}
		if f.FFNDim == 0 {
			f.FFNDim = 4 * f.EmbedDim
		}
		return f
	},
	validate: func(c *Config) error {
		if c.EmbedDim != c.NumHeads*headSize {
			return fmt.Errorf("n_embd = %d in %d heads: want a head size of %d", c.EmbedDim, c.NumHeads, headSize)
		}
		return nil
	},
	describe: describeGoose,
	initial:  gooseInitial,
	fresh:    gooseFresh,
}

type gooseBlock struct {
	config   Config
	ln1, ln2 nn.LayerNorm
	att      nn.TimeMix7
	ffn      nn.ChannelMix7
}

func describeGoose(c Config, p *params) *stack {
	d := c.EmbedDim
	n := &stack{streams: true}
	p.matrix(&n.emb.Weight, "emb.weight", c.VocabSize, d).dev = 0.3
	p.matrix(&n.head, "head.weight", c.VocabSize, d).dev = 0.05
	p.layerNorm(&n.in, "blocks.0.ln0", true, d)
	p.layerNorm(&n.out, "ln_out", true, d)
	gateRank := lowRank(d, 0.8, 0.6)
	if d == 1024 {
		gateRank = 128 // as the official 0.4B has it, below the rule
	}
	for i := range c.NumLayers {
		m, prefix := &gooseBlock{config: c}, fmt.Sprintf("blocks.%d.", i)
		p.layerNorm(&m.ln1, prefix+"ln1", true, d)
		p.layerNorm(&m.ln2, prefix+"ln2", true, d)
		a, t := prefix+"att.", &m.att
		t.Heads = c.NumHeads
		mix := func(name string, to **tensor.Tensor) { p.vector(to, name, 0.5, 0.2, 1, 1, d) }
		mix(a+"x_r", &t.MixR)
		mix(a+"x_w", &t.MixW)
		mix(a+"x_k", &t.MixK)
		mix(a+"x_v", &t.MixV)
		mix(a+"x_a", &t.MixA)
		mix(a+"x_g", &t.MixG)
		describeLowRank(p, &t.Decay, a+"w", true, d, lowRank(d, 0.5, 1.8))
		describeLowRank(p, &t.Rate, a+"a", true, d, lowRank(d, 0.5, 1.8))
		if i == 0 {
			p.noUse(a+"v0", a+"v1", a+"v2") // not in every file
		} else {
			describeLowRank(p, &t.ValueMix, a+"v", true, d, lowRank(d, 0.5, 1.3))
		}
		describeLowRank(p, &t.Gate, a+"g", false, d, gateRank)
		p.vector(&t.KK, a+"k_k", 0.8, 0.1, 1, 1, d)
		p.vector(&t.KA, a+"k_a", 1, 0.1, 1, 1, d)
		p.vector(&t.RK, a+"r_k", 0, 0.1, c.NumHeads, headSize)
		p.linear(&t.Receptance, a+"receptance", false, d, d)
		p.linear(&t.Key, a+"key", false, d, d)
		p.linear(&t.Value, a+"value", false, d, d)
		p.linear(&t.Output, a+"output", false, d, d)
		p.headNorm(&t.LnX, a+"ln_x", c.NumHeads, d)
		p.derive = append(p.derive, t.Derive)

		mix(prefix+"ffn.x_k", &m.ffn.MixK)
		p.linear(&m.ffn.Key, prefix+"ffn.key", false, c.FFNDim, d)
		p.linear(&m.ffn.Value, prefix+"ffn.value", false, d, c.FFNDim)
		n.blocks = append(n.blocks, m)
	}
	return n
}

// describeLowRank describes the tensors name+{0,1,2} of a low-rank product, whose rank the stored ones
// tell; a new one has the given rank.
func describeLowRank(p *params, l *nn.LowRank, name string, bias bool, d, rank int) {
	rank = p.dim(name+"1", 1, p.dim(name+"2", 0, rank))
	if bias {
		p.vector(&l.Bias, name+"0", 0, 0.5, 1, 1, d)
	}
	p.matrix(&l.W1, name+"1", d, rank)
	p.matrix(&l.W2, name+"2", rank, d)
}

// lowRank is the official width of the narrow products: a multiple of 32 near factor·d^power.
func lowRank(d int, power, factor float64) int {
	return max(32, int(math.Round(factor*math.Pow(float64(d), power)/32))*32)
}

// forward implements block.
func (m *gooseBlock) forward(b *batch, x *tensor.Tensor) *tensor.Tensor {
	h := b.norm
	if b.block == 0 {
		b.firstValue = b.scratch.New(x.Shape()...)
	}
	m.ln1.Forward(h, x)
	b.residual("att", x, func(dst *tensor.Tensor, add bool) {
		m.att.Forward(dst, h, b.firstValue, b.tmix(0), b.context(add))
	})
	m.ln2.Forward(h, x)
	b.residual("ffn", x, func(dst *tensor.Tensor, add bool) {
		m.ffn.Forward(dst, h, b.cmix(), b.context(add))
	})
	return x
}

// newState implements block: RWKV-7's S is [H, N, N] as nanoRWKV's is, though by value and key.
func (m *gooseBlock) newState() blockState { return newMixState(m.config) }
