package rwkv

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"microrwkv/checkpoint"
)

// Models in GGUF files, as llama.cpp has them: which it is and what shapes don't tell is in the metadata,
// tensors have names of their own. Layouts of them are in the table of layouts.

// ggufModel is an architecture of GGUF files: its layout, and the names for both directions.
type ggufModel struct {
	kind  Kind
	names []string // pairs: the end of a name in the file, that of the official one
	fused []string // ends of official names that are the rows of time_mix_lerp_fused.weight, in its order
	float []string // ends of official names that are stored in float32
}

// ggufModels are the architectures, by what general.architecture says.
var ggufModels = map[string]*ggufModel{
	"rwkv7": {
		kind: RWKV7,
		names: []string{
			"time_mix_w0.weight", "att.w0", "time_mix_w1.weight", "att.w1", "time_mix_w2.weight", "att.w2",
			"time_mix_a0.weight", "att.a0", "time_mix_a1.weight", "att.a1", "time_mix_a2.weight", "att.a2",
			"time_mix_v0.weight", "att.v0", "time_mix_v1.weight", "att.v1", "time_mix_v2.weight", "att.v2",
			"time_mix_g1.weight", "att.g1", "time_mix_g2.weight", "att.g2",
			"time_mix_k_k.weight", "att.k_k", "time_mix_k_a.weight", "att.k_a", "time_mix_r_k.weight", "att.r_k",
			"channel_mix_lerp_k.weight", "ffn.x_k",
		},
		fused: []string{"att.x_r", "att.x_w", "att.x_k", "att.x_v", "att.x_a", "att.x_g"},
		float: []string{"att.w1", "att.w2"},
	},
	"rwkv6": {
		kind: RWKV6,
		names: []string{
			"time_mix_lerp_x.weight", "att.time_maa_x", "time_mix_w1.weight", "att.time_maa_w1", "time_mix_w2.weight", "att.time_maa_w2",
			"time_mix_lerp_w.weight", "att.time_maa_w", "time_mix_lerp_k.weight", "att.time_maa_k", "time_mix_lerp_v.weight", "att.time_maa_v",
			"time_mix_lerp_r.weight", "att.time_maa_r", "time_mix_lerp_g.weight", "att.time_maa_g",
			"time_mix_decay.weight", "att.time_decay", "time_mix_decay_w1.weight", "att.time_decay_w1", "time_mix_decay_w2.weight", "att.time_decay_w2",
			"time_mix_first.weight", "att.time_faaaa", "time_mix_gate.weight", "att.gate.weight",
			"channel_mix_lerp_k.weight", "ffn.time_maa_k", "channel_mix_lerp_r.weight", "ffn.time_maa_r",
			"channel_mix_receptance.weight", "ffn.receptance.weight",
		},
		fused: []string{"att.time_maa_w", "att.time_maa_k", "att.time_maa_v", "att.time_maa_r", "att.time_maa_g"},
		float: []string{"att.time_maa_w1", "att.time_maa_w2", "att.time_decay_w1", "att.time_decay_w2", "att.time_faaaa"},
	},
}

// ggufShared are the names that the architectures share: within a block, and around the blocks.
var (
	ggufShared = []string{
		"attn_norm.weight", "ln1.weight", "attn_norm.bias", "ln1.bias", "attn_norm_2.weight", "ln2.weight", "attn_norm_2.bias", "ln2.bias",
		"time_mix_ln.weight", "att.ln_x.weight", "time_mix_ln.bias", "att.ln_x.bias",
		"time_mix_receptance.weight", "att.receptance.weight", "time_mix_key.weight", "att.key.weight",
		"time_mix_value.weight", "att.value.weight", "time_mix_output.weight", "att.output.weight",
		"channel_mix_key.weight", "ffn.key.weight", "channel_mix_value.weight", "ffn.value.weight",
	}
	ggufAround = []string{
		"token_embd_norm.weight", "blocks.0.ln0.weight", "token_embd_norm.bias", "blocks.0.ln0.bias", "token_embd.weight", "emb.weight",
		"output_norm.weight", "ln_out.weight", "output_norm.bias", "ln_out.bias", "output.weight", "head.weight",
	}
)

const (
	ggufFused = "time_mix_lerp_fused.weight"
	fusedEnd  = ".att.fused" // what the joined lerps are called until they are cut into rows
)

// layout returns the row of layouts for the architecture.
func (g *ggufModel) layout(architecture string, turned []string) *layout {
	l := &layout{
		name: "GGUF (" + architecture + ")",
		is: func(src source) bool {
			s, ok := src.(*fileSource)
			return ok && s.gguf != nil && s.gguf.architecture == architecture
		},
		turned: turned, joined: fusedEnd, heads: ".att.r_k",
		stored: g.stored,
	}
	for _, end := range g.fused {
		l.rows = append(l.rows, "."+end)
	}
	l.names = append(l.names, "."+ggufFused, fusedEnd)
	for _, names := range [][]string{g.names, ggufShared} {
		for _, name := range names {
			l.names = append(l.names, "."+name)
		}
	}
	l.names = append(append(l.names, ggufAround...), "blk.", "blocks.")
	return l
}

// stored returns the name that a file has for an official one.
func (g *ggufModel) stored(official string) string {
	find := func(names []string, name string) string {
		if i := slices.Index(names, name); i > 0 && i%2 == 1 {
			return names[i-1]
		}
		return ""
	}
	if name := find(ggufAround, official); name != "" {
		return name
	}
	rest, ok := strings.CutPrefix(official, "blocks.")
	block, end, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return official
	}
	name := find(g.names, end)
	if slices.Contains(g.fused, end) {
		name = ggufFused
	}
	if name == "" {
		name = find(ggufShared, end)
	}
	if name == "" {
		return official
	}
	return "blk." + block + "." + name
}

// ggufRefused says what architectures are that look like RWKV and aren't.
var ggufRefused = map[string]string{
	"arwkv7":      "RWKV-7's time mix in a Qwen2 (ARWKV), which isn't supported",
	"rwkv6qwen2":  "RWKV-6's time mix in a Qwen2 (QRWKV), which isn't supported",
	"arwkv7qwen2": "RWKV-7's time mix in a Qwen2, which isn't supported",
}

// ggufInfo is what a GGUF file's metadata say of the model.
type ggufInfo struct {
	architecture                               string
	blocks, width, inner, headSize, every, ids int
	eps                                        float64
}

// readGGUF reads and checks the metadata of a GGUF file.
func readGGUF(f *checkpoint.File) (*ggufInfo, error) {
	const key = "general.architecture"
	v, ok := f.Value(key)
	name, isText := v.(string)
	switch {
	case !ok:
		return nil, fmt.Errorf("no %s in the metadata", key)
	case !isText:
		return nil, fmt.Errorf("%s is %s, want a string", key, quoted(v))
	case ggufModels[name] == nil:
		what := "want rwkv6 or rwkv7"
		if ggufRefused[name] != "" {
			what = ggufRefused[name] + ": " + what
		}
		return nil, fmt.Errorf("%s is %s: %s", key, quoted(name), what)
	}
	g := &ggufInfo{architecture: name, eps: 1e-5}
	var errs []error
	size := func(to *int, name string, least int, needed bool) {
		name = g.architecture + "." + name
		v, ok := f.Value(name)
		if !ok {
			if needed {
				errs = append(errs, fmt.Errorf("no %s in the metadata", name))
			}
			return
		}
		n, isInt := v.(int64)
		if !isInt {
			errs = append(errs, fmt.Errorf("%s is %s, want an integer", name, quoted(v)))
			return
		}
		if n < int64(least) || n > maxSize {
			errs = append(errs, fmt.Errorf("%s = %d, want %d to %d", name, n, least, maxSize))
			return
		}
		*to = int(n)
	}
	size(&g.blocks, "block_count", 1, true)
	size(&g.width, "embedding_length", 1, true)
	size(&g.inner, "feed_forward_length", 1, false)
	size(&g.headSize, "wkv.head_size", 1, true)
	size(&g.every, "rescale_every_n_layers", 0, false)
	size(&g.ids, "vocab_size", 1, false)
	if v, ok := f.Value(g.architecture + ".attention.layer_norm_epsilon"); ok {
		eps, isNumber := v.(float64)
		if !isNumber || !(eps >= 0 && eps < 1) {
			errs = append(errs, fmt.Errorf("%s.attention.layer_norm_epsilon is %s, want a number from 0 to 1", g.architecture, quoted(v)))
		}
		g.eps = eps
	}
	return g, errors.Join(errs...)
}

// configure checks what the tensors' shapes told against the metadata, and takes from it what they can't.
func (g *ggufInfo) configure(c *Config) error {
	if g == nil {
		return nil
	}
	var errs []error
	for _, size := range []struct {
		name        string
		says, shape int
	}{
		{"block_count", g.blocks, c.NumLayers}, {"embedding_length", g.width, c.EmbedDim}, {"feed_forward_length", g.inner, c.FFNDim},
		{"vocab_size", g.ids, c.VocabSize}, {"wkv.head_size", g.headSize, c.attDim() / max(c.NumHeads, 1)},
	} {
		if size.says != 0 && size.says != size.shape {
			errs = append(errs, fmt.Errorf("%s.%s = %d, but by the tensors it is %d", g.architecture, size.name, size.says, size.shape))
		}
	}
	if math.Abs(g.eps-1e-5) > 1e-9 {
		c.NormEps = g.eps
	}
	if c.Kind == RWKV6 {
		c.RescaleEvery = g.every
	}
	return errors.Join(errs...)
}
