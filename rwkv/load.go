package rwkv

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// load builds the model that a checkpoint holds.
func load(f *checkpoint.File, o *openOptions) (*Model, error) {
	if err := o.setPrecision(); err != nil {
		return nil, err
	}
	src, family, c, err := identify(f, o)
	if err != nil {
		return nil, err
	}
	if len(o.companions) > 0 {
		if err := src.join(c); err != nil {
			return nil, err
		}
		if family, c, err = src.identify(o); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	warnings := src.readConfig(&c)
	verify := func() error { return f.Verify(o.progress) }
	if !o.skipChecks && !o.background { // while the layers are put together, which is the work of one CPU
		verified := make(chan error, 1)
		go func() { verified <- f.Verify(o.progress) }()
		verify = func() error { return <-verified }
	}
	m, err := loadModel(f.Name(), src, family, c)
	background := o.background && !o.skipChecks && err == nil
	if !o.skipChecks && !background {
		err = joinOnce(err, verify())
	}
	if err != nil {
		return nil, err
	}
	m.file, m.warnings, m.precision = f, warnings, o.precision
	if f.Format() == checkpoint.GGUF {
		m.ownTokenizer = sync.OnceValues(func() (tokenizer.Tokenizer, error) { return ggufTokenizer(f, c.VocabSize) })
	}
	if background {
		m.check(verify)
	}
	return m, nil
}

// joinOnce joins errors without those of b that a tells already: damage may have two witnesses.
func joinOnce(a, b error) error {
	if a == nil || b == nil {
		return errors.Join(a, b)
	}
	var told []error
	for _, err := range errorList(b) {
		if !slices.ContainsFunc(errorList(a), func(e error) bool { return e.Error() == err.Error() }) {
			told = append(told, err)
		}
	}
	return errors.Join(append([]error{a}, told...)...)
}

// errorList returns the errors that are joined in err.
func errorList(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, errorList(e)...)
	}
	return list
}

// identify finds the model in a file: at the top of its names, or where all of them begin with a wrapper's
// name, as Lightning's "model." does.
func identify(f *checkpoint.File, o *openOptions) (*fileSource, *family, Config, error) {
	src, err := newFileSource(f, o, "")
	if err != nil {
		return nil, nil, Config{}, err
	}
	family, c, err := src.identify(o)
	if !errors.Is(err, errUnknown) {
		if err != nil {
			err = fmt.Errorf("%s: %w", f.Name(), err)
		}
		return src, family, c, err
	}
	var found []string
	for _, group := range src.groups() {
		part, failed := newFileSource(f, o, group+".")
		if failed != nil {
			continue
		}
		family, c, failed := part.identify(o)
		if failed != nil {
			continue
		}
		if len(part.names) == len(src.names) {
			return part, family, c, nil
		}
		found = append(found, fmt.Sprintf("--key %s", group))
	}
	if found != nil {
		err = fmt.Errorf("the weights of a model are there beside others: %s (in Go rwkv.Key) takes them", strings.Join(found, " or "))
	}
	return nil, nil, Config{}, fmt.Errorf("%s: %w", f.Name(), err)
}

// groups returns what the names begin with before their first dot, if that is few.
func (s *fileSource) groups() (groups []string) {
	for _, name := range s.names {
		group, _, ok := strings.Cut(name, ".")
		if ok && !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
		if len(groups) > 8 {
			return nil
		}
	}
	return groups
}

// fileSource is a checkpoint's tensors, by the names that the kinds know, with what companions change
// and add.
type fileSource struct {
	file   *checkpoint.File
	prefix string  // of a wrapper, which all names begin with
	layout *layout // nil if it is no official model
	names  []string
	stored map[string]storedTensor
	made   map[string]*tensor.Weight // in place of what the file has
	gguf   *ggufInfo                 // nil for other files
	o      *openOptions
	cache  map[string]*tensor.Weight
}

// newFileSource returns the tensors whose names begin with a prefix, without it.
func newFileSource(f *checkpoint.File, o *openOptions, prefix string) (*fileSource, error) {
	s := &fileSource{file: f, prefix: prefix, made: map[string]*tensor.Weight{}, cache: map[string]*tensor.Weight{}, o: o}
	if f.Format() == checkpoint.GGUF {
		var err error
		if s.gguf, err = readGGUF(f); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	if err := s.name(&layout{}); err != nil {
		return nil, err
	}
	for _, l := range layouts {
		if l.is(s) {
			s.layout = l
			return s, s.name(l)
		}
	}
	return s, nil
}

// name gives the file's tensors their official names.
func (s *fileSource) name(l *layout) error {
	s.names, s.stored = nil, map[string]storedTensor{}
	renamed := strings.NewReplacer(l.names...)
	headSize := 0
	if s.gguf != nil {
		headSize = s.gguf.headSize
	}
	for _, stored := range s.file.Names() {
		trimmed, ok := strings.CutPrefix(checkpoint.TrimPrefixes(stored), s.prefix)
		if !ok {
			continue
		}
		for _, t := range l.official(checkpoint.TrimPrefixes(trimmed), renamed, headSize) {
			t.name = stored
			if other, ok := s.stored[t.official]; ok {
				return fmt.Errorf("%s: tensors %q and %q are both %q", s.file.Name(), other.name, stored, t.official)
			}
			s.stored[t.official] = t
			s.names = append(s.names, t.official)
		}
	}
	return nil
}

// StoredName implements namer.
func (s *fileSource) StoredName(official string) string {
	if s.layout == nil || s.layout.stored == nil {
		return official
	}
	return s.layout.stored(official)
}

// put sets a tensor in place of what the file has.
func (s *fileSource) put(name string, w *tensor.Weight) {
	if _, ok := s.Shape(name); !ok {
		s.names = append(s.names, name)
	}
	s.made[name] = w
	delete(s.cache, name)
}

// Names implements source.
func (s *fileSource) Names() []string { return s.names }

// Shape implements source.
func (s *fileSource) Shape(name string) ([]int, bool) {
	if w, ok := s.made[name]; ok {
		return w.Shape(), true
	}
	t, ok := s.stored[name]
	if !ok {
		return nil, false
	}
	info, ok := s.file.Info(t.name)
	return t.shape(info.Shape), ok
}

// Tensor implements source: it returns the same tensor at every call, converted if the options
// ask for it.
func (s *fileSource) Tensor(name string) (*tensor.Weight, error) {
	if t, ok := s.cache[name]; ok {
		return t, nil
	}
	t, err := s.unconverted(name)
	if err != nil {
		return nil, err
	}
	if s.o.convert && len(t.Shape()) == 2 {
		t = t.Convert(s.o.dtype)
	}
	t = t.WithActivations(s.o.activations(t.DType()))
	s.cache[name] = t
	return t, nil
}

// unconverted returns a tensor as it is stored or made.
func (s *fileSource) unconverted(name string) (*tensor.Weight, error) {
	if t, ok := s.made[name]; ok {
		return t, nil
	}
	stored := s.stored[name]
	t, err := s.file.Tensor(stored.name)
	if err != nil {
		return nil, err
	}
	if stored.row >= t.Len()/max(t.Dim(-1), 1) {
		return nil, &checkpoint.Error{File: s.file.Name(), Tensor: stored.name, Err: fmt.Errorf("shape %v, want %d rows", t.Shape(), stored.row+1)}
	}
	return stored.of(t), nil
}

// identify finds out which model the tensors are, and its Config: what the shapes tell, checked
// against what model_args says.
func (s *fileSource) identify(o *openOptions) (*family, Config, error) {
	variant := string(o.kind)
	if v, ok := s.file.Value("variant"); ok && v != nil && variant == "" {
		if variant, ok = v.(string); !ok {
			return nil, Config{}, fmt.Errorf("variant is %v, want a string", v)
		}
	}
	if err := s.refuse(); err != nil {
		return nil, Config{}, err
	}
	for _, f := range families {
		kind, err := f.match(s, variant)
		if err != nil {
			return nil, Config{}, err
		}
		if kind == "" {
			continue
		}
		if o.kind != "" && o.kind != kind {
			return nil, Config{}, fmt.Errorf("a model of kind %s, not %s", kind, o.kind)
		}
		c := Config{Kind: kind}
		missing := f.configure(s, &c)
		args := errors.Join(s.readArgs(f, &c), s.gguf.configure(&c))
		invalid := c.validate(f)
		if missing != nil && (invalid != nil || c.NumActiveExperts > len(s.names)) {
			invalid = missing // is why, or else building would run into it, once for each expert
		}
		if err := errors.Join(args, invalid); err != nil {
			return nil, Config{}, err
		}
		return f, c, nil
	}
	return nil, Config{}, errUnknown
}

var errUnknown = errors.New("not a model of a known kind: no tensors of MicroRWKV, nanoRWKV or RWKV-4 to 7 (a state_dict under \"model\", or alone)")

// readArgs lets the family check model_args against c, which the tensors' shapes gave, and take from
// it what shapes can't tell.
func (s *fileSource) readArgs(f *family, c *Config) error {
	v, ok := s.file.Value("model_args")
	if !ok || f.readArgs == nil {
		return nil
	}
	if text, ok := v.(string); ok { // the metadata of safetensors has only strings
		args := map[string]any{}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&args); err != nil {
			return fmt.Errorf("model_args: %w", err)
		}
		v = args
	}
	args, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("model_args is a %T, want a dict", v)
	}
	a := &modelArgs{values: args}
	f.readArgs(a, c)
	return errors.Join(a.errs...)
}

// modelArgs is a checkpoint's model_args, and what is wrong with them.
type modelArgs struct {
	values map[string]any
	errs   []error
}

// value returns an argument that is there and not None.
func (a *modelArgs) value(name string) (any, bool) {
	v, ok := a.values[name]
	return v, ok && v != nil
}

// size sets a size that shapes don't tell.
func (a *modelArgs) size(name string, to *int) {
	v, ok := a.value(name)
	if !ok {
		return
	}
	n, err := toInt(v)
	switch {
	case err != nil:
		a.errs = append(a.errs, fmt.Errorf("model_args: %s: %w", name, err))
	case n < 1 || n > maxSize:
		a.errs = append(a.errs, fmt.Errorf("model_args: %s = %d, want 1 to %d", name, n, maxSize))
	default:
		*to = int(n)
	}
}

// shape sets a size, or if the shapes have told it checks that they tell the same.
func (a *modelArgs) shape(name string, to *int) {
	var n int
	if a.size(name, &n); n == 0 {
		return
	}
	if *to != 0 && *to != n {
		a.errs = append(a.errs, fmt.Errorf("model_args: %s = %d, but by the tensors' shapes it is %d", name, n, *to))
		return
	}
	*to = n
}

// flag sets a bool.
func (a *modelArgs) flag(name string, to *bool) {
	v, ok := a.value(name)
	if !ok {
		return
	}
	b, ok := v.(bool)
	if !ok {
		a.errs = append(a.errs, fmt.Errorf("model_args: %s = %v, want True or False", name, v))
		return
	}
	*to = b
}

// number sets a number.
func (a *modelArgs) number(name string, to *float64) {
	v, ok := a.value(name)
	if !ok {
		return
	}
	f, err := toFloat(v)
	if err != nil {
		a.errs = append(a.errs, fmt.Errorf("model_args: %s: %w", name, err))
		return
	}
	*to = f
}

// toInt converts a number of a pickle or of JSON.
func toInt(v any) (int64, error) {
	f, err := toFloat(v)
	if i, ok := v.(int64); ok {
		return i, nil
	}
	if err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f), nil
	}
	return 0, fmt.Errorf("%v, want an integer", quoted(v))
}

// toFloat converts a number of a pickle or of JSON.
func toFloat(v any) (float64, error) {
	switch n := v.(type) {
	case int64:
		return float64(n), nil
	case float64:
		return n, nil
	case json.Number:
		return n.Float64()
	}
	return 0, fmt.Errorf("%v, want a number", quoted(v))
}

// quoted formats a value for an error, strings in quotes and nothing at length.
func quoted(v any) string {
	s := fmt.Sprintf("%#v", v)
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return s
}

// Describe tells what a checkpoint holds without building the model: its kind and Config. The error is
// what Open would give, but for the checks of every weight; the Config is there as soon as the kind is
// known.
func Describe(f *checkpoint.File, opts ...OpenOption) (Config, error) {
	src, family, c, err := identify(f, newOpenOptions(opts))
	if err != nil {
		return Config{}, err
	}
	src.readConfig(&c)
	p := &params{src: src}
	family.describe(c, p)
	return c, p.check(f.Name())
}
