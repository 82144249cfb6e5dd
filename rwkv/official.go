package rwkv

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// What the official RWKV checkpoints share: tensors named blocks.N.att.… and blocks.N.ffn.…, and around
// the blocks of every version
//
//	x = LN(emb[id]; blocks.0.ln0)
//	x += att(LN(x; ln1));  x += ffn(LN(x; ln2))     per block
//	logits = LN(x; ln_out)·headᵀ

// officialVersion tells which version of RWKV a checkpoint with the official names is, and returns ""
// for one without them. It goes by what the first block has, never by the order of names.
func officialVersion(src source) string {
	// Several names each, so that a file without one of its tensors is told by the others.
	has := func(names ...string) bool { return hasAny(src, "blocks.0.", names...) }
	switch {
	case !has("att."):
		return ""
	case has("att.r_k", "att.x_r", "att.w0"):
		if has("ffn.s_emb.weight", "ffn.s1") {
			return "7a"
		}
		return "7"
	case has("att.time_maa_x", "att.time_maa_w1"):
		return "6"
	case !has("att.ln_x.", "att.gate.weight", "att.time_faaaa"):
		return "4"
	case !has("att.gate.weight", "att.time_mix_g"):
		return "5.0"
	}
	if shape, _ := src.Shape("blocks.0.att.time_decay"); len(shape) < 2 || shape[len(shape)-1] == 1 {
		return "5.1"
	}
	return "5.2"
}

// isOfficial returns the match of a family of official versions.
func isOfficial(kind Kind, versions ...string) func(src source, variant string) (Kind, error) {
	return func(src source, _ string) (Kind, error) {
		v := officialVersion(src)
		for _, version := range versions {
			if v == version {
				return kind, nil
			}
		}
		return "", nil
	}
}

// configureOfficial derives what the shared tensors' shapes tell; heads is a tensor with a row for each
// head, "" for none.
func configureOfficial(src source, c *Config, heads string) error {
	var head, att, in int
	c.NumLayers = countLayers(src, "blocks.")
	err := errors.Join(
		sizes(src, "emb.weight", &c.VocabSize, &c.EmbedDim),
		sizes(src, "blocks.0.att.key.weight", &att, &in),
		sizes(src, "blocks.0.ffn.key.weight", &c.FFNDim, &in),
	)
	if head = 1; heads != "" {
		err = errors.Join(err, sizes(src, "blocks.0.att."+heads, &head))
	}
	c.InitialState = len(stateBlocks(src)) > 0
	if c.NumHeads = head; att != c.EmbedDim {
		c.AttDim = att
	}
	return err
}

// officialConfig returns the parts of c that the official kinds share.
func officialConfig(c Config) Config {
	f := Config{
		Kind: c.Kind, VocabSize: c.VocabSize, NumLayers: c.NumLayers, NumHeads: c.NumHeads, EmbedDim: c.EmbedDim,
		Dropout: c.Dropout, FFNDim: c.FFNDim, AttDim: c.AttDim, NormEps: c.NormEps, HeadNormEps: c.HeadNormEps,
	}
	if f.AttDim == f.EmbedDim {
		f.AttDim = 0
	}
	return f
}

// ffnDim is the official inner width of a channel mix of factor times the model's, a multiple of 32.
func ffnDim(factor float64, d int) int { return max(1, int(factor*float64(d)/32)) * 32 }

// checkOfficial reports the values that make no official model of any version.
func checkOfficial(c *Config) error {
	err := errors.Join(checkSize("ffn_dim", c.FFNDim, 1), checkSize("att_dim", c.attDim(), 1))
	for name, eps := range map[string]float64{"norm_eps": c.NormEps, "head_norm_eps": c.HeadNormEps} {
		if !(eps >= 0 && eps < 1) {
			err = errors.Join(err, fmt.Errorf("%s = %v, want 0 to 1", name, eps))
		}
	}
	return err
}

// describeOfficial describes what is around the blocks.
func describeOfficial(c Config, p *params) *stack {
	n := &stack{streams: true}
	p.matrix(&n.emb.Weight, "emb.weight", c.VocabSize, c.EmbedDim).dev = 0.3
	p.matrix(&n.head, "head.weight", c.VocabSize, c.EmbedDim).dev = 0.05
	describeNorm(c, p, &n.in, "blocks.0.ln0")
	describeNorm(c, p, &n.out, "ln_out")
	return n
}

// unusualEps returns a model's epsilons that aren't the usual ones, by the names that model_args has for them.
func unusualEps(c Config) map[string]any {
	args := map[string]any{}
	for name, eps := range map[string]float64{"norm_eps": c.NormEps, "head_norm_eps": c.HeadNormEps} {
		if eps != 0 {
			args[name] = eps
		}
	}
	return args
}

// epsArgs returns what tells those, nil without any: the official files have nothing beside the weights.
func epsArgs(c Config) map[string]any {
	if args := unusualEps(c); len(args) > 0 {
		return map[string]any{"model_args": args}
	}
	return nil
}

// readEpsArgs reads what epsArgs returned.
func readEpsArgs(a *modelArgs, c *Config) {
	a.number("norm_eps", &c.NormEps)
	a.number("head_norm_eps", &c.HeadNormEps)
}

// describeNorm describes a LayerNorm.
func describeNorm(c Config, p *params, l *nn.LayerNorm, name string) {
	p.layerNorm(l, name, true, c.EmbedDim)
	if c.NormEps != 0 {
		l.Eps = float32(c.NormEps)
	}
}

// describeHeadNorm describes the norm after a WKV.
func describeHeadNorm(c Config, p *params, l *nn.GroupNorm, name string) {
	p.headNorm(l, name, c.NumHeads, c.attDim())
	if c.HeadNormEps != 0 {
		l.Eps = float32(c.HeadNormEps)
	}
}

// describeShare describes a mix of version 4 or 5, the share of the present row: the layer's is that of
// the row before.
func describeShare(p *params, to **tensor.Tensor, name string, d int) {
	p.vector(to, name, 0.5, 0.2, 1, 1, d).change = &change{n: d, f: func(x float64) float64 { return 1 - x }, slope: func(float64) float64 { return -1 }}
}

// keep is what a decay of x, exp(−exp(x)), leaves of the state.
func keep(x float64) float64 { return math.Exp(-math.Exp(x)) }

// keepSlope is the slope of keep's logarithm, of which the layers have the gradient.
func keepSlope(x float64) float64 { return -math.Exp(x) }

// describeProducts describes the linear layers of a time mix, all [A, C] but the output.
func describeProducts(c Config, p *params, prefix string, receptance, key, value, output *nn.Linear) {
	a, d := c.attDim(), c.EmbedDim
	p.linear(receptance, prefix+"receptance", false, a, d)
	p.linear(key, prefix+"key", false, a, d)
	p.linear(value, prefix+"value", false, a, d)
	p.linear(output, prefix+"output", false, d, a)
}

// describeGatedFFN describes the linear layers of a channel mix of versions 4 to 6.
func describeGatedFFN(c Config, p *params, prefix string, m *nn.ChannelMix) {
	d, f := c.EmbedDim, c.FFNDim
	p.linear(&m.Key, prefix+"key", false, f, d)
	p.linear(&m.Receptance, prefix+"receptance", false, d, d)
	p.linear(&m.Value, prefix+"value", false, d, f)
}

// startName ends the name of a tuned state.
const startName = "att.time_state"

// stateBlocks returns the names of the tuned states that the source has.
func stateBlocks(src source) (names []string) {
	for _, name := range src.Names() {
		if strings.HasSuffix(name, "."+startName) {
			names = append(names, name)
		}
	}
	return names
}

// describeStart describes a tuned state that sequences begin with, where the file has one: S of each
// head [value, key], which becomes part of what the block's newState returns.
func describeStart(c Config, p *params, to **tensor.Tensor, prefix string) {
	if c.InitialState {
		n := c.attDim() / c.NumHeads
		p.vector(to, prefix+"time_state", 0, 0.1, c.NumHeads, n, n)
	}
}

// officialState returns the state of a block before its first token; start may be nil.
func officialState(c Config, start *tensor.Tensor) blockState {
	a := c.attDim()
	st := blockState{cmix: nn.NewChannelMixState(c.EmbedDim)}
	st.tmix[0] = nn.TimeMixState{Shift: make([]float32, c.EmbedDim), WKV: make([]float32, a*(a/c.NumHeads))}
	if start != nil {
		copy(st.tmix[0].WKV, start.Data())
	}
	return st
}
