package rwkv

import (
	"errors"
	"fmt"
	"math"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// RWKV-7 "Goose", kind rwkv7. In RWKV-7a, "DeepEmbed", the channel mix also depends on the token's id.

var goose = family{
	kinds:        map[Kind]FullRule{RWKV7: KeepHalf}, // never full
	vocabularies: []string{"world", "neox"},
	match:        isOfficial(RWKV7, "7", "7a"),
	configure: func(src source, c *Config) error {
		err := configureOfficial(src, c, "r_k")
		if officialVersion(src) == "7a" {
			var in int
			err = errors.Join(err, sizes(src, "blocks.0.ffn.s1", &in, &c.DeepEmbed))
		}
		return err
	},
	readArgs:  readEpsArgs,
	writeArgs: epsArgs,
	fill: func(c Config) Config {
		f := officialConfig(c)
		f.InitialState, f.DeepEmbed = c.InitialState, c.DeepEmbed
		if f.FFNDim == 0 {
			f.FFNDim = 4 * f.EmbedDim
		}
		return f
	},
	validate: func(c *Config) error {
		if c.AttDim != 0 {
			return fmt.Errorf("att_dim = %d beside n_embd = %d: RWKV-7 has the same width everywhere", c.AttDim, c.EmbedDim)
		}
		err := checkOfficial(c)
		if c.DeepEmbed != 0 {
			err = errors.Join(err, checkSize("deep_embed", c.DeepEmbed, 1), checkSize("deep_embed²", c.DeepEmbed*c.DeepEmbed, 1))
		}
		return err
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
	deep     *nn.DeepEmbed  // of RWKV-7a, or nil
	start    *tensor.Tensor // [H·N·N], see describeStart
}

func describeGoose(c Config, p *params) *stack {
	d := c.EmbedDim
	n := describeOfficial(c, p)
	gateRank := lowRank(d, 0.8, 0.6)
	if d == 1024 {
		gateRank = 128 // as the official 0.4B has it, below the rule
	}
	for i := range c.NumLayers {
		m, prefix := &gooseBlock{config: c}, fmt.Sprintf("blocks.%d.", i)
		describeNorm(c, p, &m.ln1, prefix+"ln1")
		describeNorm(c, p, &m.ln2, prefix+"ln2")
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
		p.vector(&t.RK, a+"r_k", 0, 0.1, c.NumHeads, d/c.NumHeads)
		describeProducts(c, p, a, &t.Receptance, &t.Key, &t.Value, &t.Output)
		describeHeadNorm(c, p, &t.LnX, a+"ln_x")
		describeStart(c, p, &m.start, a)
		p.derive = append(p.derive, t.Derive)

		mix(prefix+"ffn.x_k", &m.ffn.MixK)
		p.linear(&m.ffn.Key, prefix+"ffn.key", false, c.FFNDim, d)
		p.linear(&m.ffn.Value, prefix+"ffn.value", false, d, c.FFNDim)
		if c.DeepEmbed > 0 {
			m.deep = &nn.DeepEmbed{}
			describeDeepEmbed(c, p, m.deep, prefix+"ffn.s")
		}
		n.blocks = append(n.blocks, m)
	}
	return n
}

// describeDeepEmbed describes what RWKV-7a has more.
func describeDeepEmbed(c Config, p *params, m *nn.DeepEmbed, name string) {
	d, f, side := c.EmbedDim, c.FFNDim, c.DeepEmbed
	p.matrix(&m.Table, name+"_emb.weight", c.VocabSize, side*side).dev = 0.3
	p.linear(&m.FromEmbedding, name+"_emb_x", false, side*side, d)
	p.matrix(&m.Through.W1, name+"1", d, side)
	p.matrix(&m.Through.W2, name+"2", side, f)
	p.vector(&m.Through.Bias, name+"0", 1, 0.2, 1, 1, f)
	p.derive = append(p.derive, m.Through.Derive)
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
		if m.deep != nil {
			b.embedded = b.scratch.New(x.Shape()...)
			b.embedded.CopyFrom(x)
		}
	}
	m.ln1.Forward(h, x)
	b.residual("att", x, func(dst *tensor.Tensor, add bool) {
		m.att.Forward(dst, h, b.firstValue, b.tmix(0), b.context(add))
	})
	m.ln2.Forward(h, x)
	b.residual("ffn", x, func(dst *tensor.Tensor, add bool) {
		var gate *tensor.Tensor
		if m.deep != nil {
			defer b.scratch.Release(b.scratch.Mark())
			gate = b.scratch.New(x.Dim(0), m.config.FFNDim)
			m.deep.Forward(gate, h, b.ids, b.embedded, &b.scratch)
		}
		m.ffn.ForwardGated(dst, h, gate, b.cmix(), b.context(add))
	})
	return x
}

// newState implements block.
func (m *gooseBlock) newState() blockState { return officialState(m.config, m.start) }
