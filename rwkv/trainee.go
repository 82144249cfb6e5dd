package rwkv

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"microrwkv/tensor"
)

// Trainee is a model in training: its weights in float32, in memory of its own, beside their gradients.
// It is for one goroutine at a time. Package rwkv/train has the loop around it.
type Trainee struct {
	family  *family
	config  Config
	net     *stack // whose tensors are the parameters
	grads   *stack // whose tensors are the gradients
	list    []Parameter
	params  *params
	changes []fieldChange
	states  []StateParameter
	frozen  bool // only states are trained
	pass    pass
}

// fieldChange is a parameter that its layer has changed numbers of.
type fieldChange struct {
	*change
	value, grad   []float32 // of the parameter
	field, dField []float32 // the layer's
}

// Parameter is one parameter of a Trainee.
type Parameter struct {
	Name        string    // in checkpoints; a tied head goes by the embedding's
	Alias       string    // another name that checkpoints have for it, or ""
	Shape       []int     // in checkpoints
	Value, Grad []float32 // row-major. Grad is nil for what no layer uses: it is saved along, not trained
}

// StateParameter is the initial state of a block's time mix that Trainee.TuneStates made trainable.
type StateParameter struct {
	Name        string // blocks.N.att.time_state
	Shape       []int  // [H, N, N]: by value and key, but by key and value in Causal and X051a
	Value, Grad []float32
}

// ErrNotTrained is the error for kinds that this package runs and doesn't train.
var ErrNotTrained = errors.New("models of this kind aren't trained")

// ErrNotFresh is the error for kinds that are trained from a checkpoint only.
var ErrNotFresh = errors.New("new models of this kind aren't made: begin with a checkpoint")

// Fresh returns a new model to train, with the initial weights of the published training programs. The
// same seed gives the same weights.
func Fresh(c Config, seed uint64) (*Trainee, error) {
	f, err := familyOf(c.Kind)
	if err != nil {
		return nil, err
	}
	c = f.fill(c)
	if err := c.validate(f); err != nil {
		return nil, fmt.Errorf("rwkv: %w", err)
	}
	src := freshSource{}
	if f.fresh != nil {
		src = f.fresh(c)
	}
	t, err := newTrainee(f, c, src)
	if err != nil {
		return nil, err
	}
	if f.initial == nil {
		return nil, fmt.Errorf("rwkv: kind %s: %w", c.Kind, ErrNotFresh)
	}
	work := make([]*param, 0, len(t.params.list))
	for _, q := range t.params.list {
		if q.unused {
			q.shape, _ = src.Shape(q.name)
		}
		work = append(work, q)
	}
	values := make([][]float32, len(work))
	tensor.Parallel(len(work), pieces(func(i int) { values[i] = f.initialValues(c, seed, work[i].name, work[i].shape) }))
	t.fill(func(i int, q *param) []float32 { return values[i] })
	return t, nil
}

// pieces is a tensor.Task made of a function.
type pieces func(i int)

// Run implements tensor.Task.
func (p pieces) Run(i int) { p(i) }

// Trainee returns a copy of the model to train; weights of other types are widened to float32, and those that
// are stored divided, with Config.RescaleEvery, are multiplied again. RWKV-7a isn't trained, nor a model that
// has initial states in it.
func (m *Model) Trainee() (*Trainee, error) {
	c := m.config
	switch {
	case c.DeepEmbed > 0:
		return nil, fmt.Errorf("rwkv: RWKV-7a: %w", ErrNotTrained)
	case c.InitialState:
		return nil, fmt.Errorf("rwkv: the model has initial states of its own (%s): train it without them", startName)
	}
	c.RescaleEvery = 0
	src := modelSource{}
	for _, t := range m.unscaled() {
		src[t.Name] = t.Tensor
	}
	t, err := newTrainee(m.family, c, src)
	if err != nil {
		return nil, err
	}
	for _, q := range t.params.list {
		if q.unused {
			if q.shape, _ = src.Shape(q.name); q.shape == nil {
				q.shape = []int{0}
			}
		}
	}
	t.fill(func(_ int, q *param) []float32 {
		w := src[q.name]
		if w == nil {
			return nil
		}
		return slices.Clone(w.Float32().Data())
	})
	return t, nil
}

// modelSource is a model's own tensors.
type modelSource map[string]*tensor.Weight

// Names implements source.
func (s modelSource) Names() []string { return nil }

// Shape implements source.
func (s modelSource) Shape(name string) ([]int, bool) {
	if w, ok := s[name]; ok {
		return w.Shape(), true
	}
	return nil, false
}

// Tensor implements source.
func (s modelSource) Tensor(name string) (*tensor.Weight, error) { return s[name], nil }

// newTrainee describes the parameters, which fill must set then.
func newTrainee(f *family, c Config, src source) (*Trainee, error) {
	t := &Trainee{family: f, config: c, params: &params{src: src}}
	t.net = f.describe(c, t.params)
	for _, b := range t.net.blocks {
		if _, ok := b.(trainBlock); !ok {
			return nil, fmt.Errorf("rwkv: kind %s: %w", c.Kind, ErrNotTrained)
		}
	}
	return t, nil
}

// fill sets the parameters to what values gives, and makes their gradients; nil values leave out what
// no layer uses.
func (t *Trainee) fill(values func(i int, q *param) []float32) {
	g := &params{src: t.params.src}
	t.grads = t.family.describe(t.config, g)
	for i, q := range t.params.list {
		v := values(i, q)
		if v == nil {
			continue
		}
		q.set(tensor.FromSlice(v, q.shape...).Weight())
		p := Parameter{Name: q.name, Alias: q.alias, Shape: q.shape, Value: v}
		if !q.unused {
			p.Grad = make([]float32, len(v))
			g.list[i].set(tensor.FromSlice(p.Grad, q.shape...).Weight())
			if c := q.change; c != nil {
				clear((*g.list[i].vector).Data()) // the layer's gradient, not changed as if it were a parameter
				t.changes = append(t.changes, fieldChange{c, v, p.Grad, (*q.vector).Data(), (*g.list[i].vector).Data()})
			}
		}
		t.list = append(t.list, p)
	}
	slices.SortStableFunc(t.list, func(a, b Parameter) int { return moduleOrder(a.Name) - moduleOrder(b.Name) })
	t.Changed()
}

// moduleOrder sorts parameters as the published modules hold them, which is the order of their
// optimizers' states; within a module they are described in order.
func moduleOrder(name string) int {
	rest, ok := strings.CutPrefix(name, "transformer.h.")
	if !ok {
		if strings.HasPrefix(name, "transformer.ln_f") {
			return 1 << 30
		}
		return -1
	}
	var block int
	var module string
	fmt.Sscanf(rest, "%d.%s", &block, &module)
	module, _, _ = strings.Cut(module, ".")
	return 16*block + slices.Index([]string{"ln_1", "tmix", "ln_2", "grouped_attn", "cmix", "sliding_attn", "moe"}, module)
}

// Config returns the model's shape.
func (t *Trainee) Config() Config { return t.config }

// Parameters returns the parameters, in the order of the published modules. Their values may be changed;
// then Changed must be called.
func (t *Trainee) Parameters() []Parameter { return t.list }

// Changed makes what layers derive from their parameters, once those have changed.
func (t *Trainee) Changed() {
	for _, c := range t.changes {
		c.apply(c.field, c.value)
	}
	for _, b := range t.net.blocks {
		b.(trainBlock).changed()
	}
}

// Model returns the model as it is now: it shares the weights, and is to be used while they don't
// change. It must be asked for anew after they did.
func (t *Trainee) Model() *Model {
	t.params.finish()
	return newModel(t.family, t.config, t.net, t.params)
}

// ModelArgs returns what a checkpoint has beside the weights to tell the model's shape: model_args, and
// variant for some kinds.
func (t *Trainee) ModelArgs() map[string]any {
	if c := t.config; c.Kind == RWKV7 { // whose file has none, but for unusual ones
		args := map[string]any{"vocab_size": c.VocabSize, "n_layer": c.NumLayers, "n_embd": c.EmbedDim, "head_size": c.EmbedDim / c.NumHeads, "dim_ffn": c.FFNDim}
		maps.Copy(args, unusualEps(c))
		return map[string]any{"model_args": args}
	}
	if args := t.family.writeArgs(t.config); args != nil {
		return args
	}
	return map[string]any{}
}

// TuneStates freezes the weights and makes the initial states of the blocks' time mixes trainable: those
// of a block's first one in MicroRWKV, which has two. They begin with zeros. Reference has no states.
func (t *Trainee) TuneStates() ([]StateParameter, error) {
	if !t.net.streams {
		return nil, fmt.Errorf("rwkv: kind %s has no state to tune", t.config.Kind)
	}
	t.frozen = true
	h := t.config.NumHeads
	n := t.config.attDim() / h
	for i := range t.net.blocks {
		p := StateParameter{Name: fmt.Sprintf("blocks.%d.att.time_state", i), Shape: []int{h, n, n}, Value: make([]float32, h*n*n), Grad: make([]float32, h*n*n)}
		t.states = append(t.states, p)
	}
	return t.states, nil
}

// ZeroGradients clears all gradients.
func (t *Trainee) ZeroGradients() {
	if t.frozen {
		for _, s := range t.states {
			clear(s.Grad)
		}
		return
	}
	tensor.Parallel(len(t.list), (*zeroing)(t))
}

// zeroing is a tensor.Task that clears gradients.
type zeroing Trainee

// Run implements tensor.Task.
func (t *zeroing) Run(i int) { clear(t.list[i].Grad) }
