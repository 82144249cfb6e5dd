package rwkv

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"microrwkv/checkpoint"
	"microrwkv/nn"
	"microrwkv/tensor"
)

// source is named tensors: a checkpoint, or weights in memory.
type source interface {
	Names() []string
	// Shape returns the shape of a tensor, and whether there is one of that name.
	Shape(name string) ([]int, bool)
	Tensor(name string) (*tensor.Tensor, error)
}

// loader takes a model's tensors from a source, checks their shapes, and collects what is wrong.
type loader struct {
	file string // for errors
	src  source
	used map[string]bool
	errs []error
}

func newLoader(file string, src source) *loader {
	return &loader{file: file, src: src, used: map[string]bool{}}
}

// fail notes an error about a tensor.
func (l *loader) fail(name string, err error) {
	l.errs = append(l.errs, &checkpoint.Error{File: l.file, Tensor: name, Err: err})
}

// tensor returns a tensor that must be there with that shape; dimensions of size 1 don't count.
// On an error it returns nil: the model must not be used then.
func (l *loader) tensor(name string, shape ...int) *tensor.Tensor {
	l.used[name] = true
	got, ok := l.src.Shape(name)
	if !ok {
		l.fail(name, checkpoint.ErrNotFound)
		return nil
	}
	if !slices.Equal(squeeze(got), squeeze(shape)) {
		l.fail(name, fmt.Errorf("shape %v, want %v", got, shape))
		return nil
	}
	t, err := l.src.Tensor(name)
	if err != nil {
		l.errs = append(l.errs, err)
		return nil
	}
	return t.Reshape(shape...)
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

// vector returns a tensor of n numbers, of any shape with that many, in float32.
func (l *loader) vector(name string, n int) *tensor.Tensor {
	t := l.tensor(name, n)
	if t == nil {
		return nil
	}
	return t.Float32()
}

// numbers returns the n numbers of a vector, mapped by f in float64.
func (l *loader) numbers(name string, n int, f func(float64) float64) []float32 {
	t := l.vector(name, n)
	if t == nil {
		return nil
	}
	v := make([]float32, n)
	for i, x := range t.Data() {
		v[i] = float32(f(float64(x)))
	}
	return v
}

// optional returns the vector if bias is set, else nil.
func (l *loader) optional(bias bool, name string, n int) *tensor.Tensor {
	if !bias {
		return nil
	}
	return l.vector(name, n)
}

// linear returns the layer prefix.weight [out, in] with prefix.bias [out] if bias is set.
func (l *loader) linear(prefix string, bias bool, out, in int) nn.Linear {
	return nn.Linear{Weight: l.tensor(prefix+".weight", out, in), Bias: l.optional(bias, prefix+".bias", out)}
}

// layerNorm returns the layer prefix.weight [n] with prefix.bias [n] if bias is set.
func (l *loader) layerNorm(prefix string, bias bool, n int) nn.LayerNorm {
	return nn.LayerNorm{Gain: l.vector(prefix+".weight", n), Bias: l.optional(bias, prefix+".bias", n), Eps: 1e-5}
}

// ignore marks tensors as known that the model doesn't use.
func (l *loader) ignore(names ...string) {
	for _, n := range names {
		l.used[n] = true
	}
}

// err joins all that went wrong, tensors that nobody asked for included.
func (l *loader) err() error {
	for _, name := range l.src.Names() {
		if !l.used[name] {
			l.fail(name, errors.New("the architecture has no place for it"))
		}
	}
	return errors.Join(l.errs...)
}

// decay turns time_decay into the decay of a step, exp(−exp(x)), rounded as float32 does.
func decay(x float64) float64 {
	return math.Exp(-float64(float32(math.Exp(x))))
}
