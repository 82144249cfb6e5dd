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
	kinds:        map[Kind]FullRule{Reference: Recompute, Causal: KeepHalf}, // Reference as the published program
	vocabularies: []string{"gpt2"},
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
	fill: func(c Config) Config {
		f := transformerConfig(c)
		f.NumExperts, f.NumActiveExperts, f.ExpertDim, f.ExpertWidth, f.Dim = c.NumExperts, c.NumActiveExperts, c.ExpertDim, c.ExpertWidth, c.Dim
		if f.ExpertWidth == 0 {
			f.ExpertWidth = expertWidth(f.ExpertDim)
		}
		return f
	},
	writeArgs: func(c Config) map[string]any {
		args := transformerArgs(c)
		args["num_experts"], args["num_active_experts"], args["expert_dim"], args["dim"] = c.NumExperts, c.NumActiveExperts, c.ExpertDim, c.EmbedDim
		return map[string]any{"model_args": args, "variant": string(c.Kind)}
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
	describe: describeMicro,
	initial:  transformerInitial,
}

// hasAny reports whether there are tensors with any of these names' beginnings after prefix.
func hasAny(src source, prefix string, parts ...string) bool {
	return slices.ContainsFunc(src.Names(), func(name string) bool {
		rest, ok := strings.CutPrefix(name, prefix)
		return ok && slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(rest, p) })
	})
}

type microBlock struct {
	config  Config
	norm    nn.RMSNorm
	tmix    nn.TimeMix
	cmix    nn.ChannelMix
	sliding nn.SlidingWindowAttention
	grouped nn.GroupedQueryAttention
	moe     nn.MoE
}

func describeMicro(c Config, p *params) *stack {
	n := describeTransformer(c, p)
	n.streams = c.Kind == Causal
	d, s := c.EmbedDim, c.ExpertWidth
	for i := range c.NumLayers {
		prefix := fmt.Sprintf("transformer.h.%d.", i)
		m := &microBlock{
			config:  c,
			norm:    nn.RMSNorm{Eps: 1e-8},
			sliding: nn.SlidingWindowAttention{Heads: c.NumHeads, Window: attentionWindow},
			grouped: nn.GroupedQueryAttention{Heads: c.NumHeads},
			moe:     nn.MoE{Experts: make([]nn.Linear, c.NumActiveExperts)},
		}
		describeTimeMix(&m.tmix, prefix+"tmix.", c, p)
		describeChannelMix(&m.cmix, prefix+"cmix.", c, p)
		p.matrix(&m.sliding.QKV, prefix+"sliding_attn.qkv.weight", 3*d, d)
		p.matrix(&m.sliding.Proj, prefix+"sliding_attn.proj.weight", d, d)
		p.matrix(&m.grouped.QKVW, prefix+"grouped_attn.qkvw.weight", 4*d, d)
		p.matrix(&m.grouped.Out, prefix+"grouped_attn.out.weight", d, d)
		p.linear(&m.moe.Gate, prefix+"moe.gate", true, c.NumExperts, d)
		for j := range m.moe.Experts {
			p.linear(&m.moe.Experts[j], fmt.Sprintf("%smoe.experts.%d", prefix, j), true, s, d)
		}
		p.linear(&m.moe.FC, prefix+"moe.fc", true, d, s)
		n.blocks = append(n.blocks, m)
	}
	return n
}

// forward implements block.
func (m *microBlock) forward(b *batch, x *tensor.Tensor) *tensor.Tensor {
	i, h := b.block, b.norm
	causal := m.config.Kind == Causal
	var first, second func(q int) *nn.TimeMixState
	var cmix func(q int) *nn.ChannelMixState
	if causal {
		first, second, cmix = b.tmix(0), b.tmix(1), b.cmix()
	}

	m.norm.Forward(h, x)
	b.show(b.name("ln_1"), h)
	b.residual("tmix", x, func(dst *tensor.Tensor, add bool) {
		m.tmix.Forward(dst, h, first, b.context(add))
	})
	m.norm.Forward(h, x)
	b.show(b.name("ln_2"), h)
	b.residual("cmix", x, func(dst *tensor.Tensor, add bool) {
		m.cmix.Forward(dst, h, cmix, b.context(add))
	})
	b.residual("sliding_attn", x, func(dst *tensor.Tensor, add bool) {
		if causal {
			m.sliding.ForwardCausal(dst, x, func(q int) *nn.KVCache { return &b.states[q].blocks[i].sliding }, b.context(add))
		} else {
			m.sliding.Forward(dst, x, b.context(add))
		}
	})

	// sic: the same TimeMix a second time, on what isn't normalized
	m.tmix.Forward(h, x, second, b.context(false))
	b.show(b.name("tmix.call2"), h)
	last := b.last && i == m.config.NumLayers-1 && !causal && b.trace == nil
	spans := b.spans
	if last {
		x = b.lastRows(x)
		spans = nil // of no use any more: each row is the last one of a sequence
	}
	b.residual("grouped_attn", x, func(dst *tensor.Tensor, add bool) {
		switch {
		case causal:
			m.grouped.ForwardCausal(dst, h, func(q int) *nn.KVCache { return &b.states[q].blocks[i].grouped }, b.context(add))
		case last:
			m.grouped.ForwardLast(dst, h, b.context(add))
		default:
			m.grouped.Forward(dst, h, b.context(add))
		}
	})
	b.residual("moe", x, func(dst *tensor.Tensor, add bool) {
		var aux []float64
		if b.aux != nil {
			aux = b.aux[i]
		}
		m.moe.Forward(dst, x, aux, nn.Context{Spans: spans, Add: add, Scratch: &b.scratch})
	})
	return x
}

// newState implements block, for kind Causal.
func (m *microBlock) newState() blockState {
	c := m.config
	st := newMixState(c)
	st.tmix[1] = nn.NewTimeMixState(c.EmbedDim, c.NumHeads)
	window := min(attentionWindow, c.BlockSize)
	st.sliding = nn.NewKVCache(c.NumHeads, min(2*window, c.BlockSize), c.EmbedDim/c.NumHeads, window)
	st.grouped = nn.NewKVCache(4*c.NumHeads, c.BlockSize, c.EmbedDim/(4*c.NumHeads), c.BlockSize)
	return st
}
