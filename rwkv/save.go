package rwkv

import (
	"path/filepath"
	"strings"

	"microrwkv/checkpoint"
)

// Tensors returns the model's weights by their names in a checkpoint, in the order of the names, a
// tied head under the embedding's name alone: what checkpoint.Write takes. They are the model's
// own and must not be changed.
func (m *Model) Tensors() []checkpoint.Named {
	list := make([]checkpoint.Named, len(m.tensors))
	for i, t := range m.tensors {
		list[i] = checkpoint.Named{Name: t.name, Tensor: t.Weight}
	}
	return list
}

// Save writes the model as a checkpoint that Open reads and the published programs do: for PyTorch
// if path ends in .pt, .pth or .bin, as .safetensors, and for llama.cpp as .gguf, which has RWKV-6 and 7. A
// file for PyTorch can't have quantized weights: checkpoint.As(F16) among the options widens them. In a .gguf
// As converts the matrices alone: what llama.cpp wants in float32 is. Epsilons that aren't the usual ones lie
// beside the weights, as model_args. The file appears whole or not at all.
func (m *Model) Save(path string, opts ...checkpoint.WriteOption) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	if strings.EqualFold(filepath.Ext(path), ".gguf") {
		return m.saveGGUF(path, opts)
	}
	return checkpoint.Write(path, m.unscaled(), m.besideWeights(), opts...)
}

// besideWeights returns what a checkpoint has beside the weights.
func (m *Model) besideWeights() map[string]any {
	if m.family.writeArgs == nil {
		return nil
	}
	return m.family.writeArgs(m.config)
}
