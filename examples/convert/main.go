// Convert copies a checkpoint to another format, another precision, or both. The formats are told
// by the names: .pt, .pth and .bin are written for PyTorch, .safetensors for anyone, .gguf for
// llama.cpp.
//
// A file needn't be a model for that: all its tensors are copied, by the names that they have, and what lies
// beside them, so that nothing is lost which only others know. An optimizer's state alone is left out.
// A folder, a .gguf, and a model that something is merged into, is opened as a model and written with the
// official names, and what is written to .gguf must be a model too.
//
//	go run ./examples/convert out/ckpt-500.pt model.safetensors --dtype bf16
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/tensor"
	_ "microrwkv/tokenizer/world" // for the vocabulary of .gguf files
)

func main() {
	fs := flag.NewFlagSet("convert", flag.ContinueOnError)
	dtype := fs.String("dtype", "", "round the weights to f32, bf16 or f16 (default: keep them)")
	key := fs.String("key", "", "where the tensors are in the file's dicts, keys separated by dots (default: model or state_dict, or the top)")
	skip := fs.Bool("skip_checks", false, "don't check weights for damage, NaN and Inf")
	opaque := fs.Bool("opaque", false, cli.OpaqueUsage)
	force := fs.Bool("force", false, "replace a file that is there already")
	var companions cli.CompanionFlags
	companions.Register(fs)
	cli.Parse(fs, os.Args[1:], "IN", "OUT")
	if err := errors.Join(cli.CheckOutput("OUT", fs.Arg(1), fs.Arg(0)), cli.CheckNew(fs.Arg(1), *force)); err != nil {
		cli.Fail(err)
	}
	if err := convertWith(&companions, fs.Arg(0), fs.Arg(1), *dtype, *key, *skip, *opaque); err != nil {
		cli.Fail(err)
	}
}

func convert(in, out, dtype, key string, skip, opaque bool) error {
	return convertWith(&cli.CompanionFlags{}, in, out, dtype, key, skip, opaque)
}

// weightTypes are the values of --dtype.
var weightTypes = map[string]tensor.DType{"f32": tensor.F32, "bf16": tensor.BF16, "f16": tensor.F16}

// isGGUF reports whether a name is that of a GGUF file, which has models alone, by other names.
func isGGUF(path string) bool { return strings.EqualFold(filepath.Ext(path), ".gguf") }

// convertWith is convert of a model that something may be merged into.
func convertWith(companions *cli.CompanionFlags, in, out, dtype, key string, skip, opaque bool) error {
	var write []checkpoint.WriteOption
	if dtype != "" {
		d, ok := weightTypes[dtype]
		if !ok {
			return fmt.Errorf("--dtype %q: want f32, bf16 or f16", dtype)
		}
		write = append(write, checkpoint.As(d))
	}
	info, err := os.Stat(in)
	if companions.Given() || err == nil && info.IsDir() || isGGUF(in) || isGGUF(out) {
		return merge(in, out, key, skip, opaque, companions, write)
	}
	var open []checkpoint.Option
	if key != "" {
		open = append(open, checkpoint.Key(strings.Split(key, ".")...))
	}
	if opaque {
		open = append(open, checkpoint.Opaque())
	}
	f, err := checkpoint.Open(in, open...)
	if err != nil {
		return err
	}
	defer f.Close()
	if !skip {
		bar := cli.NewBar("checking " + filepath.Base(in))
		err := f.Verify(bar.Set)
		bar.Finish()
		if err != nil {
			return err
		}
	}
	bar := cli.NewBar("writing " + filepath.Base(out))
	defer bar.Finish()
	return checkpoint.Convert(out, f, append(write, checkpoint.OnProgress(bar.Set))...)
}

// merge writes a model with the official names and what is merged into it.
func merge(in, out, key string, skip, opaque bool, companions *cli.CompanionFlags, write []checkpoint.WriteOption) error {
	opts, err := companions.Options()
	if err != nil {
		return err
	}
	if opaque {
		opts = append(opts, rwkv.Opaque())
	}
	if key != "" {
		opts = append(opts, rwkv.Key(strings.Split(key, ".")...))
	}
	if skip {
		opts = append(opts, rwkv.SkipChecks())
	}
	bar := cli.NewBar("loading " + filepath.Base(in))
	m, err := rwkv.Open(in, append(opts, rwkv.Progress(bar.Set))...)
	bar.Finish()
	if err != nil {
		return err
	}
	defer m.Close()
	cli.WarnOf(m)
	bar = cli.NewBar("writing " + filepath.Base(out))
	defer bar.Finish()
	return m.Save(out, append(write, checkpoint.OnProgress(bar.Set))...)
}
