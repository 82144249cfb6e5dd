package rwkv

import (
	"fmt"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// nanoRWKV, kind x051a: time mix and channel mix, each behind a LayerNorm.

var nanoRWKV = family{
	kinds:        map[Kind]FullRule{X051a: Recompute}, // as the published program
	vocabularies: []string{"gpt2"},
	match: func(src source, _ string) (Kind, error) {
		const block = "transformer.h.0."
		if hasAny(src, block, "tmix.") && !hasAny(src, block, "sliding_attn.", "grouped_attn.", "moe.") {
			return X051a, nil
		}
		return "", nil
	},
	configure: configureTransformer,
	readArgs:  readTransformerArgs,
	fill:      transformerConfig,
	writeArgs: func(c Config) map[string]any { return map[string]any{"model_args": transformerArgs(c)} },
	initial:   transformerInitial,
	validate:  func(c *Config) error { return checkSize("block_size", c.BlockSize, 1) },
	describe: func(c Config, p *params) *stack {
		n := describeTransformer(c, p)
		n.streams = true
		for i := range c.NumLayers {
			m, prefix := &nanoBlock{config: c}, fmt.Sprintf("transformer.h.%d.", i)
			p.layerNorm(&m.ln1, prefix+"ln_1", c.Bias, c.EmbedDim)
			p.layerNorm(&m.ln2, prefix+"ln_2", c.Bias, c.EmbedDim)
			describeTimeMix(&m.tmix, prefix+"tmix.", c, p)
			describeChannelMix(&m.cmix, prefix+"cmix.", c, p)
			n.blocks = append(n.blocks, m)
		}
		return n
	},
}

type nanoBlock struct {
	config   Config
	ln1, ln2 nn.LayerNorm
	tmix     nn.TimeMix
	cmix     nn.ChannelMix
}

// forward implements block.
func (m *nanoBlock) forward(b *batch, x *tensor.Tensor) *tensor.Tensor {
	h := b.norm
	m.ln1.Forward(h, x)
	b.show(b.name("ln_1"), h)
	b.residual("tmix", x, func(dst *tensor.Tensor, add bool) {
		m.tmix.Forward(dst, h, b.tmix(0), b.context(add))
	})
	m.ln2.Forward(h, x)
	b.show(b.name("ln_2"), h)
	b.residual("cmix", x, func(dst *tensor.Tensor, add bool) {
		m.cmix.Forward(dst, h, b.cmix(), b.context(add))
	})
	return x
}

// newState implements block.
func (m *nanoBlock) newState() blockState { return newMixState(m.config) }

// newMixState returns the state of a block of a time mix and a channel mix.
func newMixState(c Config) blockState {
	return blockState{tmix: [2]nn.TimeMixState{nn.NewTimeMixState(c.EmbedDim, c.NumHeads)}, cmix: nn.NewChannelMixState(c.EmbedDim)}
}
