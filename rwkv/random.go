package rwkv

import (
	"fmt"
	"math"
	"math/rand/v2"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// tensorSpec is a tensor of a model and what its random values look like: normal with that mean
// and deviation.
type tensorSpec struct {
	name      string
	shape     []int
	mean, dev float64
}

// matrixSpec is a weight [out, in] that keeps the scale of what it multiplies.
func matrixSpec(name string, out, in int) tensorSpec {
	return tensorSpec{name, []int{out, in}, 0, 0.5 / math.Sqrt(float64(in))}
}

func vectorSpec(name string, mean, dev float64, shape ...int) tensorSpec {
	return tensorSpec{name, shape, mean, dev}
}

func linearSpecs(prefix string, bias bool, out, in int) []tensorSpec {
	s := []tensorSpec{matrixSpec(prefix+".weight", out, in)}
	if bias {
		s = append(s, vectorSpec(prefix+".bias", 0, 0.02, out))
	}
	return s
}

func normSpecs(prefix string, bias bool, n int) []tensorSpec {
	s := []tensorSpec{vectorSpec(prefix+".weight", 1, 0.1, n)}
	if bias {
		s = append(s, vectorSpec(prefix+".bias", 0, 0.1, n))
	}
	return s
}

// transformerSpecs lists what the kinds in nanoGPT's layout have outside of the blocks.
func transformerSpecs(c Config) []tensorSpec {
	s := []tensorSpec{
		vectorSpec("transformer.wte.weight", 0, 0.1, c.VocabSize, c.EmbedDim),
		vectorSpec("transformer.wpe.weight", 0, 0.1, c.BlockSize, c.EmbedDim),
	}
	return append(s, normSpecs("transformer.ln_f", c.Bias, c.EmbedDim)...)
}

// blockSpecs lists the TimeMix and ChannelMix of a block in nanoGPT's layout.
func blockSpecs(p string, c Config) []tensorSpec {
	d := c.EmbedDim
	var s []tensorSpec
	for _, maa := range []string{"tmix.time_maa_k", "tmix.time_maa_v", "tmix.time_maa_r", "tmix.time_maa_g", "cmix.time_maa_k", "cmix.time_maa_r"} {
		s = append(s, vectorSpec(p+maa, 0.5, 0.2, 1, 1, d))
	}
	s = append(s, vectorSpec(p+"tmix.time_decay", -2, 1, c.NumHeads, 1), vectorSpec(p+"tmix.time_faaaa", 0, 0.5, c.NumHeads, 1))
	for _, w := range []string{"receptance", "key", "value", "gate", "output"} {
		s = append(s, linearSpecs(p+"tmix."+w, c.Bias, d, d)...)
	}
	s = append(s, normSpecs(p+"tmix.ln_x", true, d)...)
	s = append(s, linearSpecs(p+"cmix.key", c.Bias, 3*d, d)...)
	s = append(s, linearSpecs(p+"cmix.value", c.Bias, d, 3*d)...)
	return append(s, linearSpecs(p+"cmix.receptance", c.Bias, d, d)...)
}

// Random returns a model with random weights in F32 or BF16, for benchmarks and tests: the numbers
// stay in a sane range, the text is noise. The same seed gives the same model.
func Random(c Config, dtype tensor.DType, seed uint64) (*Model, error) {
	if dtype != tensor.F32 && dtype != tensor.BF16 {
		return nil, fmt.Errorf("rwkv: random weights in %v", dtype)
	}
	f, err := familyOf(c.Kind)
	if err != nil {
		return nil, err
	}
	f.fill(&c)
	if err := c.validate(f); err != nil {
		return nil, fmt.Errorf("rwkv: %w", err)
	}
	src := &memory{tensors: map[string]*tensor.Tensor{}}
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, spec := range f.specs(c) {
		src.names = append(src.names, spec.name)
		src.tensors[spec.name] = spec.random(dtype, rng)
	}
	return newModel("random weights", src, f, c)
}

// Tensors returns the model's weights by their names in a checkpoint, in the order of the names, a
// tied head under the embedding's name alone: what checkpoint.WritePT takes. They are the model's
// own and must not be changed.
func (m *Model) Tensors() []checkpoint.Named {
	list := make([]checkpoint.Named, len(m.tensors))
	for i, t := range m.tensors {
		list[i] = checkpoint.Named{Name: t.name, Tensor: t.Tensor}
	}
	return list
}

// random makes the tensor. Sums of uniform numbers are normal enough and fast.
func (s tensorSpec) random(dtype tensor.DType, rng *rand.Rand) *tensor.Tensor {
	n := 1
	for _, d := range s.shape {
		n *= d
	}
	mean, dev := float32(s.mean), float32(s.dev*math.Sqrt(3)) // uniform in ±1 has variance 1/3
	value := func() float32 {
		u := rng.Uint64()
		a, b := float32(int32(u))*0x1p-31, float32(int32(u>>32))*0x1p-31
		return mean + dev*(a+b)*math.Sqrt2/2
	}
	if dtype == tensor.F32 {
		data := make([]float32, n)
		for i := range data {
			data[i] = value()
		}
		return tensor.FromSlice(data, s.shape...)
	}
	bits := make([]uint16, n)
	for i := range bits {
		bits[i] = uint16(math.Float32bits(value()) >> 16) // truncated: any bf16 will do
	}
	return tensor.FromBits(dtype, bits, s.shape...)
}

// memory is a source of tensors in memory.
type memory struct {
	names   []string
	tensors map[string]*tensor.Tensor
}

func (m *memory) Names() []string { return m.names }

func (m *memory) Shape(name string) ([]int, bool) {
	t, ok := m.tensors[name]
	if !ok {
		return nil, false
	}
	return t.Shape(), true
}

func (m *memory) Tensor(name string) (*tensor.Tensor, error) { return m.tensors[name], nil }
