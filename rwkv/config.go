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
	RWKV4     Kind = "rwkv4"     // RWKV-4: Pile, Raven, World
	RWKV5     Kind = "rwkv5"     // RWKV-5 "Eagle": 5.0, 5.1, 5.2
	RWKV6     Kind = "rwkv6"     // RWKV-6 "Finch", x060
	RWKV7     Kind = "rwkv7"     // RWKV-7 "Goose", x070, and 7a
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
	// FFNDim is the inner width of ChannelMix, 3·EmbedDim but for the official models, where it is free.
	FFNDim int `json:"ffn_dim,omitempty"`

	// Of the official models.
	Version     string  `json:"version,omitempty"`       // of RWKV-5: "5.0", "5.1" or "5.2"
	AttDim      int     `json:"att_dim,omitempty"`       // width of the time mix if it isn't EmbedDim
	DeepEmbed   int     `json:"deep_embed,omitempty"`    // side of RWKV-7a's matrices by token, 0 in others
	NormEps     float64 `json:"norm_eps,omitempty"`      // of the LayerNorms if it isn't 1e-5
	HeadNormEps float64 `json:"head_norm_eps,omitempty"` // of the norm after the WKV if it isn't 64e-5
	// RescaleEvery is after how many blocks RWKV-6 halves its activations, for which the weights that add to
	// them are stored halved as often; 0 is never.
	RescaleEvery int  `json:"rescale_every_n_layers,omitempty"`
	InitialState bool `json:"initial_state,omitempty"` // sequences begin with a tuned state
}

// attDim returns the width of the time mix.
func (c *Config) attDim() int {
	if c.AttDim != 0 {
		return c.AttDim
	}
	return c.EmbedDim
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

// maxSize bounds every size of a Config, so that products of a few of them can't overflow.
const maxSize = 1 << 24

// checkSize returns an error unless least ≤ v ≤ maxSize.
func checkSize(name string, v, least int) error {
	if v < least || v > maxSize {
		return fmt.Errorf("%s = %d, want %d to %d", name, v, least, maxSize)
	}
	return nil
}

// validate reports every value that makes no model of the family.
func (c *Config) validate(f *family) error {
	err := errors.Join(
		checkSize("vocab_size", c.VocabSize, 1), checkSize("n_layer", c.NumLayers, 1),
		checkSize("n_head", c.NumHeads, 1), checkSize("n_embd", c.EmbedDim, 1),
	)
	if err == nil && c.attDim()%c.NumHeads != 0 {
		err = fmt.Errorf("n_head = %d does not divide n_embd = %d", c.NumHeads, c.attDim())
	}
	if math.IsNaN(c.Dropout) || c.Dropout < 0 || c.Dropout > 1 {
		err = errors.Join(err, fmt.Errorf("dropout = %v, want 0 to 1", c.Dropout))
	}
	if c.NumHeads < 1 { // what follows divides by it
		return err
	}
	return errors.Join(err, f.validate(c))
}
