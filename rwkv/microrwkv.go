package rwkv

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/nn"
	"microrwkv/tensor"
)

// MicroRWKV, kinds reference and causal: five residual steps a block.

const attentionWindow = 256

var microRWKV = family{
	kinds:      map[Kind]FullRule{Reference: Recompute, Causal: KeepHalf}, // Reference as the published program
	vocabulary: "gpt2",
	match: func(src source, variant string) (Kind, error) {
		if !hasAny(src, "transformer.h.0.", "sliding_attn.", "grouped_attn.", "moe.") {
			return "", nil
		}
		switch Kind(variant) {
		case "", Reference:
			return Reference, nil
		case Causal:
			return Causal, nil
		}
		return "", fmt.Errorf("variant %q: want %q or %q", variant, Reference, Causal)
	},
	configure: func(src source, c *Config) error {
		const moe = "transformer.h.0.moe."
		var inner, out int
		err := errors.Join(
			configureTransformer(src, c),
			sizes(src, moe+"gate.weight", &c.NumExperts, &inner),
			sizes(src, moe+"fc.weight", &out, &c.ExpertWidth),
		)
		if c.NumActiveExperts = countLayers(src, moe+"experts."); c.NumActiveExperts == 0 {
			err = errors.Join(err, fmt.Errorf("tensor %q: %w", moe+"experts.0.weight", checkpoint.ErrNotFound))
		}
		return err
	},
	readArgs: func(a *modelArgs, c *Config) {
		readTransformerArgs(a, c)
		a.shape("num_experts", &c.NumExperts)
		a.shape("num_active_experts", &c.NumActiveExperts)
		a.size("expert_dim", &c.ExpertDim)
		a.size("dim", &c.Dim)
	},
	fill: func(c *Config) {
		c.FFNDim = 3 * c.EmbedDim
		if c.ExpertWidth == 0 {
			c.ExpertWidth = expertWidth(c.ExpertDim)
		}
	},
	validate: func(c *Config) error {
		err := errors.Join(
			checkSize("block_size", c.BlockSize, 1), checkSize("num_experts", c.NumExperts, 1),
			checkSize("num_active_experts", c.NumActiveExperts, 1), checkSize("expert width", c.ExpertWidth, 1),
		)
		if c.EmbedDim%c.NumHeads == 0 && c.EmbedDim%(4*c.NumHeads) != 0 {
			err = errors.Join(err, fmt.Errorf("4·n_head = %d does not divide n_embd = %d", 4*c.NumHeads, c.EmbedDim))
		}
		if c.NumActiveExperts > c.NumExperts {
			err = errors.Join(err, fmt.Errorf("num_active_experts = %d of num_experts = %d", c.NumActiveExperts, c.NumExperts))
		}
		return err
	},
	specs: microSpecs,
	build: buildMicro,
}

// hasAny reports whether there are tensors with any of these names' beginnings after prefix.
func hasAny(src source, prefix string, parts ...string) bool {
	return slices.ContainsFunc(src.Names(), func(name string) bool {
		rest, ok := strings.CutPrefix(name, prefix)
		return ok && slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(rest, p) })
	})
}

type microNet struct {
	kind     Kind
	config   Config
	wte, wpe nn.Embedding
	blocks   []microBlock
	lnF      nn.LayerNorm
}

type microBlock struct {
	norm    nn.RMSNorm
	tmix    nn.TimeMix
	cmix    nn.ChannelMix
	sliding nn.SlidingWindowAttention
	grouped nn.GroupedQueryAttention
	moe     nn.MoE
}

func buildMicro(c Config, l *loader) network {
	n := &microNet{
		kind: c.Kind, config: c,
		wte: nn.Embedding{Weight: loadHead(l, c)},
		wpe: nn.Embedding{Weight: l.tensor("transformer.wpe.weight", c.BlockSize, c.EmbedDim)},
		lnF: l.layerNorm("transformer.ln_f", c.Bias, c.EmbedDim),
	}
	d, s := c.EmbedDim, c.ExpertWidth
	for i := range c.NumLayers {
		p := fmt.Sprintf("transformer.h.%d.", i)
		b := microBlock{
			norm:    nn.RMSNorm{Eps: 1e-8},
			tmix:    loadTimeMix(l, p+"tmix.", c),
			cmix:    loadChannelMix(l, p+"cmix.", c),
			sliding: nn.SlidingWindowAttention{Heads: c.NumHeads, Window: attentionWindow, QKV: l.tensor(p+"sliding_attn.qkv.weight", 3*d, d), Proj: l.tensor(p+"sliding_attn.proj.weight", d, d)},
			grouped: nn.GroupedQueryAttention{Heads: c.NumHeads, QKVW: l.tensor(p+"grouped_attn.qkvw.weight", 4*d, d), Out: l.tensor(p+"grouped_attn.out.weight", d, d)},
			moe:     nn.MoE{Gate: l.linear(p+"moe.gate", true, c.NumExperts, d), FC: l.linear(p+"moe.fc", true, d, s)},
		}
		for j := range c.NumActiveExperts {
			b.moe.Experts = append(b.moe.Experts, l.linear(fmt.Sprintf("%smoe.experts.%d", p, j), true, s, d))
		}
		n.blocks = append(n.blocks, b)
	}
	return n
}

func (n *microNet) head() *tensor.Tensor { return n.wte.Weight }

func (n *microNet) forward(b *batch) *tensor.Tensor {
	x := embed(b, n.wte, n.wpe)
	for i := range n.blocks {
		x = n.block(b, i, x)
		if b.trace != nil {
			b.show(fmt.Sprintf("h.%d", i), x)
		}
	}
	return finish(b, n.lnF, x)
}

// block runs block i on x in place and returns x, or in the last block only those rows of it that
// are wanted.
func (n *microNet) block(b *batch, i int, x *tensor.Tensor) *tensor.Tensor {
	m, s := &n.blocks[i], &b.scratch
	name := func(layer string) string {
		if b.trace == nil {
			return ""
		}
		return fmt.Sprintf("h.%d.%s", i, layer)
	}
	var first, second func(q int) *nn.TimeMixState
	var cmix func(q int) *nn.ChannelMixState
	if n.kind == Causal {
		first = func(q int) *nn.TimeMixState { return &b.states[q].(*microState).layers[i].tmix[0] }
		second = func(q int) *nn.TimeMixState { return &b.states[q].(*microState).layers[i].tmix[1] }
		cmix = func(q int) *nn.ChannelMixState { return &b.states[q].(*microState).layers[i].cmix }
	}

	h := s.New(x.Shape()...)
	m.norm.Forward(h, x)
	b.show(name("ln_1"), h)
	b.residual(name("tmix"), x, func(dst *tensor.Tensor, add bool) {
		m.tmix.Forward(dst, h, add, b.spans, first, s)
	})
	m.norm.Forward(h, x)
	b.show(name("ln_2"), h)
	b.residual(name("cmix"), x, func(dst *tensor.Tensor, add bool) {
		m.cmix.Forward(dst, h, add, b.spans, cmix, s)
	})
	b.residual(name("sliding_attn"), x, func(dst *tensor.Tensor, add bool) {
		if n.kind == Causal {
			m.sliding.ForwardCausal(dst, x, add, b.spans, func(q int) *nn.KVCache { return &b.states[q].(*microState).layers[i].sliding }, s)
		} else {
			m.sliding.Forward(dst, x, add, b.spans, s)
		}
	})

	// sic: the same TimeMix a second time, on what isn't normalized
	m.tmix.Forward(h, x, false, b.spans, second, s)
	b.show(name("tmix.call2"), h)
	last := b.last && i == len(n.blocks)-1 && n.kind == Reference && b.trace == nil
	spans := b.spans
	if last {
		x = b.lastRows(x)
		spans = nil // of no use any more: each row is the last one of a sequence
	}
	b.residual(name("grouped_attn"), x, func(dst *tensor.Tensor, add bool) {
		switch {
		case n.kind == Causal:
			m.grouped.ForwardCausal(dst, h, add, b.spans, func(q int) *nn.KVCache { return &b.states[q].(*microState).layers[i].grouped }, s)
		case last:
			m.grouped.ForwardLast(dst, h, add, b.spans, s)
		default:
			m.grouped.Forward(dst, h, add, b.spans, s)
		}
	})
	b.residual(name("moe"), x, func(dst *tensor.Tensor, add bool) {
		var aux []float64
		if b.aux != nil {
			aux = b.aux[i]
		}
		m.moe.Forward(dst, x, add, spans, aux, s)
	})
	return x
}

// microState is the states of a causal MicroRWKV's layers for one sequence.
type microState struct{ layers []microLayerState }

type microLayerState struct {
	tmix             [2]nn.TimeMixState // of the block's two calls
	cmix             nn.ChannelMixState
	sliding, grouped nn.KVCache
}

func (n *microNet) newState() layerStates {
	if n.kind == Reference {
		return nil
	}
	c := n.config
	st := &microState{layers: make([]microLayerState, c.NumLayers)}
	window := min(attentionWindow, c.BlockSize)
	for i := range st.layers {
		st.layers[i] = microLayerState{
			tmix:    [2]nn.TimeMixState{nn.NewTimeMixState(c.EmbedDim, c.NumHeads), nn.NewTimeMixState(c.EmbedDim, c.NumHeads)},
			cmix:    nn.NewChannelMixState(c.EmbedDim),
			sliding: nn.NewKVCache(c.NumHeads, min(2*window, c.BlockSize), c.EmbedDim/c.NumHeads, window),
			grouped: nn.NewKVCache(4*c.NumHeads, c.BlockSize, c.EmbedDim/(4*c.NumHeads), c.BlockSize),
		}
	}
	return st
}

func (st *microState) each(yield func(nn.State) bool) {
	for i := range st.layers {
		l := &st.layers[i]
		if !yield(&l.tmix[0]) || !yield(&l.tmix[1]) || !yield(&l.cmix) || !yield(&l.sliding) || !yield(&l.grouped) {
			return
		}
	}
}

// microSpecs lists the tensors of a MicroRWKV model.
func microSpecs(c Config) []tensorSpec {
	d, s := c.EmbedDim, c.ExpertWidth
	specs := transformerSpecs(c)
	for i := range c.NumLayers {
		p := fmt.Sprintf("transformer.h.%d.", i)
		specs = append(specs, blockSpecs(p, c)...)
		specs = append(specs,
			matrixSpec(p+"sliding_attn.qkv.weight", 3*d, d), matrixSpec(p+"sliding_attn.proj.weight", d, d),
			matrixSpec(p+"grouped_attn.qkvw.weight", 4*d, d), matrixSpec(p+"grouped_attn.out.weight", d, d))
		specs = append(specs, linearSpecs(p+"moe.gate", true, c.NumExperts, d)...)
		for j := range c.NumActiveExperts {
			specs = append(specs, linearSpecs(fmt.Sprintf("%smoe.experts.%d", p, j), true, s, d)...)
		}
		specs = append(specs, linearSpecs(p+"moe.fc", true, d, s)...)
	}
	return specs
}
