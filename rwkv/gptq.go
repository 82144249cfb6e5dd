package rwkv

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"microrwkv/tensor"
)

// quantizer rounds a model's tensors one by one.
type quantizer struct {
	m        *Model
	plan     []PlannedTensor
	ids      []int
	progress func(done, total int64)
	done     int64
	total    int64
	grams    map[int]*tensor.Tensor // of tensors whose turn comes soon
}

// newQuantizer checks what is asked for.
func newQuantizer(m *Model, format tensor.DType, opts []QuantizeOption) (*quantizer, error) {
	q := &quantizer{m: m, progress: func(done, total int64) {}, grams: map[int]*tensor.Tensor{}}
	for _, set := range opts {
		set(q)
	}
	var err error
	if q.plan, err = PlanQuantize(m, format); err != nil {
		return nil, err
	}
	if q.ids != nil && len(q.ids) < minCalibration {
		return nil, fmt.Errorf("rwkv: a calibration of %d tokens: want at least %d", len(q.ids), minCalibration)
	}
	if err := m.CheckIDs(q.ids); err != nil {
		return nil, err
	}
	for _, t := range m.tensors {
		q.total += int64(t.Len())
	}
	return q, nil
}

// tensor returns the i-th of the plan as it is to be. What stays is the model's own.
func (q *quantizer) tensor(i int) (*tensor.Weight, error) {
	w, p := q.m.tensors[i].Weight, q.plan[i]
	if p.From != p.To {
		factors, err := q.factors(i)
		if err != nil {
			return nil, fmt.Errorf("rwkv: tensor %q: %w", p.Name, err)
		}
		if factors == nil {
			w = w.Convert(p.To)
		} else {
			w = w.Compensated(p.To, factors)
		}
	}
	q.done += int64(w.Len())
	q.progress(q.done, q.total)
	return w, nil
}

// planned returns a tensor of a file as it is to be, the at-th of the plan; unscaled says that the file knows
// no RescaleEvery.
func (q *quantizer) planned(t fileTensor, at int, unscaled bool) fileTensor {
	p, stays, by := q.plan[at], t.Make, float32(1)
	if unscaled {
		by = q.m.storedScale(p.Name)
	}
	if p.From != p.To {
		t.DType = p.To
	}
	t.Make = func() (*tensor.Weight, error) {
		w, err := q.tensor(at)
		if err == nil && p.From == p.To {
			w, err = stays() // in the file's form
		}
		if err == nil && by != 1 {
			w = scaled(w, by)
		}
		return w, err
	}
	return t
}

// compensates reports whether a tensor's rounding errors are made up for.
func (q *quantizer) compensates(i int) bool {
	p := q.plan[i]
	return q.ids != nil && p.From != p.To && isBlockMatrix(p.Name)
}

// factors returns the factors for Compensated, nil for a tensor that is rounded as it is: it isn't one of the
// blocks', or nothing was multiplied with it. The sums behind them are made for as many tensors together as
// there is room for, those that come next.
func (q *quantizer) factors(i int) (*tensor.Tensor, error) {
	if !q.compensates(i) {
		return nil, nil
	}
	if q.grams[i] == nil {
		var list []int
		for j, room := i, 0; j < len(q.plan); j++ {
			if !q.compensates(j) {
				continue
			}
			if room += square(q.plan[j]); len(list) > 0 && room > maxGram {
				break
			}
			list = append(list, j)
		}
		grams, err := q.m.grams(list, q.ids)
		if err != nil {
			return nil, err
		}
		clear(q.grams)
		for k, j := range list {
			q.grams[j] = grams[k]
		}
	}
	gram := q.grams[i]
	delete(q.grams, i)
	return factorsOf(gram)
}

// maxGram is how many numbers the sums of products of inputs may have at a time: 1 GB.
const maxGram = 1 << 28

func square(p PlannedTensor) int { return p.Shape[1] * p.Shape[1] }

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
