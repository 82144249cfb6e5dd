package rwkv

import (
	"fmt"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// nanoRWKV, kind x051a: time mix and channel mix, each behind a LayerNorm.

var nanoRWKV = family{
	kinds:      map[Kind]FullRule{X051a: Recompute}, // as the published program
	vocabulary: "gpt2",
	match: func(src source, _ string) (Kind, error) {
		const block = "transformer.h.0."
		if hasAny(src, block, "tmix.") && !hasAny(src, block, "sliding_attn.", "grouped_attn.", "moe.") {
			return X051a, nil
		}
		return "", nil
	},
	configure: configureTransformer,
	readArgs:  readTransformerArgs,
	fill: func(c *Config) {
		c.NumExperts, c.NumActiveExperts, c.ExpertDim, c.ExpertWidth = 0, 0, 0, 0
		c.FFNDim = 3 * c.EmbedDim
	},
	validate: func(c *Config) error { return checkSize("block_size", c.BlockSize, 1) },
	specs: func(c Config) []tensorSpec {
		specs := transformerSpecs(c)
		for i := range c.NumLayers {
			p := fmt.Sprintf("transformer.h.%d.", i)
			specs = append(specs, normSpecs(p+"ln_1", c.Bias, c.EmbedDim)...)
			specs = append(specs, normSpecs(p+"ln_2", c.Bias, c.EmbedDim)...)
			specs = append(specs, blockSpecs(p, c)...)
		}
		return specs
	},
	build: buildNano,
}

type nanoNet struct {
	config   Config
	wte, wpe nn.Embedding
	blocks   []nanoBlock
	lnF      nn.LayerNorm
}

type nanoBlock struct {
	ln1, ln2 nn.LayerNorm
	tmix     nn.TimeMix
	cmix     nn.ChannelMix
}

func buildNano(c Config, l *loader) network {
	n := &nanoNet{
		config: c,
		wte:    nn.Embedding{Weight: loadHead(l, c)},
		wpe:    nn.Embedding{Weight: l.tensor("transformer.wpe.weight", c.BlockSize, c.EmbedDim)},
		lnF:    l.layerNorm("transformer.ln_f", c.Bias, c.EmbedDim),
	}
	for i := range c.NumLayers {
		p := fmt.Sprintf("transformer.h.%d.", i)
		n.blocks = append(n.blocks, nanoBlock{
			ln1: l.layerNorm(p+"ln_1", c.Bias, c.EmbedDim), ln2: l.layerNorm(p+"ln_2", c.Bias, c.EmbedDim),
			tmix: loadTimeMix(l, p+"tmix.", c), cmix: loadChannelMix(l, p+"cmix.", c),
		})
	}
	return n
}

func (n *nanoNet) head() *tensor.Tensor { return n.wte.Weight }

func (n *nanoNet) forward(b *batch) *tensor.Tensor {
	x := embed(b, n.wte, n.wpe)
	h := b.scratch.New(x.Shape()...)
	for i := range n.blocks {
		n.block(b, i, x, h)
	}
	return finish(b, n.lnF, x)
}

// block runs block i on x in place; h is room for its norms.
func (n *nanoNet) block(b *batch, i int, x, h *tensor.Tensor) {
	m := &n.blocks[i]
	name := func(layer string) string {
		if b.trace == nil {
			return ""
		}
		return fmt.Sprintf("h.%d%s", i, layer)
	}
	m.ln1.Forward(h, x)
	b.show(name(".ln_1"), h)
	b.residual(name(".tmix"), x, func(dst *tensor.Tensor, add bool) {
		m.tmix.Forward(dst, h, add, b.spans, func(q int) *nn.TimeMixState { return &b.states[q].(*nanoState).layers[i].tmix }, &b.scratch)
	})
	m.ln2.Forward(h, x)
	b.show(name(".ln_2"), h)
	b.residual(name(".cmix"), x, func(dst *tensor.Tensor, add bool) {
		m.cmix.Forward(dst, h, add, b.spans, func(q int) *nn.ChannelMixState { return &b.states[q].(*nanoState).layers[i].cmix }, &b.scratch)
	})
	b.show(name(""), x)
}

// nanoState is the states of the layers of one sequence, for blocks of a time mix and a channel
// mix.
type nanoState struct{ layers []nanoLayerState }

type nanoLayerState struct {
	tmix nn.TimeMixState
	cmix nn.ChannelMixState
}

func (n *nanoNet) newState() layerStates { return newNanoState(n.config) }

func newNanoState(c Config) *nanoState {
	st := &nanoState{layers: make([]nanoLayerState, c.NumLayers)}
	for i := range st.layers {
		st.layers[i] = nanoLayerState{nn.NewTimeMixState(c.EmbedDim, c.NumHeads), nn.NewChannelMixState(c.EmbedDim)}
	}
	return st
}

func (st *nanoState) each(yield func(nn.State) bool) {
	for i := range st.layers {
		if !yield(&st.layers[i].tmix) || !yield(&st.layers[i].cmix) {
			return
		}
	}
}
