package rwkv

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"microrwkv/checkpoint"
	"microrwkv/nn"
	"microrwkv/tensor"
)

// source is named tensors, such as a checkpoint's.
type source interface {
	Names() []string
	// Shape returns the shape of a tensor, and whether there is one of that name.
	Shape(name string) ([]int, bool)
	Tensor(name string) (*tensor.Weight, error)
}

// namer is a source whose tensors have other names where they are stored, which errors tell.
type namer interface{ StoredName(official string) string }

// storedName returns the name for errors.
func storedName(src source, official string) string {
	if n, ok := src.(namer); ok {
		return n.StoredName(official)
	}
	return official
}

// params is the description of a model's parameters, in one list that loads them, makes random ones,
// lists and saves them. A family's describe writes it while it puts the layers together.
type params struct {
	list   []*param
	src    source   // that the model is loaded from; nil if it is made anew
	derive []func() // make what layers derive from their parameters
}

// param is one parameter: a tensor of the official checkpoint, and where it lives in the layers.
type param struct {
	name, alias string            // alias is another name that a file may have for it, or ""
	shape       []int             // as official checkpoints have it; files may add or drop dimensions of 1
	mean, dev   float64           // of random values, which are normal
	matrix      []**tensor.Weight // the layers' fields that it is, as it is stored
	vector      **tensor.Tensor   // or the field that it is in float32, as one row
	change      *change           // what the field has of the numbers; nil is those themselves
	unused      bool              // files may have it, of any shape; no layer does

	stored *tensor.Weight // with the shape and in the format of the file; nil if it has none
}

// change is what a layer has in place of a parameter's numbers: f of each, and each as often as there are
// more of them in the layer, for one number of a head stands for all its channels.
type change struct {
	n     int                     // numbers that the layer has
	f     func(x float64) float64 // computed in float64; nil is x itself
	slope func(x float64) float64 // of f, or of what the layer's gradient is of; nil is 1
}

// apply computes the layer's numbers from the parameter's.
func (c *change) apply(dst, x []float32) {
	each := c.n / len(x)
	for i, v := range x {
		if c.f != nil {
			v = float32(c.f(float64(v)))
		}
		for j := range each {
			dst[i*each+j] = v
		}
	}
}

// backward adds to the gradient of the parameter x by that of the layer's numbers, d.
func (c *change) backward(grad, d, x []float32) {
	each := c.n / len(x)
	for i, v := range x {
		var sum float64
		for _, g := range d[i*each:][:each] {
			sum += float64(g)
		}
		if c.slope != nil && sum != 0 { // or the slope may be Inf
			sum *= c.slope(float64(v))
		}
		grad[i] += float32(sum)
	}
}

// matrix describes a weight [out, in], which stays in the precision that it is stored in and at
// random keeps the scale of what it multiplies.
func (p *params) matrix(to **tensor.Weight, name string, out, in int) *param {
	q := &param{name: name, shape: []int{out, in}, dev: 0.5 / math.Sqrt(float64(in)), matrix: []**tensor.Weight{to}}
	p.list = append(p.list, q)
	return q
}

// vector describes a parameter that the layer has in float32 as one row of numbers.
func (p *params) vector(to **tensor.Tensor, name string, mean, dev float64, shape ...int) *param {
	q := &param{name: name, shape: shape, mean: mean, dev: dev, vector: to}
	p.list = append(p.list, q)
	return q
}

// linear describes prefix.weight [out, in], and prefix.bias [out] if bias is set.
func (p *params) linear(l *nn.Linear, prefix string, bias bool, out, in int) {
	p.matrix(&l.Weight, prefix+".weight", out, in)
	if bias {
		p.vector(&l.Bias, prefix+".bias", 0, 0.02, out)
	}
}

// norm describes prefix.weight [n], and prefix.bias [n] if bias is set.
func (p *params) norm(gain, bias **tensor.Tensor, prefix string, hasBias bool, n int) {
	p.vector(gain, prefix+".weight", 1, 0.1, n)
	if hasBias {
		p.vector(bias, prefix+".bias", 0, 0.1, n)
	}
}

// layerNorm describes a LayerNorm.
func (p *params) layerNorm(l *nn.LayerNorm, prefix string, bias bool, n int) {
	l.Eps = 1e-5
	p.norm(&l.Gain, &l.Bias, prefix, bias, n)
}

// headNorm describes the GroupNorm over heads after a WKV.
func (p *params) headNorm(l *nn.GroupNorm, prefix string, heads, n int) {
	l.Groups, l.Eps = heads, 64e-5
	p.norm(&l.Gain, &l.Bias, prefix, true, n)
}

// noUse describes tensors that some files have and the model doesn't use.
func (p *params) noUse(names ...string) {
	for _, name := range names {
		p.list = append(p.list, &param{name: name, unused: true})
	}
}

// dim returns a dimension of a stored tensor that no Config tells, or instead if there is none.
func (p *params) dim(name string, axis, instead int) int {
	if p.src != nil {
		if shape, ok := p.src.Shape(name); ok && len(shape) == 2 {
			return shape[axis]
		}
	}
	return instead
}

// has reports whether the source, if there is one, has a tensor.
func (p *params) has(name string) bool {
	if p.src == nil {
		return false
	}
	_, ok := p.src.Shape(name)
	return ok
}

// load takes all parameters from the source. An error joins all that is wrong with them, tensors that
// have no place included; errors call the source file.
func (p *params) load(file string) error {
	err := p.check(file)
	if err == nil {
		p.finish()
	}
	return err
}

// check is load without what layers derive.
func (p *params) check(file string) error {
	l := loading{params: p, file: file, used: map[string]bool{}}
	for _, q := range p.list {
		l.take(q)
	}
	for _, name := range p.src.Names() {
		if !l.used[name] {
			l.fail(name, errors.New("the architecture has no place for it"))
		}
	}
	return errors.Join(l.errs...)
}

// finish derives what layers derive, once every parameter is set.
func (p *params) finish() { tensor.Parallel(len(p.derive), (*deriving)(p)) }

// deriving is a tensor.Task that derives what layers derive.
type deriving params

// Run implements tensor.Task.
func (p *deriving) Run(i int) { p.derive[i]() }

// set gives the layers a parameter that is stored as w.
func (q *param) set(w *tensor.Weight) {
	q.stored = w
	if q.vector != nil {
		x := w.Float32().Reshape(w.Len())
		if q.change != nil {
			y := tensor.New(q.change.n)
			q.change.apply(y.Data(), x.Data())
			x = y
		}
		*q.vector = x
	}
	for _, to := range q.matrix {
		*to = w
	}
}

// loading is the work of params.load.
type loading struct {
	*params
	file string
	used map[string]bool
	errs []error
}

// fail notes an error about a tensor.
func (l *loading) fail(name string, err error) {
	l.errs = append(l.errs, &checkpoint.Error{File: l.file, Tensor: storedName(l.src, name), Err: err})
}

// take sets one parameter. When a file has it under both names they must be equal.
func (l *loading) take(q *param) {
	_, named := l.src.Shape(q.name)
	other := false
	if q.alias != "" {
		_, other = l.src.Shape(q.alias)
	}
	var t, tied *tensor.Weight
	if other {
		tied = l.tensor(q.alias, q)
		t = tied
	}
	if named || !other && !q.unused {
		t = l.tensor(q.name, q)
	}
	if t != nil && tied != nil && !equal(t, tied) {
		l.fail(q.alias, errors.New("differs from "+q.name+", which it must be tied to"))
	}
	if t != nil {
		q.set(t)
	}
}

// tensor returns a tensor that must be there with the parameter's shape, or nil.
func (l *loading) tensor(name string, q *param) *tensor.Weight {
	l.used[name] = true
	got, ok := l.src.Shape(name)
	if !ok {
		l.fail(name, checkpoint.ErrNotFound)
		return nil
	}
	if !q.unused && !slices.Equal(squeeze(got), squeeze(q.shape)) {
		l.fail(name, fmt.Errorf("shape %v, want %v", got, q.shape))
		return nil
	}
	t, err := l.src.Tensor(name)
	if err != nil {
		l.errs = append(l.errs, err)
		return nil
	}
	if q.matrix != nil {
		if block, _ := t.DType().Block(); q.shape[len(q.shape)-1]%block != 0 {
			t = t.Float32().Weight() // by dimensions of 1 its rows are others
		}
		t = t.Reshape(q.shape...)
	}
	return t
}

// squeeze drops dimensions of size 1.
func squeeze(shape []int) []int {
	var s []int
	for _, d := range shape {
		if d != 1 {
			s = append(s, d)
		}
	}
	return s
}

// equal reports whether two weights of one shape have the same numbers.
func equal(a, b *tensor.Weight) bool {
	if a.DType() != b.DType() {
		return slices.Equal(a.Float32().Data(), b.Float32().Data())
	}
	x, y := a.Bytes(), b.Bytes()
	return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0] || bytes.Equal(x, y))
}
