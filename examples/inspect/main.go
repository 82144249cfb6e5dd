// Inspect tells what a checkpoint holds: the kind of model and its config, how many parameters of
// which types, and every tensor with its shape. It reads any file of torch.save or safetensors,
// also of models that this project doesn't know. If it is of a known kind and no model can be made of it,
// the exit status is 1. PATH may be a folder, as Hugging Face has them; of an official RWKV in another
// layout the official names are shown too.
//
//	go run ./examples/inspect out/ckpt-500.pt
//	go run ./examples/inspect --json model.safetensors
package main

import (
	"flag"
	"os"

	"microrwkv/examples/internal/cli"
)

func main() {
	var s settings
	fs := flag.NewFlagSet("inspect", flag.ContinueOnError)
	fs.BoolVar(&s.json, "json", false, "print one JSON object and nothing else")
	fs.StringVar(&s.key, "key", "", "where the tensors are in the file's dicts, keys separated by dots (default: model or state_dict, or the top)")
	fs.StringVar(&s.kind, "kind", "", "kind of a checkpoint that doesn't say so itself: reference or causal")
	fs.BoolVar(&s.opaque, "opaque", false, cli.OpaqueUsage)
	fs.BoolVar(&s.skipChecks, "skip_checks", false, "don't check weights for damage, NaN and Inf")
	cli.Parse(fs, os.Args[1:], "PATH")
	if err := run(fs.Arg(0), &s, os.Stdout); err != nil {
		cli.Fail(err)
	}
}
