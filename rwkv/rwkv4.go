package rwkv

import (
	"fmt"
	"math"

	"microrwkv/nn"
	"microrwkv/tensor"
	"microrwkv/tensor/wkv"
)

// RWKV-4, kind rwkv4: Pile, Raven and the first World models. Its time mix is a decaying mean of the
// values, one number a channel; it has no heads.

var dove = family{
	kinds:        map[Kind]FullRule{RWKV4: KeepHalf}, // never full
	vocabularies: []string{"neox", "world"},
	match:        isOfficial(RWKV4, "4"),
	configure:    func(src source, c *Config) error { return configureOfficial(src, c, "") },
	readArgs:     readEpsArgs,
	writeArgs:    epsArgs,
	fill: func(c Config) Config {
		f := officialConfig(c)
		f.NumHeads, f.HeadNormEps = 1, 0 // it has none
		if f.FFNDim == 0 {
			f.FFNDim = 4 * f.EmbedDim
		}
		return f
	},
	validate: checkOfficial,
	describe: func(c Config, p *params) *stack {
		n := describeOfficial(c, p)
		d, a := c.EmbedDim, c.attDim()
		for i := range c.NumLayers {
			m, prefix := &doveBlock{config: c}, fmt.Sprintf("blocks.%d.", i)
			describeNorm(c, p, &m.ln1, prefix+"ln1")
			describeNorm(c, p, &m.ln2, prefix+"ln2")
			att, ffn := prefix+"att.", prefix+"ffn."
			p.vector(&m.att.Decay, att+"time_decay", -1, 1, a).change = &change{n: a, f: func(x float64) float64 { return -math.Exp(x) }}
			p.vector(&m.att.Bonus, att+"time_first", 0, 0.5, a)
			describeShare(p, &m.att.MixK, att+"time_mix_k", d)
			describeShare(p, &m.att.MixV, att+"time_mix_v", d)
			describeShare(p, &m.att.MixR, att+"time_mix_r", d)
			describeProducts(c, p, att, &m.att.Receptance, &m.att.Key, &m.att.Value, &m.att.Output)
			describeShare(p, &m.ffn.MixK, ffn+"time_mix_k", d)
			describeShare(p, &m.ffn.MixR, ffn+"time_mix_r", d)
			describeGatedFFN(c, p, ffn, &m.ffn)
			n.blocks = append(n.blocks, m)
		}
		return n
	},
}

type doveBlock struct {
	config   Config
	ln1, ln2 nn.LayerNorm
	att      nn.TimeMix4
	ffn      nn.ChannelMix
}

// forward implements block.
func (m *doveBlock) forward(b *batch, x *tensor.Tensor) *tensor.Tensor {
	h := b.norm
	m.ln1.Forward(h, x)
	b.residual("att", x, func(dst *tensor.Tensor, add bool) {
		m.att.Forward(dst, h, b.tmix(0), b.context(add))
	})
	m.ln2.Forward(h, x)
	b.residual("ffn", x, func(dst *tensor.Tensor, add bool) {
		m.ffn.Forward(dst, h, b.cmix(), b.context(add))
	})
	return x
}

// newState implements block. The state of the time mix is three numbers a channel: see wkv.V4.
func (m *doveBlock) newState() blockState {
	d, a := m.config.EmbedDim, m.config.attDim()
	st := blockState{cmix: nn.NewChannelMixState(d)}
	st.tmix[0] = nn.TimeMixState{Shift: make([]float32, d), WKV: make([]float32, 3*a)}
	for i := range a {
		st.tmix[0].WKV[2*a+i] = wkv.V4Start
	}
	return st
}
