package rwkv

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/nn"
	"microrwkv/tensor"
)

// What the kinds in nanoGPT's layout share: token and position embeddings, RWKV x051a's time mix
// and channel mix, a final LayerNorm, and a head tied to the embedding.

// configureTransformer derives what the shared tensors' shapes tell.
func configureTransformer(src source, c *Config) error {
	embedding := tiedEmbedding
	if _, ok := src.Shape(embedding); !ok {
		if _, ok := src.Shape(tiedHead); ok {
			embedding = tiedHead
		}
	}
	var position int
	c.NumLayers = countLayers(src, "transformer.h.")
	err := errors.Join(
		sizes(src, embedding, &c.VocabSize, &c.EmbedDim),
		sizes(src, "transformer.wpe.weight", &c.BlockSize, &position),
		sizes(src, "transformer.h.0.tmix.time_decay", &c.NumHeads),
	)
	c.FFNDim = 3 * c.EmbedDim
	c.Bias = slices.ContainsFunc(src.Names(), func(name string) bool {
		always := strings.Contains(name, ".ln_x.") || strings.Contains(name, ".moe.")
		return strings.HasSuffix(name, ".bias") && !always
	})
	return err
}

// sizes stores the first dimensions of a tensor.
func sizes(src source, name string, to ...*int) error {
	shape, ok := src.Shape(name)
	if !ok {
		return fmt.Errorf("tensor %q: %w", storedName(src, name), checkpoint.ErrNotFound)
	}
	if len(shape) < len(to) {
		return fmt.Errorf("tensor %q: shape %v, want %d dimensions", storedName(src, name), shape, len(to))
	}
	for i, p := range to {
		*p = shape[i]
	}
	return nil
}

// readTransformerArgs reads the model_args that the kinds share.
func readTransformerArgs(a *modelArgs, c *Config) {
	a.shape("block_size", &c.BlockSize)
	a.shape("vocab_size", &c.VocabSize)
	a.shape("n_layer", &c.NumLayers)
	a.shape("n_head", &c.NumHeads)
	a.shape("n_embd", &c.EmbedDim)
	a.flag("bias", &c.Bias) // the tensors that this asks for are checked one by one
	a.number("dropout", &c.Dropout)
}

// countLayers returns one more than the largest i in names prefix + i + ".…", 0 without any. There
// are no more layers than names.
func countLayers(src source, prefix string) int {
	n := 0
	for _, name := range src.Names() {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ".")
		if i, err := strconv.Atoi(number); err == nil && i >= n && i < len(src.Names()) {
			n = i + 1
		}
	}
	return n
}

// The names of the embedding and of the head, one tensor.
const (
	tiedEmbedding = "transformer.wte.weight"
	tiedHead      = "lm_head.weight"
)

// describeTransformer describes what the kinds share outside of the blocks.
func describeTransformer(c Config, p *params) *stack {
	n := &stack{}
	wte := p.matrix(&n.emb.Weight, tiedEmbedding, c.VocabSize, c.EmbedDim)
	wte.dev, wte.alias, wte.matrix = 0.1, tiedHead, append(wte.matrix, &n.head) // one tensor: either name may be absent
	p.matrix(&n.pos.Weight, "transformer.wpe.weight", c.BlockSize, c.EmbedDim).dev = 0.1
	p.layerNorm(&n.out, "transformer.ln_f", c.Bias, c.EmbedDim)
	return n
}

// describeTimeMix describes the TimeMix of a block in nanoGPT's layout.
func describeTimeMix(m *nn.TimeMix, prefix string, c Config, p *params) {
	d := c.EmbedDim
	describeShift(p, prefix, d, shifted{"k", &m.MixK}, shifted{"v", &m.MixV}, shifted{"r", &m.MixR}, shifted{"g", &m.MixG})
	p.vector(&m.TimeDecay, prefix+"time_decay", -2, 1, c.NumHeads, 1)
	p.vector(&m.Bonus, prefix+"time_faaaa", 0, 0.5, c.NumHeads, 1)
	p.linear(&m.Receptance, prefix+"receptance", c.Bias, d, d)
	p.linear(&m.Key, prefix+"key", c.Bias, d, d)
	p.linear(&m.Value, prefix+"value", c.Bias, d, d)
	p.linear(&m.Gate, prefix+"gate", c.Bias, d, d)
	p.linear(&m.Output, prefix+"output", c.Bias, d, d)
	p.headNorm(&m.LnX, prefix+"ln_x", c.NumHeads, d)
	p.derive = append(p.derive, m.Derive)
}

// describeChannelMix describes the ChannelMix of a block in nanoGPT's layout.
func describeChannelMix(m *nn.ChannelMix, prefix string, c Config, p *params) {
	d := c.EmbedDim
	describeShift(p, prefix, d, shifted{"k", &m.MixK}, shifted{"r", &m.MixR})
	p.linear(&m.Key, prefix+"key", c.Bias, 3*d, d)
	p.linear(&m.Value, prefix+"value", c.Bias, d, 3*d)
	p.linear(&m.Receptance, prefix+"receptance", c.Bias, d, d)
}

// shifted is a vector that mixes a row with the one before it.
type shifted struct {
	name string
	to   **tensor.Tensor
}

func describeShift(p *params, prefix string, d int, vectors ...shifted) {
	for _, v := range vectors {
		p.vector(v.to, prefix+"time_maa_"+v.name, 0.5, 0.2, 1, 1, d)
	}
}

// transformerArgs are the model_args that the kinds share.
func transformerArgs(c Config) map[string]any {
	return map[string]any{
		"block_size": c.BlockSize, "vocab_size": c.VocabSize, "n_layer": c.NumLayers, "n_head": c.NumHeads,
		"n_embd": c.EmbedDim, "dropout": c.Dropout, "bias": c.Bias,
	}
}

// transformerConfig returns the parts of c that the kinds share.
func transformerConfig(c Config) Config {
	return Config{
		Kind: c.Kind, BlockSize: c.BlockSize, VocabSize: c.VocabSize, NumLayers: c.NumLayers, NumHeads: c.NumHeads,
		EmbedDim: c.EmbedDim, Dropout: c.Dropout, Bias: c.Bias, FFNDim: 3 * c.EmbedDim,
	}
}
