package train

import (
	"errors"
	"fmt"
	"math"

	"microrwkv/rwkv"
)

// Options are how a model is trained. The names in JSON are those of nanoGPT's flags.
type Options struct {
	MaxIters     int `json:"max_iters"`                   // steps in all
	BatchSize    int `json:"batch_size"`                  // sequences of a micro-batch
	BlockSize    int `json:"block_size"`                  // tokens of a sequence
	Accumulation int `json:"gradient_accumulation_steps"` // micro-batches of a step, whose mean losses are averaged

	LearningRate float64 `json:"learning_rate"`
	MinLR        float64 `json:"min_lr"`
	DecayLR      bool    `json:"decay_lr"` // else the rate stays LearningRate
	WarmupIters  int     `json:"warmup_iters"`
	LRDecayIters int     `json:"lr_decay_iters"` // 0: MaxIters

	WeightDecay float64 `json:"weight_decay"`
	Beta1       float64 `json:"beta1"`
	Beta2       float64 `json:"beta2"`
	Eps         float64 `json:"adam_eps"`
	GradClip    float64 `json:"grad_clip"` // 0: off

	AuxCoef float64 `json:"aux_loss_coef"` // what the experts' auxiliary loss counts
	L2Wrap  float64 `json:"l2wrap"`        // what half the mean square of the largest logits counts

	EvalIters int    `json:"eval_iters"` // batches of each part of the data in an evaluation
	Seed      uint64 `json:"seed"`       // of the batches
}

// recipes are the defaults and the optimizer's groups by kind.
var recipes = map[rwkv.Kind]recipe{
	rwkv.Reference: {nanoGPTOptions, nanoGPTGroups},
	rwkv.Causal:    {nanoGPTOptions, nanoGPTGroups},
	rwkv.X051a:     {nanoGPTOptions, nanoGPTGroups},
	rwkv.RWKV5:     {rwkvLMOptions, rwkvLM5Groups},
	rwkv.RWKV6:     {rwkvLMOptions, rwkvLM5Groups},
	rwkv.RWKV7:     {rwkvLMOptions, rwkvLMGroups},
}

// recipe is how models of a kind are trained.
type recipe struct {
	options Options
	groups  func(params []rwkv.Parameter, decay float64) []group
}

var nanoGPTOptions = Options{
	MaxIters: 2000, BatchSize: 12, BlockSize: 64, Accumulation: 1,
	LearningRate: 1e-3, MinLR: 1e-4, DecayLR: true, WarmupIters: 100,
	WeightDecay: 0.1, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, GradClip: 1, AuxCoef: 1, EvalIters: 20, Seed: 1337,
}

var rwkvLMOptions = func() Options {
	o := nanoGPTOptions
	o.LearningRate, o.MinLR, o.WarmupIters = 6e-4, 6e-5, 10
	o.WeightDecay, o.Eps, o.L2Wrap = 1e-3, 1e-18, 1e-4
	return o
}()

// Defaults returns the options of the published training programs for a kind.
func Defaults(k rwkv.Kind) Options { return recipes[k].options }

// trains returns an error for kinds that can't be trained, those without defaults.
func trains(k rwkv.Kind) error {
	if _, ok := recipes[k]; !ok {
		return fmt.Errorf("train: kind %q: %w", k, rwkv.ErrNotTrained)
	}
	return nil
}

// validate reports the values that make no training.
func (o *Options) validate() error {
	var errs []error
	count := func(name string, v, least int) {
		if v < least {
			errs = append(errs, fmt.Errorf("%s = %d: want at least %d", name, v, least))
		}
	}
	number := func(name string, v, least, below float64) {
		if !(v >= least && v < below) {
			errs = append(errs, fmt.Errorf("%s = %v: want at least %v and below %v", name, v, least, below))
		}
	}
	count("max_iters", o.MaxIters, 0)
	count("batch_size", o.BatchSize, 1)
	count("block_size", o.BlockSize, 1)
	count("gradient_accumulation_steps", o.Accumulation, 1)
	count("warmup_iters", o.WarmupIters, 0)
	count("lr_decay_iters", o.LRDecayIters, 0)
	count("eval_iters", o.EvalIters, 1)
	inf := math.Inf(1)
	number("learning_rate", o.LearningRate, 0, inf)
	number("min_lr", o.MinLR, 0, inf)
	number("weight_decay", o.WeightDecay, 0, inf)
	number("beta1", o.Beta1, 0, 1)
	number("beta2", o.Beta2, 0, 1)
	number("adam_eps", o.Eps, 0, inf)
	number("grad_clip", o.GradClip, 0, inf)
	number("aux_loss_coef", o.AuxCoef, 0, inf)
	number("l2wrap", o.L2Wrap, 0, inf)
	return errors.Join(errs...)
}

// Rate returns the learning rate of a step: a rise over WarmupIters, then half a cosine down to MinLR at
// LRDecayIters.
func (o *Options) Rate(iter int) float64 {
	end := o.LRDecayIters
	if end == 0 {
		end = o.MaxIters
	}
	switch {
	case !o.DecayLR:
		return o.LearningRate
	case iter < o.WarmupIters:
		return o.LearningRate * float64(iter+1) / float64(o.WarmupIters+1)
	case iter > end || end <= o.WarmupIters:
		return o.MinLR
	}
	ratio := float64(iter-o.WarmupIters) / float64(end-o.WarmupIters)
	return o.MinLR + 0.5*(1+math.Cos(math.Pi*ratio))*(o.LearningRate-o.MinLR)
}
