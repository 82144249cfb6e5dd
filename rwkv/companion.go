package rwkv

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// Files that change a model while it is opened: tuned states, LoRAs, DiSHA (Bone).

// companion is such a file and what is done with it.
type companion struct {
	path string
	join func(s *fileSource, c Config, f *addition) error
}

// InitialState starts every sequence from a tuned state, as RWKV-PEFT and RWKV-Runner write it: a file
// with blocks.N.att.time_state [H, N, N], by head, value and key, for each block of an RWKV-5, 6 or 7.
// The model has it from then on as if it were merged into its file: Tensors and Save give it too.
func InitialState(path string) OpenOption {
	return func(o *openOptions) { o.companions = append(o.companions, companion{path, joinState}) }
}

// LoRA merges a LoRA of RWKV-PEFT (Hu et al., arXiv:2106.09685) in float32 while the model is opened:
// each W becomes W + (alpha/r)·B·A, with r the rank; other tensors of the file take the place of the
// model's. The file doesn't say what alpha it was trained with. Several are merged in their order. A
// PiSSA file looks the same, but isn't right without its init_pissa.pth: it can't be told apart.
func LoRA(path string, alpha float64) OpenOption {
	return func(o *openOptions) {
		o.companions = append(o.companions, companion{path, func(s *fileSource, c Config, f *addition) error {
			return joinLoRA(s, f, alpha)
		}})
	}
}

// Bone merges a DiSHA file of RWKV-PEFT (Kang and Yin, arXiv:2409.15371), which was called Bone before,
// in float32 while the model is opened: W[o,i] becomes W[o,i] + disha[i mod r, o]; other tensors of the
// file take the place of the model's.
func Bone(path string) OpenOption {
	return func(o *openOptions) { o.companions = append(o.companions, companion{path, joinBone}) }
}

// join applies the companions to the tensors, in order.
func (s *fileSource) join(c Config) error {
	for _, companion := range s.o.companions {
		if err := s.joinFile(c, companion); err != nil {
			return err
		}
	}
	return nil
}

func (s *fileSource) joinFile(c Config, companion companion) error {
	return withAddition(companion.path, s.o.skipChecks, func(a *addition) error { return companion.join(s, c, a) })
}

// withAddition opens a companion's file for f.
func withAddition(path string, skipChecks bool, f func(*addition) error) error {
	file, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if !skipChecks {
		if err := file.Verify(nil); err != nil {
			return err
		}
	}
	a := &addition{file: file, stored: map[string]string{}}
	for _, name := range file.Names() {
		official := checkpoint.TrimPrefixes(name)
		a.names = append(a.names, official)
		a.stored[official] = name
	}
	return f(a)
}

// TunedState returns the state of an empty sequence that begins as a tuned state says, in a file as
// InitialState's. The model stays as it is, so that one serves many tuned states; what comes after has the
// bits that it has after InitialState.
func (m *Model) TunedState(path string) (*State, error) {
	s := m.NewState()
	err := withAddition(path, false, func(a *addition) error {
		return tunedState(m.config, a, func(block int, _ string, w *tensor.Weight) {
			copy(s.layers.blocks[block].tmix[0].WKV, w.Float32().Data())
		})
	})
	if err != nil {
		return nil, err
	}
	if !s.Finite() {
		return nil, fmt.Errorf("%s: a number is NaN or infinite", path)
	}
	return s, nil
}

// addition is a companion's tensors, by their official names.
type addition struct {
	file   *checkpoint.File
	names  []string
	stored map[string]string
}

func (a *addition) fail(name string, format string, args ...any) error {
	return &checkpoint.Error{File: a.file.Name(), Tensor: name, Err: fmt.Errorf(format, args...)}
}

// tensor returns a tensor in memory of its own, for the file is closed soon.
func (a *addition) tensor(name string) (*tensor.Weight, error) {
	stored, ok := a.stored[name]
	if !ok {
		return nil, a.fail(name, "%w", checkpoint.ErrNotFound)
	}
	w, err := a.file.Tensor(stored)
	if err != nil {
		return nil, err
	}
	return tensor.NewWeight(w.DType(), slices.Clone(w.Bytes()), w.Shape()...), nil
}

// joinState adds a tuned state.
func joinState(s *fileSource, c Config, a *addition) error {
	return tunedState(c, a, func(_ int, name string, w *tensor.Weight) { s.put(name, w) })
}

// tunedState calls put with the tuned state of each block [H, N, N] and its name.
func tunedState(c Config, a *addition, put func(block int, name string, w *tensor.Weight)) error {
	if !slices.Contains([]Kind{RWKV5, RWKV6, RWKV7}, c.Kind) {
		return fmt.Errorf("%s: a tuned state for kind %s: want a model of RWKV-5, 6 or 7", a.file.Name(), c.Kind)
	}
	n := c.attDim() / c.NumHeads
	want := []int{c.NumHeads, n, n}
	known := map[string]bool{}
	var errs []error
	for i := range c.NumLayers {
		name := fmt.Sprintf("blocks.%d.%s", i, startName)
		known[name] = true
		w, err := a.tensor(name)
		if err == nil && !slices.Equal(w.Shape(), want) {
			err = a.fail(name, "shape %v, want %v: a state of another model", w.Shape(), want)
		}
		if err == nil {
			put(i, name, w)
		}
		errs = append(errs, err)
	}
	for _, name := range a.names {
		if !known[name] {
			errs = append(errs, a.fail(name, "not a part of a state of this model, of %d blocks", c.NumLayers))
		}
	}
	return errors.Join(errs...)
}

// joinLoRA merges a LoRA.
func joinLoRA(s *fileSource, a *addition, alpha float64) error {
	if !(alpha > 0) || math.IsInf(alpha, 0) {
		return fmt.Errorf("%s: a LoRA with alpha = %v: want the number that it was trained with", a.file.Name(), alpha)
	}
	return a.merge(s, "LoRA", ".lora_A", ".lora_B", func(name string, w *tensor.Tensor, shape []int) error {
		down, err := a.tensor(name + ".lora_A") // [r, in]
		if err != nil {
			return err
		}
		up, err := a.tensor(name + ".lora_B") // [out, r]
		if err != nil {
			return err
		}
		in, out := down.Shape(), up.Shape()
		if len(in) != 2 || len(out) != 2 || in[0] != out[1] || in[0] == 0 || out[0] != shape[0] || in[1] != shape[1] {
			return a.fail(name, "lora_A %v and lora_B %v for a weight %v: a LoRA of another model", in, out, shape)
		}
		product := tensor.New(shape...)
		tensor.MatMul(product, up.Float32(), down.Float32())
		scale := float32(alpha / float64(in[0]))
		for i, x := range product.Data() {
			w.Data()[i] += scale * x
		}
		return nil
	})
}

// joinBone merges a DiSHA file.
func joinBone(s *fileSource, _ Config, a *addition) error {
	return a.merge(s, "DiSHA (Bone)", ".disha", "", func(name string, w *tensor.Tensor, shape []int) error {
		d, err := a.tensor(name + ".disha") // [r, out]
		if err != nil {
			return err
		}
		if len(d.Shape()) == 3 {
			return a.fail(name+".disha", "shape %v is that of \"bat\", which isn't supported: want [r out] of DiSHA", d.Shape())
		}
		if len(d.Shape()) != 2 || d.Dim(0) == 0 || d.Dim(1) != shape[0] {
			return a.fail(name+".disha", "shape %v for a weight %v: want [r %d]", d.Shape(), shape, shape[0])
		}
		turned := d.Float32().Weight().Transpose().Float32() // [out, r]
		for o := range shape[0] {
			add, row := turned.Row(o), w.Row(o)
			for i := range row {
				row[i] += add[i%len(add)]
			}
		}
		return nil
	})
}

// merge calls one for each name whose weight the file changes, which name+first is there for, and puts
// what it leaves in the weight [out, in]. Names that end in neither first nor second are whole tensors.
func (a *addition) merge(s *fileSource, what, first, second string, one func(name string, w *tensor.Tensor, shape []int) error) error {
	var errs []error
	merged := 0
	for _, full := range a.names {
		if name, ok := strings.CutSuffix(full, first); ok {
			merged++
			errs = append(errs, a.mergeOne(s, name, one))
			continue
		}
		if name, ok := strings.CutSuffix(full, second); ok && second != "" {
			if _, ok := a.stored[name+first]; !ok {
				errs = append(errs, a.fail(name+first, "%w", checkpoint.ErrNotFound))
			}
			continue
		}
		errs = append(errs, a.replace(s, full))
	}
	if merged == 0 {
		errs = append(errs, fmt.Errorf("%s: not a %s: no tensor ends in %q", a.file.Name(), what, first))
	}
	return errors.Join(errs...)
}

// mergeOne merges into one weight, unless the model has no such.
func (a *addition) mergeOne(s *fileSource, name string, one func(string, *tensor.Tensor, []int) error) error {
	weight := name + ".weight"
	shape, ok := s.Shape(weight)
	if !ok || len(shape) != 2 {
		return a.fail(name, "the model has no matrix %q", weight)
	}
	old, err := s.unconverted(weight)
	if err != nil {
		return err
	}
	w := tensor.New(shape...)
	w.CopyFrom(old.Float32())
	if err := one(name, w, shape); err != nil {
		return err
	}
	s.put(weight, w.Weight())
	return nil
}

// replace puts a whole tensor in the place of the model's.
func (a *addition) replace(s *fileSource, name string) error {
	w, err := a.tensor(name)
	if err != nil {
		return err
	}
	shape, ok := s.Shape(name)
	if !ok && !strings.HasSuffix(name, startName) { // which a model may be without
		return a.fail(name, "the model has no such tensor")
	}
	if ok && !slices.Equal(squeeze(shape), squeeze(w.Shape())) {
		return a.fail(name, "shape %v, want %v as the model's", w.Shape(), shape)
	}
	s.put(name, w)
	return nil
}
