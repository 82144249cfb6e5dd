package rwkv

import (
	"errors"
	"fmt"
	"math"
)

// Kind is a family of models that share layers, tensor names and rules.
type Kind string

// The kinds that this package runs.
const (
	Reference Kind = "reference" // MicroRWKV as published; not causal
	Causal    Kind = "causal"    // MicroRWKV with causal rules
	X051a     Kind = "x051a"     // nanoRWKV
	RWKV7     Kind = "rwkv7"     // RWKV-7 "Goose", x070
)

// Config is a model's shape. The names in JSON are those of a checkpoint's model_args.
type Config struct {
	Kind             Kind    `json:"kind"`
	BlockSize        int     `json:"block_size,omitempty"` // positions; 0: no limit
	VocabSize        int     `json:"vocab_size"`
	NumLayers        int     `json:"n_layer"`
	NumHeads         int     `json:"n_head"`
	EmbedDim         int     `json:"n_embd"`
	NumExperts       int     `json:"num_experts,omitempty"`
	NumActiveExperts int     `json:"num_active_experts,omitempty"`
	ExpertDim        int     `json:"expert_dim,omitempty"`
	Dim              int     `json:"dim,omitempty"`
	Dropout          float64 `json:"dropout,omitempty"`
	Bias             bool    `json:"bias"`

	// ExpertWidth is the rows of an expert, ⌊1.2·ExpertDim⌋ unless a checkpoint's shapes say
	// otherwise.
	ExpertWidth int `json:"expert_width,omitempty"`
	// FFNDim is the inner width of ChannelMix, 3·EmbedDim but for RWKV-7, where it is free.
	FFNDim int `json:"ffn_dim,omitempty"`
}

// DefaultConfig returns the published MicroRWKV's defaults: 156.7 million parameters.
func DefaultConfig() Config {
	return Config{
		Kind: Reference, BlockSize: 1024, VocabSize: 50304, NumLayers: 8, NumHeads: 12, EmbedDim: 768,
		NumExperts: 4, NumActiveExperts: 4, ExpertDim: 512, Dim: 768, ExpertWidth: expertWidth(512), FFNDim: 3 * 768,
	}
}

// expertWidth is the published int(expert_dim * 1.2), in float64.
func expertWidth(expertDim int) int { return int(float64(expertDim) * 1.2) }

// fill clears what the kind doesn't have, and sets what is derived from other values where it is
// zero.
func (c *Config) fill() {
	if c.Kind == X051a || c.Kind == RWKV7 {
		c.NumExperts, c.NumActiveExperts, c.ExpertDim, c.ExpertWidth = 0, 0, 0, 0
	}
	if c.Kind == RWKV7 {
		c.BlockSize, c.Bias = 0, false
	}
	if c.ExpertWidth == 0 {
		c.ExpertWidth = expertWidth(c.ExpertDim)
	}
	if c.FFNDim == 0 {
		c.FFNDim = 3 * c.EmbedDim
		if c.Kind == RWKV7 {
			c.FFNDim = 4 * c.EmbedDim
		}
	}
}

// maxSize bounds every size of a Config, so that products of a few of them can't overflow.
const maxSize = 1 << 24

// validate reports every value that makes no model.
func (c *Config) validate() error {
	var errs []error
	size := func(name string, v, least int) {
		if v < least || v > maxSize {
			errs = append(errs, fmt.Errorf("%s = %d, want %d to %d", name, v, least, maxSize))
		}
	}
	size("vocab_size", c.VocabSize, 1)
	size("n_layer", c.NumLayers, 1)
	size("n_head", c.NumHeads, 1)
	size("n_embd", c.EmbedDim, 1)
	if c.Kind != RWKV7 {
		size("block_size", c.BlockSize, 1)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if c.EmbedDim%c.NumHeads != 0 {
		errs = append(errs, fmt.Errorf("n_head = %d does not divide n_embd = %d", c.NumHeads, c.EmbedDim))
	}
	if c.Kind == Reference || c.Kind == Causal {
		if c.EmbedDim%(4*c.NumHeads) != 0 {
			errs = append(errs, fmt.Errorf("4·n_head = %d does not divide n_embd = %d", 4*c.NumHeads, c.EmbedDim))
		}
		size("num_experts", c.NumExperts, 1)
		size("num_active_experts", c.NumActiveExperts, 1)
		size("expert width", c.ExpertWidth, 1)
		if c.NumActiveExperts > c.NumExperts {
			errs = append(errs, fmt.Errorf("num_active_experts = %d of num_experts = %d", c.NumActiveExperts, c.NumExperts))
		}
	}
	if math.IsNaN(c.Dropout) || c.Dropout < 0 || c.Dropout > 1 {
		errs = append(errs, fmt.Errorf("dropout = %v, want 0 to 1", c.Dropout))
	}
	return errors.Join(errs...)
}
