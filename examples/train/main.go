// Train trains a model on text, from initial weights or from a checkpoint, with nanoGPT's flags.
//
//	go run ./examples/train --data input.txt --kind x051a --max_iters 2000
//	go run ./examples/train --init_from resume
//	go run ./examples/generate --model_name ckpt --prompt "One day"
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/train"
)

func main() {
	f := newFlags()
	cli.Parse(f.set, os.Args[1:])
	if err := run(f); err != nil {
		cli.Fail(err)
	}
}

// flags are the program's.
type flags struct {
	set   *flag.FlagSet
	given map[string]bool

	initFrom, outDir, dataset, data, batches, tokenizer, kind string
	device, dtype, log, tuneState                             string
	compile, evalOnly, alwaysSave, bias                       bool
	dropout                                                   float64
	layers, heads, embed, vocab, experts, active, expertDim   int
	headSize, ffn, evalInterval, logInterval, sample          int
	machine                                                   cli.MachineFlags
	o                                                         train.Options
}

func newFlags() *flags {
	f := &flags{set: flag.NewFlagSet("train", flag.ContinueOnError)}
	s, o := f.set, &f.o
	*o = train.Defaults(rwkv.X051a)
	s.StringVar(&f.initFrom, "init_from", "scratch", "scratch, resume (out_dir/ckpt.pt with its optimizer), or the `path` of a checkpoint whose weights to begin with")
	s.StringVar(&f.outDir, "out_dir", "out", "`folder` of ckpt.pt, meta.pkl and the loss curves")
	s.StringVar(&f.dataset, "dataset", "", "`folder` of nanoGPT's train.bin, val.bin and meta.pkl")
	s.StringVar(&f.data, "data", "", "text, .jsonl or .bin `file`, or a folder of text files; the last tenth is for evaluation")
	s.StringVar(&f.batches, "batches", "", "`file` of exact batches, a JSON line for each micro-batch: {\"x\":[[ids]…],\"y\":[[targets]…]}; data or dataset are then evaluated on")
	s.StringVar(&f.tokenizer, "tokenizer", "char", "of text: char (its own characters), gpt2, world, or the path of a meta.pkl")
	s.StringVar(&f.tuneState, "tune_state", "", "train nothing but the initial states of the checkpoint of init_from, and save them to this `file` (.pth or .safetensors), which generate --state takes of kinds rwkv5, rwkv6 and rwkv7")
	s.StringVar(&f.kind, "kind", string(rwkv.Causal), "kind of a new model: causal, reference, x051a or rwkv7; rwkv5 and rwkv6 begin with a checkpoint, init_from")

	s.IntVar(&f.layers, "n_layer", 4, "blocks")
	s.IntVar(&f.heads, "n_head", 4, "heads; of rwkv7 n_embd/head_size")
	s.IntVar(&f.headSize, "head_size", 64, "width of a head of rwkv7")
	s.IntVar(&f.ffn, "dim_ffn", 0, "inner width of rwkv7's channel mix (default: 4 n_embd)")
	s.IntVar(&f.embed, "n_embd", 128, "width")
	s.IntVar(&f.vocab, "vocab_size", 0, "ids of a new model (default: those of the data)")
	s.IntVar(&f.experts, "num_experts", 4, "experts of the kinds that have some")
	s.IntVar(&f.active, "num_active_experts", 4, "experts that are used")
	s.IntVar(&f.expertDim, "expert_dim", 0, "width of an expert, which has 1.2 times as many rows (default: two thirds of n_embd)")
	s.BoolVar(&f.bias, "bias", false, "biases in linear layers and norms, of the kinds in nanoGPT's layout")
	s.Float64Var(&f.dropout, "dropout", 0, "0 only")

	s.IntVar(&o.MaxIters, "max_iters", o.MaxIters, "steps in all")
	s.IntVar(&o.BatchSize, "batch_size", o.BatchSize, "sequences of a micro-batch")
	s.IntVar(&o.BlockSize, "block_size", o.BlockSize, "tokens of a sequence, and positions of a new model")
	s.IntVar(&o.Accumulation, "gradient_accumulation_steps", o.Accumulation, "micro-batches of a step")
	s.Float64Var(&o.LearningRate, "learning_rate", o.LearningRate, "largest learning rate (rwkv5, rwkv6, rwkv7: 6e-4)")
	s.Float64Var(&o.MinLR, "min_lr", o.MinLR, "smallest learning rate (rwkv5, rwkv6, rwkv7: 6e-5)")
	s.BoolVar(&o.DecayLR, "decay_lr", o.DecayLR, "rise and fall of the learning rate")
	s.IntVar(&o.WarmupIters, "warmup_iters", o.WarmupIters, "steps of the rise (rwkv5, rwkv6, rwkv7: 10)")
	s.IntVar(&o.LRDecayIters, "lr_decay_iters", 0, "step at which the fall ends (default: max_iters)")
	s.Float64Var(&o.WeightDecay, "weight_decay", o.WeightDecay, "of matrices (rwkv5, rwkv6, rwkv7: 1e-3)")
	s.Float64Var(&o.Beta1, "beta1", o.Beta1, "of AdamW")
	s.Float64Var(&o.Beta2, "beta2", o.Beta2, "of AdamW")
	s.Float64Var(&o.Eps, "adam_eps", o.Eps, "of AdamW (rwkv5, rwkv6, rwkv7: 1e-18)")
	s.Float64Var(&o.GradClip, "grad_clip", o.GradClip, "largest norm of the gradients; 0: any")
	s.Float64Var(&o.AuxCoef, "aux_loss_coef", o.AuxCoef, "what the experts' auxiliary loss counts")
	s.Float64Var(&o.L2Wrap, "l2wrap", o.L2Wrap, "what half the mean square of the largest logits counts (rwkv5, rwkv6, rwkv7: 1e-4)")
	s.IntVar(&o.EvalIters, "eval_iters", o.EvalIters, "batches of an evaluation")
	s.Uint64Var(&o.Seed, "seed", o.Seed, "of the initial weights and of the batches")

	s.IntVar(&f.evalInterval, "eval_interval", 250, "steps between evaluations")
	s.IntVar(&f.logInterval, "log_interval", 10, "steps between lines of the log; JSON has all steps")
	s.IntVar(&f.sample, "sample", 200, "tokens of the sample at each evaluation; 0: none")
	s.BoolVar(&f.evalOnly, "eval_only", false, "evaluate and end")
	s.BoolVar(&f.alwaysSave, "always_save_checkpoint", true, "save at each evaluation, not only at better ones")
	s.StringVar(&f.log, "log", "text", "text or json")
	s.StringVar(&f.device, "device", "cpu", "cpu only")
	s.StringVar(&f.dtype, "dtype", "float32", "float32 only")
	s.BoolVar(&f.compile, "compile", false, "false only")
	f.machine.Register(s)
	return f
}

// recipe sets the flags that weren't given to the kind's defaults.
func (f *flags) recipe(k rwkv.Kind) {
	d := train.Defaults(k)
	for name, v := range map[string]any{
		"learning_rate": d.LearningRate, "min_lr": d.MinLR, "warmup_iters": d.WarmupIters, "weight_decay": d.WeightDecay,
		"beta1": d.Beta1, "beta2": d.Beta2, "adam_eps": d.Eps, "grad_clip": d.GradClip, "l2wrap": d.L2Wrap,
	} {
		if !f.given[name] {
			f.set.Set(name, fmt.Sprint(v))
		}
	}
}

// unrestored are the flags that a run doesn't take from the checkpoint that it resumes: where and on what it
// runs, and what the weights themselves tell.
var unrestored = []string{"init_from", "out_dir", "threads", "kernel", "log", "tune_state",
	"n_layer", "n_head", "n_embd", "vocab_size", "num_experts", "num_active_experts", "expert_dim", "head_size", "dim_ffn", "bias"}

// restore sets the flags that weren't given to what a checkpoint's config has of them.
func (f *flags) restore(config map[string]any) error {
	for name, v := range config {
		if f.set.Lookup(name) == nil || f.given[name] || slices.Contains(unrestored, name) {
			continue
		}
		switch v.(type) {
		case bool, int64, float64, string:
			if err := f.set.Set(name, fmt.Sprint(v)); err != nil {
				return fmt.Errorf("config: %s = %v: %w", name, v, err)
			}
			f.given[name] = true
		}
	}
	return nil
}

// config returns all flags with their values, for the checkpoint.
func (f *flags) config() map[string]any {
	c := map[string]any{}
	f.set.VisitAll(func(fl *flag.Flag) {
		switch v := fl.Value.(flag.Getter).Get().(type) {
		case uint64:
			c[fl.Name] = int64(v)
		default:
			c[fl.Name] = v
		}
	})
	return c
}

// check reports flags that make no sense, and applies those of the machine.
func (f *flags) check() error {
	switch {
	case f.device != "cpu":
		return fmt.Errorf("--device %q: want cpu", f.device)
	case f.dtype != "float32":
		return fmt.Errorf("--dtype %q: want float32", f.dtype)
	case f.compile:
		return fmt.Errorf("--compile: want false, nothing has to be compiled")
	case f.dropout != 0:
		return fmt.Errorf("--dropout %v: want 0, no other is supported", f.dropout)
	case f.log != "text" && f.log != "json":
		return fmt.Errorf("--log %q: want text or json", f.log)
	case f.evalInterval < 1 || f.logInterval < 1:
		return fmt.Errorf("--eval_interval %d, --log_interval %d: want at least 1", f.evalInterval, f.logInterval)
	case f.o.Seed > 1<<62:
		return fmt.Errorf("--seed %d: want at most 2^62", f.o.Seed)
	}
	if f.tuneState != "" && (f.initFrom == "scratch" || f.initFrom == "resume") {
		return fmt.Errorf("--tune_state: --init_from %s, want the path of a checkpoint", f.initFrom)
	}
	if f.dataset != "" && f.data != "" || f.dataset+f.data+f.batches == "" {
		return fmt.Errorf("give one of --data and --dataset, or --batches")
	}
	return f.machine.Apply()
}
