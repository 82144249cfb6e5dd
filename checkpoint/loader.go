package checkpoint

import (
	"errors"
	"fmt"
	"slices"

	"microrwkv/tensor"
)

// Loader takes a model's tensors from a File and collects all that is wrong with them:
//
//	l := checkpoint.NewLoader(f)
//	w := l.Sub("transformer").Tensor("wte.weight", vocab, width)
//	…
//	if err := l.Err(); err != nil { … }
type Loader struct {
	prefix string
	*loaderState
}

// loaderState is what a Loader shares with its Subs.
type loaderState struct {
	file *File
	used map[string]bool
	errs []error
}

// NewLoader returns a Loader of all tensors of f.
func NewLoader(f *File) *Loader {
	return &Loader{"", &loaderState{file: f, used: map[string]bool{}}}
}

// Sub returns a Loader whose names begin with prefix and a dot. Errors are collected together.
func (l *Loader) Sub(prefix string) *Loader {
	return &Loader{l.prefix + prefix + ".", l.loaderState}
}

// Tensor returns a tensor of that shape, as File.Tensor does. If it is missing or different it
// returns nil, and Err will say so.
func (l *Loader) Tensor(name string, shape ...int) *tensor.Tensor {
	name = l.prefix + name
	l.used[name] = true
	got, ok := l.file.Shape(name)
	if !ok {
		l.errs = append(l.errs, l.file.fail(name, ErrNotFound))
		return nil
	}
	if !slices.Equal(got, shape) {
		l.errs = append(l.errs, l.file.fail(name, fmt.Errorf("shape %v, want %v", got, shape)))
		return nil
	}
	t, err := l.file.Tensor(name)
	if err != nil {
		l.errs = append(l.errs, err)
		return nil
	}
	return t
}

// Has reports whether there is a tensor of that name.
func (l *Loader) Has(name string) bool {
	_, ok := l.file.tensors[l.prefix+name]
	return ok
}

// Ignore marks a tensor as known that is not used.
func (l *Loader) Ignore(name string) { l.used[l.prefix+name] = true }

// Used returns the names of the tensors that were asked for, in the order of the file.
func (l *Loader) Used() []string {
	var names []string
	for _, name := range l.file.names {
		if l.used[name] {
			names = append(names, name)
		}
	}
	return names
}

// Err joins all that went wrong. Tensors of the file that nobody asked for are errors.
func (l *Loader) Err() error {
	errs := slices.Clone(l.errs)
	for _, name := range l.file.names {
		if len(errs) >= maxErrors {
			errs = append(errs, fmt.Errorf("%s: there may be more", l.file.name))
			break
		}
		if !l.used[name] {
			errs = append(errs, l.file.fail(name, errors.New("the model has no place for it")))
		}
	}
	return errors.Join(errs...)
}
