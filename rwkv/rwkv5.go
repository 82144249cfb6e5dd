package rwkv

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// RWKV-5 "Eagle", kind rwkv5. The time mix has a matrix a head for its state. Version 5.0 has no gate,
// and like 5.1 one decay and one bonus a head; 5.2 has them for each channel of the keys.

var eagle = family{
	kinds:        map[Kind]FullRule{RWKV5: KeepHalf}, // never full
	vocabularies: []string{"world", "neox"},
	match:        isOfficial(RWKV5, "5.0", "5.1", "5.2"),
	configure: func(src source, c *Config) error {
		c.Version = officialVersion(src)
		return configureOfficial(src, c, "time_decay")
	},
	readArgs:  readEpsArgs,
	writeArgs: epsArgs,
	fill: func(c Config) Config {
		f := officialConfig(c)
		f.Version, f.InitialState = c.Version, c.InitialState
		if f.Version == "" {
			f.Version = "5.2"
		}
		if f.FFNDim == 0 {
			f.FFNDim = ffnDim(3.5, f.EmbedDim)
		}
		return f
	},
	validate: func(c *Config) error {
		err := checkOfficial(c)
		if versions := []string{"5.0", "5.1", "5.2"}; !slices.Contains(versions, c.Version) {
			err = errors.Join(err, fmt.Errorf("version = %q, want one of %v", c.Version, versions))
		}
		return err
	},
	describe: func(c Config, p *params) *stack {
		n := describeOfficial(c, p)
		d := c.EmbedDim
		for i := range c.NumLayers {
			m, prefix := &eagleBlock{config: c}, fmt.Sprintf("blocks.%d.", i)
			describeNorm(c, p, &m.ln1, prefix+"ln1")
			describeNorm(c, p, &m.ln2, prefix+"ln2")
			att, ffn := prefix+"att.", prefix+"ffn."
			m.att.Heads = c.NumHeads
			describeShare(p, &m.att.MixK, att+"time_mix_k", d)
			describeShare(p, &m.att.MixV, att+"time_mix_v", d)
			describeShare(p, &m.att.MixR, att+"time_mix_r", d)
			if c.Version != "5.0" {
				describeShare(p, &m.att.MixG, att+"time_mix_g", d)
				p.linear(&m.att.Gate, att+"gate", false, c.attDim(), d)
			}
			describeByHead(c, p, &m.att.Decay, att+"time_decay", -1, 1, keep, keepSlope)
			if p.has(att + "time_first") {
				// sic: early 5.0 has the bonus' logarithm, under the name of RWKV-4's bonus
				describeByHead(c, p, &m.att.Bonus, att+"time_first", -1, 0.5, math.Exp, math.Exp)
			} else {
				describeByHead(c, p, &m.att.Bonus, att+"time_faaaa", 0, 0.5, nil, nil)
			}
			describeProducts(c, p, att, &m.att.Receptance, &m.att.Key, &m.att.Value, &m.att.Output)
			describeHeadNorm(c, p, &m.att.LnX, att+"ln_x")
			describeStart(c, p, &m.start, att)
			describeShare(p, &m.ffn.MixK, ffn+"time_mix_k", d)
			describeShare(p, &m.ffn.MixR, ffn+"time_mix_r", d)
			describeGatedFFN(c, p, ffn, &m.ffn)
			n.blocks = append(n.blocks, m)
		}
		return n
	},
}

// describeByHead describes a parameter that has one number a head, or as many as a head has channels;
// the layer has f of it for each channel; slope is as change has it.
func describeByHead(c Config, p *params, to **tensor.Tensor, name string, mean, dev float64, f, slope func(float64) float64) {
	shape := []int{c.NumHeads, c.attDim() / c.NumHeads}
	one := c.Version != "5.2"
	if p.has(name) { // a file may mix the two
		stored, _ := p.src.Shape(name)
		size := 1
		for _, n := range stored {
			size *= n
		}
		one = size == c.NumHeads
	}
	if one {
		shape = shape[:1]
	}
	p.vector(to, name, mean, dev, shape...).change = &change{n: c.attDim(), f: f, slope: slope}
}

type eagleBlock struct {
	config   Config
	ln1, ln2 nn.LayerNorm
	att      nn.TimeMix5
	ffn      nn.ChannelMix
	start    *tensor.Tensor // [H·N·N], see describeStart
}

// forward implements block.
func (m *eagleBlock) forward(b *batch, x *tensor.Tensor) *tensor.Tensor {
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

// newState implements block.
func (m *eagleBlock) newState() blockState { return officialState(m.config, m.start) }
