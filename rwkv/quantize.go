package rwkv

import (
	"fmt"
	"path/filepath"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// QuantizeRule says in words what Quantize does with which tensors.
const QuantizeRule = `matrices of the blocks with at least 32 rows take the format; rows that aren't whole blocks of 256 take Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K
embedding and head take at least 6 bits: Q6_K, or Q8_0 where rows aren't whole blocks of 256
everything else stays: vectors, low-rank matrices, positions, block 0's attention output`

// QuantizeOption sets how a model is quantized.
type QuantizeOption func(*quantizer)

// minCalibration is the fewest tokens that say enough of a layer's inputs.
const minCalibration = 512

// Calibrate compensates for rounding errors (GPTQ, arXiv:2210.17323) as far as the inputs that layers have
// for these ids allow: a few thousand tokens of text like what the model is for, at least 512.
func Calibrate(ids []int) QuantizeOption { return func(q *quantizer) { q.ids = ids } }

// QuantizeProgress calls f now and then with the numbers quantized, and of all.
func QuantizeProgress(f func(done, total int64)) QuantizeOption {
	return func(q *quantizer) { q.progress = f }
}

// PlannedTensor is what Quantize makes of a tensor.
type PlannedTensor struct {
	Name     string
	Shape    []int
	From, To tensor.DType // the same for one that stays
	Why      string       // it isn't of the format asked for, "" if it is
}

// PlanQuantize tells what Quantize would do. A format that can't be rounded to, and a model that is
// quantized already, is an error.
func PlanQuantize(m *Model, format tensor.DType) ([]PlannedTensor, error) {
	if !format.Quantizes() {
		return nil, fmt.Errorf("rwkv: quantize to %v: want one of %v", format, tensor.Quantized())
	}
	var plan []PlannedTensor
	for _, t := range m.tensors {
		if t.DType().Scales() != nil {
			return nil, fmt.Errorf("rwkv: tensor %q is %v: the model is quantized already", t.name, t.DType())
		}
		to, why := quantizedType(t.name, t.Shape(), t.DType(), format)
		plan = append(plan, PlannedTensor{t.name, t.Shape(), t.DType(), to, why})
	}
	return plan, nil
}

// quantizedType returns the type that a tensor takes, and why it isn't the format.
func quantizedType(name string, shape []int, from, format tensor.DType) (to tensor.DType, why string) {
	const fewest = 32
	switch {
	case len(squeeze(shape)) < 2:
		return from, "vectors"
	case name == "transformer.wpe.weight":
		return from, "positions"
	case name == "blocks.0.att.output.weight":
		return from, "block 0's attention output"
	case len(shape) != 2 || !strings.HasSuffix(name, ".weight"):
		return from, "low-rank matrices and mixes"
	case shape[0] < fewest:
		return from, fmt.Sprintf("fewer than %d rows", fewest)
	}
	var reasons []string
	if !isBlockMatrix(name) && format != tensor.Q8_0 && format != tensor.Q6_K {
		format, reasons = tensor.Q6_K, []string{"embedding and head"}
	}
	gap := func(d tensor.DType) string { // why rows aren't whole blocks
		if numbers, _ := d.Block(); shape[1]%numbers != 0 {
			return fmt.Sprintf("rows of %d aren't whole blocks of %d", shape[1], numbers)
		}
		return ""
	}
	if reason := gap(format); reason != "" {
		reasons = append(reasons, reason)
		switch format {
		case tensor.Q4_K:
			format = tensor.Q5_0
		case tensor.Q5_K:
			format = tensor.Q5_1
		default:
			format = tensor.Q8_0
		}
	}
	if reason := gap(format); reason != "" {
		return from, reason
	}
	return format, strings.Join(reasons, ", ")
}

// isBlockMatrix reports whether a matrix is one of the blocks', not the embedding or the head.
func isBlockMatrix(name string) bool {
	return name != "emb.weight" && name != "head.weight" && name != tiedEmbedding && name != tiedHead
}

// Quantize returns the model with its large matrices rounded to a format of blocks, one of tensor.Quantized,
// by QuantizeRule. It is a model of its own, in memory, with exact products (see Activations); m stays as it
// is. QuantizeTo needs less memory.
func Quantize(m *Model, format tensor.DType, opts ...QuantizeOption) (*Model, error) {
	q, err := newQuantizer(m, format, opts)
	if err != nil {
		return nil, err
	}
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	src := sourceOf(m)
	err = m.guard(func() error {
		for i, p := range q.plan {
			w, err := q.tensor(i)
			if err != nil {
				return err
			}
			if p.From == p.To {
				w = tensor.NewWeight(w.DType(), append([]byte(nil), w.Packed().Bytes()...), w.Shape()...)
			}
			src[p.Name] = w
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out, err := loadModel(m.path, src, m.family, m.config)
	if err != nil {
		return nil, err
	}
	out.path, out.ownTokenizer = m.path, m.ownTokenizer
	return out, nil
}

// QuantizeTo writes what Quantize returns to a file, as Save does, one tensor after the other: it takes the
// memory of the largest one, with Calibrate also up to 1 GB of what was learnt of the inputs and what
// computing on the calibration's tokens takes.
func QuantizeTo(path string, m *Model, format tensor.DType, opts ...QuantizeOption) error {
	q, err := newQuantizer(m, format, opts)
	if err != nil {
		return err
	}
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	number := map[string]int{}
	for i, p := range q.plan {
		number[p.Name] = i
	}
	gguf := strings.EqualFold(filepath.Ext(path), ".gguf")
	var list []fileTensor
	if gguf {
		if list, err = m.ggufTensors(path, 0); err != nil {
			return err
		}
	} else {
		for _, t := range m.tensors {
			list = append(list, made(t.name, t.name, t.Weight, t.DType()))
		}
	}
	for i, t := range list {
		at, ok := number[t.official]
		if ok {
			list[i] = q.planned(t, at, !gguf)
		}
	}
	err = m.guard(func() error {
		if gguf {
			return m.writeGGUF(path, list, nil)
		}
		return checkpoint.WriteDeferred(path, deferredOf(list), m.besideWeights())
	})
	if err == nil {
		q.progress(q.total, q.total) // what is joined in the file isn't counted
	}
	return err
}
