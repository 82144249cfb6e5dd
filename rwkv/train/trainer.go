package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"microrwkv/rwkv"
)

// A Source gives the micro-batches of training.
type Source interface {
	// Batch returns sequences of ids, and for each id its target, -1 for none; micro counts the
	// micro-batches from the first step on, and what is drawn is drawn from rng. The slices may be
	// reused by the next call.
	Batch(micro int, rng *rand.Rand, o *Options) (x, y [][]int, err error)
	// Place says where the last batch came from, for errors.
	Place() string
	// Check reports what makes the source unfit for a model and options, before the first step.
	Check(model *rwkv.Trainee, o *Options) error
}

// An Evaluator is a Source with parts to evaluate on.
type Evaluator interface {
	Source
	// EvalBatch is Batch for a part of the data: "train" or "val". It reports false if there is no such
	// part.
	EvalBatch(part string, rng *rand.Rand, o *Options) (x, y [][]int, ok bool, err error)
}

// Trainer trains a model. It is for one goroutine at a time.
type Trainer struct {
	model   *rwkv.Trainee
	params  []rwkv.Parameter // that are trained, or the states
	tuning  bool             // states are trained
	options Options
	source  Source
	adam    *adamW
	pcg     *rand.PCG
	rng     *rand.Rand
	iter    int
	best    float64

	// Config is kept in checkpoints beside the rest: a program's flags, for one.
	Config map[string]any
}

// Report is what a step did. The names in JSON are those of the programs' logs.
type Report struct {
	Iter            int     `json:"iter"`
	Loss            float64 `json:"loss"`      // cross entropy, before the step
	AuxLoss         float64 `json:"aux_loss"`  // without its coefficient
	GradNorm        float64 `json:"grad_norm"` // before clipping
	LearningRate    float64 `json:"lr"`
	Tokens          int     `json:"tokens"`
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
}

// NonFiniteError is the error of a step whose loss or gradients are NaN or Inf. The weights are as they
// were before it.
type NonFiniteError struct {
	Iter  int
	What  string // "loss" or "gradient norm"
	Value float64
	Place string // of the batch
}

// Error names the step and the batch.
func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("step %d: the %s is %v, with the batch of %s; the weights weren't changed", e.Iter, e.What, e.Value, e.Place)
}

// New returns a trainer of the model, at its first step.
func New(model *rwkv.Trainee, o Options, source Source) (*Trainer, error) {
	return newTrainer(model, o, source, false)
}

// newTrainer returns a trainer of the model, or of its states if tuning is set.
func newTrainer(model *rwkv.Trainee, o Options, source Source, tuning bool) (*Trainer, error) {
	k := model.Config().Kind
	if err := trains(k); err != nil {
		return nil, err
	}
	if o.EvalIters == 0 {
		o.EvalIters = 1
	}
	err := o.validate()
	if err == nil && source != nil {
		err = source.Check(model, &o)
	}
	if err != nil {
		return nil, err
	}
	t := &Trainer{model: model, params: model.Parameters(), tuning: tuning, options: o, source: source, best: noLoss}
	groups := recipes[k].groups
	if tuning {
		states, err := model.TuneStates()
		if err != nil {
			return nil, err
		}
		t.params, groups = nil, stateGroup
		for _, s := range states {
			t.params = append(t.params, rwkv.Parameter{Name: s.Name, Shape: s.Shape, Value: s.Value, Grad: s.Grad})
		}
	}
	t.adam = newAdamW(t.params, groups(t.params, o.WeightDecay))
	t.pcg = rand.NewPCG(o.Seed, 0)
	t.rng = rand.New(t.pcg)
	return t, nil
}

// noLoss is the best loss so far before there is one, as nanoGPT has it.
const noLoss = 1e9

// Iter returns the number of steps done.
func (t *Trainer) Iter() int { return t.iter }

// Model returns the model that is trained.
func (t *Trainer) Model() *rwkv.Trainee { return t.model }

// Best returns the best loss of Improved so far.
func (t *Trainer) Best() float64 { return t.best }

// Improved notes a loss on the part of the data that isn't trained on; it reports whether it is the
// best so far.
func (t *Trainer) Improved(loss float64) bool {
	if !(loss < t.best) {
		return false
	}
	t.best = loss
	return true
}

// Step does one step. If ctx ends before it is done, nothing is changed but the random numbers drawn,
// and a Trainer that goes on does so with the same batch.
func (t *Trainer) Step(ctx context.Context) (Report, error) {
	start := time.Now()
	o := &t.options
	r := Report{Iter: t.iter, LearningRate: o.Rate(t.iter)}
	state := *t.pcg
	err := t.gradients(ctx, &r)
	if err == nil {
		r.GradNorm = t.adam.norm()
		err = t.finite("gradient norm", r.GradNorm)
	}
	if err != nil {
		*t.pcg = state
		return r, err
	}
	clip := float32(1)
	if o.GradClip > 0 && r.GradNorm > o.GradClip {
		clip = float32(o.GradClip / (r.GradNorm + 1e-6))
	}
	t.adam.step(r.LearningRate, clip, o)
	if !t.tuning {
		t.model.Changed()
	}
	t.iter++
	r.Seconds = time.Since(start).Seconds()
	r.TokensPerSecond = float64(r.Tokens) / r.Seconds
	return r, nil
}

// gradients computes the losses and gradients of a step.
func (t *Trainer) gradients(ctx context.Context, r *Report) error {
	o := &t.options
	t.model.ZeroGradients()
	scale := 1 / float64(o.Accumulation)
	for i := range o.Accumulation {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, y, err := t.source.Batch(t.iter*o.Accumulation+i, t.rng, o)
		if err != nil {
			return err
		}
		l, err := t.model.Backward(x, y, rwkv.LossOptions{AuxCoef: o.AuxCoef, L2Wrap: o.L2Wrap, Scale: scale})
		if err != nil {
			return fmt.Errorf("%s: %w", t.source.Place(), err)
		}
		if err := errors.Join(t.finite("loss", l.Entropy), t.finite("auxiliary loss", l.Aux)); err != nil {
			return err
		}
		r.Loss += l.Entropy * scale
		r.AuxLoss += l.Aux * scale
		for _, ids := range x {
			r.Tokens += len(ids)
		}
	}
	return nil
}

// finite returns an error for NaN and Inf.
func (t *Trainer) finite(what string, x float64) error {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return &NonFiniteError{Iter: t.iter, What: what, Value: x, Place: t.source.Place()}
	}
	return nil
}

// evalSeed is what evaluations draw from, the same batches each time.
const evalSeed = 0x5eed

// Evaluate returns the mean loss over EvalIters batches of each part of the data, NaN for a part that
// there isn't. It draws from random numbers of its own, so that training doesn't depend on it.
func (t *Trainer) Evaluate(ctx context.Context) (train, val float64, err error) {
	if train, err = t.evaluate(ctx, "train"); err == nil {
		val, err = t.evaluate(ctx, "val")
	}
	return train, val, err
}

// evaluate returns the mean loss of a part.
func (t *Trainer) evaluate(ctx context.Context, part string) (float64, error) {
	e, ok := t.source.(Evaluator)
	if !ok {
		return math.NaN(), nil
	}
	rng := rand.New(rand.NewPCG(evalSeed, uint64(len(part))))
	var sum float64
	for range t.options.EvalIters {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		x, y, ok, err := e.EvalBatch(part, rng, &t.options)
		if err != nil || !ok {
			return math.NaN(), err
		}
		l, err := t.model.Loss(x, y)
		if err != nil {
			return 0, err
		}
		sum += l.Entropy
	}
	return sum / float64(t.options.EvalIters), nil
}
