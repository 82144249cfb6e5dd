package rwkv

import (
	"slices"
	"strconv"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// A layout is how a program stores the official models: other names, some tensors with two axes
// exchanged, some of them joined. The table layouts has them all; what reads a model knows the official
// names alone.
type layout struct {
	name string
	// is tells the layout by names and shapes, never by the order of names or a file's name.
	is func(src source) bool
	// names is pairs: what to replace in a name, and what with. The first pair that fits is taken.
	names []string
	// turned is the ends of official names whose last two axes are exchanged.
	turned []string
	// joined is the end of a name whose tensor has several official ones as its rows, and their ends.
	joined string
	rows   []string
	// heads is the end of an official name whose rows, one for each head, are joined in the file.
	heads string
	// config says that a config.json lies beside the file.
	config bool
	// stored returns the name that a file has for an official one, for errors; nil is itself.
	stored func(official string) string
}

// The ends of the narrow matrices of RWKV-7 and RWKV-6, which layouts turn.
var (
	narrow7 = []string{".w1", ".w2", ".a1", ".a2", ".v1", ".v2", ".g1", ".g2"}
	narrow6 = []string{".time_maa_w1", ".time_maa_w2", ".time_decay_w1", ".time_decay_w2"}
)

// layouts lists the layouts, each before those that its signs also fit.
var layouts = []*layout{
	ggufModels["rwkv7"].layout("rwkv7", narrow7),
	ggufModels["rwkv6"].layout("rwkv6", narrow6),
	{
		name:   "Hugging Face (RWKV-4 to 6)",
		is:     func(src source) bool { return hasAny(src, "rwkv.", "embeddings.", "blocks.0.") },
		config: true,
		names: []string{
			"rwkv.embeddings.", "emb.",
			"rwkv.blocks.", "blocks.",
			"rwkv.ln_out.", "ln_out.",
			".pre_ln.", ".ln0.",
			".attention.", ".att.",
			".feed_forward.", ".ffn.",
			"time_mix_key", "time_mix_k",
			"time_mix_value", "time_mix_v",
			"time_mix_receptance", "time_mix_r",
			"time_mix_gate", "time_mix_g",
		},
	},
	{
		name:   "Hugging Face (RWKV-7)",
		is:     func(src source) bool { return hasAny(src, "model.layers.0.attn.", "r_k", "x_", "w_lora.") },
		config: true,
		names: []string{
			"model.embeddings.", "emb.",
			"model.layers.", "blocks.",
			"model.norm.", "ln_out.",
			"lm_head.", "head.",
			".pre_norm.", ".ln0.",
			".attn_norm.", ".ln1.",
			".ffn_norm.", ".ln2.",
			".attn.", ".att.",
			"r_proj.", "receptance.",
			"k_proj.", "key.",
			"v_proj.", "value.",
			"o_proj.", "output.",
			"g_norm.", "ln_x.",
			"w_lora.lora.0.weight", "w1", "w_lora.lora.2.weight", "w2", "w_lora.lora.2.bias", "w0",
			"a_lora.lora.0.weight", "a1", "a_lora.lora.2.weight", "a2", "a_lora.lora.2.bias", "a0",
			"v_lora.lora.0.weight", "v1", "v_lora.lora.2.weight", "v2", "v_lora.lora.2.bias", "v0",
			"g_lora.lora.0.weight", "g1", "g_lora.lora.2.weight", "g2",
		},
		turned: narrow7, // Linear layers, which store [out, in]
		joined: ".x_x", rows: []string{".x_r", ".x_w", ".x_k", ".x_v", ".x_a", ".x_g"},
	},
	{
		name: "web-rwkv (RWKV-7)",
		is: func(src source) bool { // w1 is [C, D] in the official layout; a square one is official
			c, ok := src.Shape("emb.weight")
			if !ok || len(c) != 2 {
				return false
			}
			for _, name := range []string{"w1", "a1", "g1"} {
				if w, ok := src.Shape("blocks.0.att." + name); ok && len(w) == 2 && w[0] != c[1] && w[1] == c[1] {
					return true
				}
			}
			return false
		},
		turned: narrow7,
	},
	{
		name:   "web-rwkv (RWKV-6)",
		is:     func(src source) bool { return hasAny(src, "blocks.0.att.", "time_mix_w1") },
		names:  []string{"time_first", "time_faaaa", "time_mix", "time_maa"},
		turned: narrow6,
	},
	{
		name: "web-rwkv (RWKV-5)",
		is: func(src source) bool { // a bonus for each channel, and not its logarithm: official is [H]
			_, normed := src.Shape("blocks.0.att.ln_x.weight")
			u, ok := src.Shape("blocks.0.att.time_first")
			return normed && ok && len(u) > 1 && u[len(u)-1] > 1
		},
		names: []string{"time_first", "time_faaaa"},
	},
	{
		name: "official",
		is:   func(src source) bool { return hasAny(src, "blocks.", "0.att.", "0.ln0.") },
	},
}

// storedTensor is where a file has a tensor.
type storedTensor struct {
	official string // its name for the families
	name     string
	row      int  // of the file's tensor, −1 for all of it
	turned   bool // the last two axes are exchanged
	headSize int  // of rows that are joined in the file, 0 for no such
}

// official returns the tensors that a stored one is, in a model whose heads have so many channels if that
// is known.
func (l *layout) official(stored string, renamed *strings.Replacer, headSize int) []storedTensor {
	name := renamed.Replace(stored)
	if base, ok := strings.CutSuffix(name, l.joined); ok && l.joined != "" {
		all := make([]storedTensor, len(l.rows))
		for i, end := range l.rows {
			all[i] = storedTensor{official: base + end, row: i}
		}
		return all
	}
	turned := slices.ContainsFunc(l.turned, func(end string) bool { return strings.HasSuffix(name, end) })
	t := storedTensor{official: name, row: -1, turned: turned}
	if l.heads != "" && strings.HasSuffix(name, l.heads) {
		t.headSize = headSize
	}
	return []storedTensor{t}
}

// shape returns the tensor's shape, from that of the file's.
func (t storedTensor) shape(stored []int) []int {
	n := len(stored)
	switch {
	case t.row >= 0 && n > 0:
		return []int{stored[n-1]}
	case t.headSize > 0 && n == 1 && stored[0]%t.headSize == 0:
		return []int{stored[0] / t.headSize, t.headSize}
	case t.turned && n >= 2:
		shape := append([]int(nil), stored...)
		shape[n-2], shape[n-1] = shape[n-1], shape[n-2]
		return shape
	}
	return stored
}

// of returns the tensor, from the file's.
func (t storedTensor) of(w *tensor.Weight) *tensor.Weight {
	shape := w.Shape()
	n := len(shape)
	switch {
	case t.row >= 0:
		return w.Reshape(w.Len()/w.Dim(-1), w.Dim(-1)).Rows(t.row, t.row+1).Packed().Reshape(w.Dim(-1))
	case t.headSize > 0 && len(t.shape(shape)) == 2:
		return w.Float32().Reshape(t.shape(shape)...).Weight()
	case !t.turned || n < 2 || w.Len() == 0:
		return w
	case n == 2:
		return w.Turned()
	}
	// some matrices, one after another
	if block, _ := w.DType().Block(); block != 1 {
		w = w.Float32().Weight() // what is stored along the rows
	}
	var data []byte
	rows := shape[n-2]
	all := w.Reshape(w.Len()/shape[n-1], shape[n-1])
	for i := 0; i < all.Dim(0); i += rows {
		data = append(data, all.Rows(i, i+rows).Transpose().Bytes()...)
	}
	return tensor.NewWeight(w.DType(), data, t.shape(shape)...)
}

// Layout tells how a checkpoint stores an official model.
type Layout struct {
	Name   string // "official", or the program that writes such files; "" for other models
	stored map[string]string
}

// LayoutOf tells a checkpoint's layout.
func LayoutOf(f *checkpoint.File) (Layout, error) {
	s, err := newFileSource(f, &openOptions{}, "")
	if err != nil || s.layout == nil {
		return Layout{}, err
	}
	l := Layout{Name: s.layout.name, stored: map[string]string{}}
	for _, name := range s.names {
		t := s.stored[name]
		if t.row >= 0 {
			name += " (row " + strconv.Itoa(t.row) + ")"
		}
		if l.stored[t.name] != "" {
			name = l.stored[t.name] + ", " + name
		}
		l.stored[t.name] = name
	}
	return l, nil
}

// Official returns the official name of a tensor of the checkpoint.
func (l Layout) Official(name string) string { return l.stored[name] }
