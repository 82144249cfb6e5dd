package rwkv

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// saveGGUF writes the model as llama.cpp's own converter does.
func (m *Model) saveGGUF(path string, opts []checkpoint.WriteOption) error {
	c := m.config
	architecture := string(c.Kind)
	g := ggufModels[architecture]
	var why string
	switch {
	case g == nil:
		why = "GGUF has RWKV-6 and 7 alone"
	case c.DeepEmbed > 0:
		why = "GGUF has no DeepEmbed"
	case c.InitialState:
		why = "GGUF has no initial state"
	case c.AttDim != 0 && c.AttDim != c.EmbedDim:
		why = "GGUF has time mixes of the model's width alone"
	case c.HeadNormEps != 0:
		why = "GGUF has no epsilon of the norm after the WKV"
	}
	if why != "" {
		return fmt.Errorf("%s: a model of kind %s: %s", path, c.Kind, why)
	}
	return checkpoint.WriteGGUF(path, m.ggufTensors(g), m.ggufValues(architecture, path), opts...)
}

// ggufTensors returns the tensors by the names and in the form that GGUF files have.
func (m *Model) ggufTensors(g *ggufModel) []checkpoint.Named {
	turned := narrow7
	if g.kind == RWKV6 {
		turned = narrow6
	}
	official := map[string]*tensor.Weight{}
	var names []string
	for _, t := range m.tensors {
		official[t.name] = t.Weight
		names = append(names, t.name)
	}
	for _, end := range []string{"0", "1", "2"} { // which the first block has no use for: llama.cpp wants copies
		if a := official["blocks.0.att.a"+end]; g.kind == RWKV7 && a != nil && official["blocks.0.att.v"+end] == nil {
			official["blocks.0.att.v"+end] = a
			names = append(names, "blocks.0.att.v"+end)
		}
	}
	slices.Sort(names)
	var list []checkpoint.Named
	for _, name := range names {
		w := official[name]
		block, end := cutBlock(name)
		if i := slices.Index(g.fused, end); i > 0 {
			continue // with the first of them
		} else if i == 0 {
			var all []float32
			for _, end := range g.fused {
				all = append(all, official[block+end].Float32().Data()...)
			}
			n := len(g.fused)
			w = tensor.FromSlice(all, n, 1, 1, len(all)/n).Weight()
		} else {
			w = ggufForm(w, name, turned, slices.Contains(g.float, end))
		}
		list = append(list, checkpoint.Named{Name: g.stored(name), Tensor: w})
	}
	return list
}

// cutBlock cuts a name after the number of its block; names around the blocks are all end.
func cutBlock(name string) (block, end string) {
	rest, ok := strings.CutPrefix(name, "blocks.")
	i := strings.IndexByte(rest, '.')
	if !ok || i < 0 {
		return "", name
	}
	return name[:len("blocks.")+i+1], rest[i+1:]
}

// ggufForm returns a tensor as files have it: narrow matrices turned, vectors in float32 and one dimension.
func ggufForm(w *tensor.Weight, name string, turned []string, float bool) *tensor.Weight {
	if slices.ContainsFunc(turned, func(end string) bool { return strings.HasSuffix(name, end) }) {
		w = storedTensor{row: -1, turned: true}.of(w)
		if float {
			w = w.Convert(tensor.F32)
		}
		return w
	}
	if strings.HasSuffix(name, ".time_faaaa") {
		return w.Convert(tensor.F32)
	}
	if n := len(squeeze(w.Shape())); n > 1 && !strings.HasSuffix(name, ".r_k") {
		return w
	}
	return w.Convert(tensor.F32).Reshape(w.Len())
}

// fileTypes are what general.file_type calls a model by the type of most of its weights.
var fileTypes = map[tensor.DType]int{
	tensor.F32: 0, tensor.F16: 1, tensor.Q4_0: 2, tensor.Q4_1: 3, tensor.Q8_0: 7, tensor.Q5_0: 8, tensor.Q5_1: 9, tensor.Q2_K: 10, tensor.Q3_K: 12,
	tensor.Q4_K: 14, tensor.Q5_K: 16, tensor.Q6_K: 18, tensor.IQ4_NL: 25, tensor.IQ4_XS: 30, tensor.BF16: 32,
}

// ggufValues returns the metadata.
func (m *Model) ggufValues(architecture, path string) map[string]any {
	c := m.config
	eps := c.NormEps
	if eps == 0 {
		eps = 1e-5
	}
	numbers := map[tensor.DType]int{}
	most := tensor.F32
	rank := map[string]int{}
	for _, t := range m.tensors {
		if numbers[t.DType()] += t.Len(); numbers[t.DType()] > numbers[most] {
			most = t.DType()
		}
		if _, end := cutBlock(t.name); len(t.Shape()) == 2 {
			rank[end] = t.Dim(1)
		}
	}
	v := map[string]any{
		"general.architecture": architecture, "general.type": "model",
		"general.name":      strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
		"general.file_type": fileTypes[most], "general.quantization_version": 2,
	}
	set := func(name string, x any) { v[architecture+"."+name] = x }
	set("context_length", 1<<20)
	set("embedding_length", c.EmbedDim)
	set("block_count", c.NumLayers)
	set("feed_forward_length", c.FFNDim)
	set("vocab_size", c.VocabSize)
	set("attention.head_count", 0)
	set("attention.layer_norm_epsilon", float64(float32(eps)))
	set("wkv.head_size", c.EmbedDim/c.NumHeads)
	if c.Kind == RWKV6 {
		set("rescale_every_n_layers", c.RescaleEvery)
		set("time_mix_extra_dim", rank["att.time_maa_w1"]/5)
		set("time_decay_extra_dim", rank["att.time_decay_w1"])
	} else {
		set("attention.decay_lora_rank", rank["att.w1"])
		set("attention.iclr_lora_rank", rank["att.a1"])
		set("attention.value_residual_mix_lora_rank", max(rank["att.v1"], 0))
		set("attention.gate_lora_rank", rank["att.g1"])
	}
	m.ggufVocabulary(v)
	return v
}

// ggufVocabulary adds the tokenizer to the metadata: the file's own, or World, if the program has it and
// the number of ids fits. Others are left out.
func (m *Model) ggufVocabulary(v map[string]any) {
	const prefix = "tokenizer.ggml."
	v[prefix+"model"] = "none"
	var tok tokenizer.Tokenizer
	var err error
	if m.ownTokenizer != nil {
		tok, err = m.ownTokenizer()
	} else if e, absent := m.Vocabulary(); absent == nil && e.Name == "world" {
		tok, err = e.Open()
	}
	if err != nil || tok == nil || tok.VocabSize() == 0 {
		return
	}
	const normal, control, unused = 1, 3, 5
	tokens, types := make([]any, m.config.VocabSize), make([]any, m.config.VocabSize)
	for id := range tokens {
		text := tok.Decode([]int{id})
		switch {
		case id == 0:
			tokens[id], types[id] = "<s>", control
		case text == "":
			tokens[id], types[id] = fmt.Sprintf("[PAD%d]", id), unused
		default:
			tokens[id], types[id] = escape(text), normal
		}
		if text == "\n\n" {
			v[prefix+"eot_token_id"] = id
		}
	}
	v[prefix+"model"], v[prefix+"tokens"], v[prefix+"token_type"] = "rwkv", tokens, types
	v[prefix+"bos_token_id"], v[prefix+"eos_token_id"] = 0, 0
	v["tokenizer.chat_template"] = "rwkv-world"
}

// escape returns what unescape turns into s.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\\' || c == '\'':
			b.WriteString(`\` + string(rune(c)))
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unscaled returns the model's tensors for files that know no RescaleEvery: what is stored divided by powers of 2 is
// multiplied by them, exactly.
func (m *Model) unscaled() []checkpoint.Named {
	list := m.Tensors()
	every := m.config.RescaleEvery
	if every == 0 {
		return list
	}
	for i, n := range list {
		block, end := cutBlock(n.Name)
		if end != "att.output.weight" && end != "ffn.value.weight" {
			continue
		}
		var number int
		fmt.Sscanf(block, "blocks.%d.", &number)
		list[i].Tensor = scaled(n.Tensor, float32(math.Ldexp(1, number/every)))
	}
	return list
}

// scaled returns w multiplied by a power of 2.
func scaled(w *tensor.Weight, by float32) *tensor.Weight {
	scales := w.DType().Scales()
	if scales == nil {
		x := w.Convert(tensor.F32).Packed().Float32()
		y := tensor.New(x.Shape()...)
		tensor.Scale(y, x, by)
		return y.Weight().Convert(w.DType())
	}
	data := slices.Clone(w.Bytes())
	_, size := w.DType().Block()
	for b := data; len(b) > 0; b = b[size:] {
		for _, at := range scales {
			x := tensor.FromBits(tensor.F16, []uint16{binary.LittleEndian.Uint16(b[at:])}, 1).Float32().Data()[0]
			binary.LittleEndian.PutUint16(b[at:], tensor.RoundF16(x*by))
		}
	}
	return tensor.NewWeight(w.DType(), data, w.Shape()...)
}
