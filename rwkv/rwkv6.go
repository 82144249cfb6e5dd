package rwkv

import (
	"fmt"
	"math"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// RWKV-6 "Finch", kind rwkv6: RWKV-5.2 whose mixes and decays depend on the token.

var finch = family{
	kinds:        map[Kind]FullRule{RWKV6: KeepHalf}, // never full
	vocabularies: []string{"world", "neox"},
	match:        isOfficial(RWKV6, "6"),
	configure:    func(src source, c *Config) error { return configureOfficial(src, c, "time_faaaa") },
	readArgs:     readEpsArgs,
	writeArgs:    epsArgs,
	fill: func(c Config) Config {
		f := officialConfig(c)
		f.InitialState, f.RescaleEvery = c.InitialState, c.RescaleEvery
		if f.FFNDim == 0 {
			f.FFNDim = ffnDim(3.5, f.EmbedDim)
		}
		return f
	},
	validate: checkOfficial,
	describe: func(c Config, p *params) *stack {
		n := describeOfficial(c, p)
		d, a := c.EmbedDim, c.attDim()
		mixRank, decayRank := 32, 64
		if d >= 4096 {
			mixRank, decayRank = 64, 128
		}
		for i := range c.NumLayers {
			m, prefix := &finchBlock{config: c}, fmt.Sprintf("blocks.%d.", i)
			describeNorm(c, p, &m.ln1, prefix+"ln1")
			describeNorm(c, p, &m.ln2, prefix+"ln2")
			att, ffn := prefix+"att.", prefix+"ffn."
			t := &m.att
			t.Heads = c.NumHeads
			mix := func(to **tensor.Tensor, name string) { p.vector(to, name, 0.5, 0.2, 1, 1, d) }
			mix(&t.MixX, att+"time_maa_x")
			mix(&t.MixW, att+"time_maa_w")
			mix(&t.MixK, att+"time_maa_k")
			mix(&t.MixV, att+"time_maa_v")
			mix(&t.MixR, att+"time_maa_r")
			mix(&t.MixG, att+"time_maa_g")
			rank := p.dim(att+"time_maa_w1", 1, 5*mixRank) / 5
			p.matrix(&t.W1, att+"time_maa_w1", d, 5*rank)
			w2 := p.matrix(&t.W2, att+"time_maa_w2", 5, rank)
			w2.shape, w2.dev = []int{5, rank, d}, 0.2/math.Sqrt(float64(rank))
			p.vector(&t.Decay.Bias, att+"time_decay", -1, 1, 1, 1, a)
			rank = p.dim(att+"time_decay_w1", 1, p.dim(att+"time_decay_w2", 0, decayRank))
			p.matrix(&t.Decay.W1, att+"time_decay_w1", d, rank)
			p.matrix(&t.Decay.W2, att+"time_decay_w2", rank, a)
			p.vector(&t.Bonus, att+"time_faaaa", 0, 0.5, c.NumHeads, a/c.NumHeads)
			describeProducts(c, p, att, &t.Receptance, &t.Key, &t.Value, &t.Output)
			p.linear(&t.Gate, att+"gate", false, a, d)
			describeHeadNorm(c, p, &t.LnX, att+"ln_x")
			describeStart(c, p, &m.start, att)
			p.derive = append(p.derive, t.Derive)
			mix(&m.ffn.MixK, ffn+"time_maa_k")
			mix(&m.ffn.MixR, ffn+"time_maa_r")
			describeGatedFFN(c, p, ffn, &m.ffn)
			n.blocks = append(n.blocks, m)
		}
		return n
	},
}

type finchBlock struct {
	config   Config
	ln1, ln2 nn.LayerNorm
	att      nn.TimeMix6
	ffn      nn.ChannelMix
	start    *tensor.Tensor // [H·N·N], see describeStart
}

// forward implements block.
func (m *finchBlock) forward(b *batch, x *tensor.Tensor) *tensor.Tensor {
	h := b.norm
	m.ln1.Forward(h, x)
	b.residual("att", x, func(dst *tensor.Tensor, add bool) {
		m.att.Forward(dst, h, b.tmix(0), b.context(add))
	})
	m.ln2.Forward(h, x)
	b.residual("ffn", x, func(dst *tensor.Tensor, add bool) {
		m.ffn.Forward(dst, h, b.cmix(), b.context(add))
	})
	if every := m.config.RescaleEvery; every > 0 && (b.block+1)%every == 0 {
		tensor.Scale(x, x, 0.5)
	}
	return x
}

// newState implements block.
func (m *finchBlock) newState() blockState { return officialState(m.config, m.start) }
