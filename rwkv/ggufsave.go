package rwkv

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// fileTensor is a tensor as a file has it.
type fileTensor struct {
	checkpoint.Deferred
	official string // the tensor that it is, "" if it is made of others
}

// made returns a tensor to write that is there already.
func made(name, official string, w *tensor.Weight, dtype tensor.DType) fileTensor {
	return fileTensor{checkpoint.Deferred{Name: name, DType: dtype, Shape: w.Shape(), Make: func() (*tensor.Weight, error) { return w, nil }}, official}
}

// deferredOf returns the tensors to write.
func deferredOf(list []fileTensor) []checkpoint.Deferred {
	deferred := make([]checkpoint.Deferred, len(list))
	for i, t := range list {
		deferred[i] = t.Deferred
	}
	return deferred
}

// saveGGUF writes the model as llama.cpp's own converter does. As converts the matrices that llama.cpp takes
// in other types than float32.
func (m *Model) saveGGUF(path string, opts []checkpoint.WriteOption) error {
	as := checkpoint.Converted(opts...)
	if as.Quantizes() {
		return fmt.Errorf("%s: conversion to %v, which quantizes: see rwkv.Quantize", path, as)
	}
	list, err := m.ggufTensors(path, as)
	if err != nil {
		return err
	}
	return m.writeGGUF(path, list, opts)
}

// writeGGUF writes tensors in the form that GGUF files have.
func (m *Model) writeGGUF(path string, list []fileTensor, opts []checkpoint.WriteOption) error {
	return checkpoint.WriteDeferred(path, deferredOf(list), m.ggufValues(path, list), append(slices.Clone(opts), checkpoint.As(0))...)
}

// ggufFamily returns the architecture that the model is in GGUF files. The error says why there is none.
func (m *Model) ggufFamily(path string) (*ggufModel, error) {
	c := m.config
	g := ggufModels[string(c.Kind)]
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
	default:
		return g, nil
	}
	return nil, fmt.Errorf("%s: a model of kind %s: %s", path, c.Kind, why)
}

// ggufTensors returns the tensors by the names and in the form that GGUF files have, the matrices in a type
// if it isn't 0.
func (m *Model) ggufTensors(path string, as tensor.DType) ([]fileTensor, error) {
	g, err := m.ggufFamily(path)
	if err != nil {
		return nil, err
	}
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
	for _, end := range []string{"0", "1", "2"} { // which the first block has no use for: llama.cpp wants them as large as a's
		a, v := official["blocks.0.att.a"+end], "blocks.0.att.v"+end
		if g.kind != RWKV7 || a == nil {
			continue
		}
		if official[v] == nil {
			names = append(names, v)
		}
		official[v] = a
	}
	slices.Sort(names)
	var list []fileTensor
	for _, name := range names {
		w := official[name]
		block, end := cutBlock(name)
		i := slices.Index(g.fused, end)
		switch {
		case i > 0: // with the first of them
		case i == 0:
			list = append(list, g.lerps(official, block))
		default:
			form := ggufFormOf(w, name, turned, slices.Contains(g.float, end))
			t := made(g.stored(name), name, w, w.DType())
			t.Shape, t.Make = form.shape(w), func() (*tensor.Weight, error) { return form.of(w), nil }
			if form.fixed {
				t.DType = tensor.F32
			} else if as != 0 {
				t.DType = as
			}
			list = append(list, t)
		}
	}
	return list, nil
}

// lerps returns the tensor that a block's mixes are the rows of.
func (g *ggufModel) lerps(official map[string]*tensor.Weight, block string) fileTensor {
	n, width := len(g.fused), official[block+g.fused[0]].Len()
	return fileTensor{checkpoint.Deferred{Name: g.stored(block + g.fused[0]), DType: tensor.F32, Shape: []int{n, 1, 1, width}, Make: func() (*tensor.Weight, error) {
		var all []float32
		for _, end := range g.fused {
			all = append(all, official[block+end].Float32().Data()...)
		}
		return tensor.FromSlice(all, n, 1, 1, width).Weight(), nil
	}}, ""}
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

// ggufForm is how files have a tensor.
type ggufForm struct {
	turned bool // its last two axes exchanged
	flat   bool // as one row
	fixed  bool // in float32, whatever others are in
}

// ggufFormOf returns the form of a tensor: narrow matrices are turned, vectors are rows of float32.
func ggufFormOf(w *tensor.Weight, name string, turned []string, float bool) ggufForm {
	if slices.ContainsFunc(turned, func(end string) bool { return strings.HasSuffix(name, end) }) {
		return ggufForm{turned: true, fixed: float}
	}
	if strings.HasSuffix(name, ".time_faaaa") {
		return ggufForm{fixed: true}
	}
	vector := len(squeeze(w.Shape())) <= 1 || strings.HasSuffix(name, ".r_k")
	return ggufForm{flat: vector, fixed: vector}
}

// shape returns the shape of the form.
func (f ggufForm) shape(w *tensor.Weight) []int {
	if f.flat {
		return []int{w.Len()}
	}
	shape := slices.Clone(w.Shape())
	if n := len(shape); f.turned {
		shape[n-1], shape[n-2] = shape[n-2], shape[n-1]
	}
	return shape
}

// of returns the tensor in the form.
func (f ggufForm) of(w *tensor.Weight) *tensor.Weight {
	if f.turned {
		w = storedTensor{row: -1, turned: true}.of(w)
	}
	if f.fixed {
		w = w.Convert(tensor.F32)
	}
	if f.flat {
		w = w.Reshape(w.Len())
	}
	return w
}

// fileTypes are what general.file_type calls a model by the type of most of its weights.
var fileTypes = map[tensor.DType]int{
	tensor.F32: 0, tensor.F16: 1, tensor.Q4_0: 2, tensor.Q4_1: 3, tensor.Q8_0: 7, tensor.Q5_0: 8, tensor.Q5_1: 9, tensor.Q2_K: 10, tensor.Q3_K: 12,
	tensor.Q4_K: 14, tensor.Q5_K: 16, tensor.Q6_K: 18, tensor.IQ4_NL: 25, tensor.IQ4_XS: 30, tensor.BF16: 32,
}

// ggufValues returns the metadata of a file with these tensors.
func (m *Model) ggufValues(path string, list []fileTensor) map[string]any {
	c := m.config
	architecture := string(c.Kind)
	eps := c.NormEps
	if eps == 0 {
		eps = 1e-5
	}
	numbers := map[tensor.DType]int{}
	most := tensor.F32
	rank := map[string]int{}
	for _, t := range list {
		n := 1
		for _, d := range t.Shape {
			n *= d
		}
		if numbers[t.DType] += n; numbers[t.DType] > numbers[most] {
			most = t.DType
		}
	}
	for _, t := range m.tensors {
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
