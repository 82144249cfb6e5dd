package rwkv

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/mat"

	"microrwkv/tensor"
)

// QuantizeRule says in words what Quantize does with which tensors.
const QuantizeRule = `matrices of the blocks with at least 32 rows take the format; rows that aren't whole blocks of 256 take Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K
embedding and head take at least 6 bits: Q6_K, or Q8_0 where rows aren't whole blocks of 256
everything else stays: vectors, low-rank matrices, positions, block 0's attention output`

// QuantizeOption sets how a model is quantized.
type QuantizeOption func(*quantizing)

type quantizing struct {
	format   tensor.DType
	ids      []int
	progress func(done, total int64)
}

// minCalibration is the fewest tokens that say enough of a layer's inputs.
const minCalibration = 512

// Calibrate compensates for rounding errors (GPTQ, arXiv:2210.17323) as far as the inputs that layers have
// for these ids allow: a few thousand tokens of text like what the model is for, at least 512.
func Calibrate(ids []int) QuantizeOption { return func(q *quantizing) { q.ids = ids } }

// QuantizeProgress calls f now and then with the numbers quantized, and of all.
func QuantizeProgress(f func(done, total int64)) QuantizeOption {
	return func(q *quantizing) { q.progress = f }
}

// PlannedTensor is what Quantize makes of a tensor.
type PlannedTensor struct {
	Name     string
	Shape    []int
	From, To tensor.DType // the same for one that stays
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
		plan = append(plan, PlannedTensor{t.name, t.Shape(), t.DType(), quantizedType(t, format)})
	}
	return plan, nil
}

// quantizedType returns the type that a tensor takes.
func quantizedType(t namedTensor, format tensor.DType) tensor.DType {
	const fewest = 32
	shape := t.Shape()
	if len(shape) != 2 || !strings.HasSuffix(t.name, ".weight") || t.name == "transformer.wpe.weight" ||
		t.name == "blocks.0.att.output.weight" || shape[0] < fewest {
		return t.DType()
	}
	if !isBlockMatrix(t.name) && format != tensor.Q8_0 {
		format = tensor.Q6_K
	}
	fits := func(d tensor.DType) bool {
		numbers, _ := d.Block()
		return shape[1]%numbers == 0
	}
	if !fits(format) {
		switch format {
		case tensor.Q4_K:
			format = tensor.Q5_0
		case tensor.Q5_K:
			format = tensor.Q5_1
		default:
			format = tensor.Q8_0
		}
	}
	if !fits(format) {
		return t.DType()
	}
	return format
}

// Quantize returns the model with its large matrices rounded to a format of blocks, one of tensor.Quantized,
// by QuantizeRule. It is a model of its own, in memory, with exact products (see Activations); m stays as it
// is.
func Quantize(m *Model, format tensor.DType, opts ...QuantizeOption) (*Model, error) {
	q := &quantizing{format: format, progress: func(done, total int64) {}}
	for _, set := range opts {
		set(q)
	}
	plan, err := PlanQuantize(m, format)
	if err != nil {
		return nil, err
	}
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	if q.ids != nil && len(q.ids) < minCalibration {
		return nil, fmt.Errorf("rwkv: a calibration of %d tokens: want at least %d", len(q.ids), minCalibration)
	}
	if err := m.CheckIDs(q.ids); err != nil {
		return nil, err
	}
	src := sourceOf(m)
	var done, total int64
	for i := range plan {
		total += int64(m.tensors[i].Len())
	}
	finish := func(i int, w *tensor.Weight) {
		src[plan[i].Name] = w
		done += int64(m.tensors[i].Len())
		q.progress(done, total)
	}
	var calibrated []int
	for i, p := range plan {
		w := m.tensors[i].Weight
		switch {
		case p.From == p.To:
			finish(i, tensor.NewWeight(w.DType(), append([]byte(nil), w.Packed().Bytes()...), w.Shape()...))
		case q.ids != nil && isBlockMatrix(p.Name):
			calibrated = append(calibrated, i)
		default:
			finish(i, w.Convert(p.To))
		}
	}
	for len(calibrated) > 0 {
		n, room := 0, 0
		for n < len(calibrated) && (n == 0 || room+square(plan[calibrated[n]]) <= maxGram) {
			room += square(plan[calibrated[n]])
			n++
		}
		grams, err := m.grams(calibrated[:n], q.ids)
		if err != nil {
			return nil, err
		}
		for j, i := range calibrated[:n] {
			w := m.tensors[i].Weight
			factors, err := factorsOf(grams[j])
			if err != nil {
				return nil, fmt.Errorf("rwkv: tensor %q: %w", plan[i].Name, err)
			}
			if factors == nil { // nothing was multiplied with it
				finish(i, w.Convert(plan[i].To))
				continue
			}
			finish(i, w.Compensated(plan[i].To, factors))
		}
		calibrated = calibrated[n:]
	}
	out, err := loadModel(m.path, src, m.family, m.config)
	if err != nil {
		return nil, err
	}
	out.path, out.ownTokenizer = m.path, m.ownTokenizer
	return out, nil
}

// maxGram is how many numbers the sums of products of inputs may have at a time: 1 GB.
const maxGram = 1 << 28

func square(p PlannedTensor) int { return p.Shape[1] * p.Shape[1] }

// isBlockMatrix reports whether a matrix is one of the blocks', not the embedding or the head.
func isBlockMatrix(name string) bool {
	return name != "emb.weight" && name != "head.weight" && name != tiedEmbedding && name != tiedHead
}

// sourceOf returns a model's tensors, to be replaced.
func sourceOf(m *Model) modelSource {
	src := modelSource{}
	for _, t := range m.tensors {
		src[t.name] = t.Weight
	}
	return src
}

// calibrationPass is how many tokens are computed at a time.
const calibrationPass = 256

// grams returns Σ xxᵀ [K, K] of the inputs x that each of some tensors has for ids.
func (m *Model) grams(tensors []int, ids []int) ([]*tensor.Tensor, error) {
	src := sourceOf(m)
	grams := make([]*tensor.Tensor, len(tensors))
	for j, i := range tensors {
		w := m.tensors[i]
		grams[j] = tensor.New(w.Dim(1), w.Dim(1))
		sum := grams[j].Weight()
		src[w.name] = w.Observed(func(x *tensor.Tensor) { tensor.GradWeight(sum, x, x) })
	}
	watched, err := loadModel(m.path, src, m.family, m.config)
	if err != nil {
		return nil, err
	}
	pass := calibrationPass
	if n := m.config.BlockSize; n > 0 {
		pass = min(pass, n)
	}
	for len(ids) > 0 {
		n := min(pass, len(ids))
		if _, err := watched.Score(ids[:n], nil); err != nil {
			return nil, err
		}
		ids = ids[n:]
	}
	return grams, nil
}

// damping is the part of the mean diagonal that is added to it, so that the inverse exists.
const damping = 0.01

// factorsOf returns U [K, K] with UᵀU the inverse of a sum of products, damped; nil if the sum is zero.
func factorsOf(gram *tensor.Tensor) (*tensor.Tensor, error) {
	k := gram.Dim(0)
	mean := 0.0
	for i := range k {
		mean += float64(gram.Row(i)[i]) / float64(k)
	}
	if mean == 0 {
		return nil, nil
	}
	if math.IsNaN(mean) || math.IsInf(mean, 0) {
		return nil, errors.New("its inputs aren't finite")
	}
	h := mat.NewSymDense(k, nil)
	for i := range k {
		for j := i; j < k; j++ {
			h.SetSym(i, j, float64(gram.Row(i)[j]))
		}
		h.SetSym(i, i, h.At(i, i)+damping*mean)
	}
	var c, d mat.Cholesky
	inverse := mat.NewSymDense(k, nil)
	if !c.Factorize(h) {
		return nil, errors.New("the products of its inputs have no Cholesky factors")
	}
	if err := c.InverseTo(inverse); err != nil {
		return nil, err
	}
	if !d.Factorize(inverse) {
		return nil, errors.New("the inverse products of its inputs have no Cholesky factors")
	}
	u := tensor.New(k, k)
	upper := mat.NewTriDense(k, mat.Upper, nil)
	d.UTo(upper)
	for i := range k {
		row := u.Row(i)
		for j := i; j < k; j++ {
			row[j] = float32(upper.At(i, j))
		}
	}
	return u, nil
}
