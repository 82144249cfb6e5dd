package rwkv

import (
	"fmt"
	"math"
	"math/rand/v2"

	"microrwkv/tensor"
)

// Random returns a model with random weights in F32 or BF16, or in a format of blocks as Quantize would give
// them to one in BF16, for benchmarks and tests: the numbers stay in a sane range, the text is noise. The same
// seed gives the same model. Blocks repeat after a few, since rounding takes long. Of the options those count
// that say how products are computed.
func Random(c Config, dtype tensor.DType, seed uint64, opts ...OpenOption) (*Model, error) {
	blocks := dtype
	if dtype.Quantizes() {
		dtype = tensor.BF16
	}
	if dtype != tensor.F32 && dtype != tensor.BF16 {
		return nil, fmt.Errorf("rwkv: random weights in %v", dtype)
	}
	f, err := familyOf(c.Kind)
	if err != nil {
		return nil, err
	}
	c = f.fill(c)
	if err := c.validate(f); err != nil {
		return nil, fmt.Errorf("rwkv: %w", err)
	}
	o := newOpenOptions(opts)
	if err := o.setPrecision(); err != nil {
		return nil, err
	}
	p := &params{}
	net := f.describe(c, p)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, q := range p.list {
		if q.unused {
			continue
		}
		to := dtype
		if blocks != dtype {
			to, _ = quantizedType(q.name, q.shape, dtype, blocks)
		}
		w := q.random
		if to != dtype {
			w = q.repeated
		}
		q.set(w(to, q.shape, rng).WithActivations(o.activations(to)))
	}
	p.finish()
	m := newModel(f, c, net, p)
	m.precision = o.precision
	return m, nil
}

// repeated makes blocks for the parameter, of which only so many are different that rows are.
func (q *param) repeated(dtype tensor.DType, shape []int, rng *rand.Rand) *tensor.Weight {
	numbers, _ := dtype.Block()
	part := q.random(tensor.F32, []int{61, numbers}, rng).Convert(dtype).Bytes()
	data := make([]byte, shape[0]*dtype.Bytes(shape[1]))
	for i := 0; i < len(data); {
		i += copy(data[i:], part)
	}
	return tensor.NewWeight(dtype, data, shape...)
}

// random makes values of a shape for the parameter. Sums of uniform numbers are normal enough and fast.
func (q *param) random(dtype tensor.DType, shape []int, rng *rand.Rand) *tensor.Weight {
	n := 1
	for _, d := range shape {
		n *= d
	}
	mean, dev := float32(q.mean), float32(q.dev*math.Sqrt(3)) // uniform in ±1 has variance 1/3
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
		return tensor.FromSlice(data, shape...).Weight()
	}
	bits := make([]uint16, n)
	for i := range bits {
		bits[i] = uint16(math.Float32bits(value()) >> 16) // truncated: any bf16 will do
	}
	return tensor.FromBits(dtype, bits, shape...)
}
