// Random writes a checkpoint with random weights, to measure speed without the real file. Without
// --size it is MicroRWKV of the published default size.
//
//	go run ./examples/random --size 1.5B rwkv7-1.5B.pth
//	go run ./examples/random --size 1.6B --kind rwkv6 rwkv6-1.6B.pth
//	go run ./examples/random --kind causal --n_layer 12 --dtype f32 causal.pt
//	go run ./examples/random --size 0.4B --dtype q4_k rwkv7-0.4B.gguf
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// official are the kinds that have sizes; RWKV-7 unless --kind says another.
var official = []rwkv.Kind{rwkv.RWKV4, rwkv.RWKV5, rwkv.RWKV6, rwkv.RWKV7}

// sizes are the official World models, of the same layers and width in all versions.
var sizes = map[string]rwkv.Config{
	"0.1B": {Kind: rwkv.RWKV7, NumLayers: 12, EmbedDim: 768, VocabSize: 65536},
	"0.4B": {Kind: rwkv.RWKV7, NumLayers: 24, EmbedDim: 1024, VocabSize: 65536},
	"1.5B": {Kind: rwkv.RWKV7, NumLayers: 24, EmbedDim: 2048, VocabSize: 65536},
	"1.6B": {Kind: rwkv.RWKV7, NumLayers: 24, EmbedDim: 2048, VocabSize: 65536}, // as RWKV-5 and 6 call it
}

func main() {
	var shape rwkv.Config
	fs := flag.NewFlagSet("random", flag.ContinueOnError)
	size := fs.String("size", "", "0.1B, 0.4B, or 1.5B, also called 1.6B: an official model")
	kind := fs.String("kind", "", "reference, causal, x051a, or rwkv4 to rwkv7 (default: rwkv7 with --size, else reference)")
	fs.IntVar(&shape.NumLayers, "n_layer", 0, "layers")
	fs.IntVar(&shape.NumHeads, "n_head", 0, "heads; the official models' are always 64 wide")
	fs.IntVar(&shape.EmbedDim, "n_embd", 0, "width")
	fs.IntVar(&shape.VocabSize, "vocab_size", 0, "tokens")
	fs.IntVar(&shape.BlockSize, "block_size", 0, "positions")
	dtype := fs.String("dtype", "bf16", "bf16 or f32, or blocks as quantize makes them, to a .gguf or .safetensors: "+cli.Formats())
	seed := fs.Uint64("seed", 1, "seed of the weights")
	force := fs.Bool("force", false, "replace a file that is there already")
	cli.Parse(fs, os.Args[1:], "OUT")
	if err := cli.CheckNew(fs.Arg(0), *force); err != nil {
		cli.Fail(err)
	}
	if err := run(fs.Arg(0), *size, rwkv.Kind(*kind), shape, *dtype, *seed); err != nil {
		cli.Fail(err)
	}
}

// run writes the model of a size or kind, with what isn't zero in shape.
func run(out, size string, kind rwkv.Kind, shape rwkv.Config, dtype string, seed uint64) error {
	ext := strings.ToLower(filepath.Ext(out))
	if ext != ".pt" && ext != ".pth" && ext != ".safetensors" && ext != ".gguf" {
		return fmt.Errorf("%s: want a name that ends in .pt, .pth, .safetensors or .gguf", out)
	}
	types := map[string]tensor.DType{"bf16": tensor.BF16, "f32": tensor.F32}
	for _, d := range tensor.Quantized() {
		types[d.String()] = d
	}
	if _, ok := types[dtype]; !ok {
		return fmt.Errorf("--dtype %q: want bf16, f32, %s", dtype, cli.Formats())
	}
	c, err := config(size, kind, shape)
	if err != nil {
		return err
	}
	m, err := rwkv.Random(c, types[dtype], seed)
	if err != nil {
		return err
	}
	bar := cli.NewBar("writing " + filepath.Base(out))
	defer bar.Finish()
	return m.Save(out, checkpoint.OnProgress(bar.Set))
}

// config returns the shape of the model.
func config(size string, kind rwkv.Kind, shape rwkv.Config) (rwkv.Config, error) {
	c := rwkv.DefaultConfig()
	switch {
	case size != "":
		var ok bool
		if c, ok = sizes[size]; !ok {
			return c, fmt.Errorf("--size %q: want 0.1B, 0.4B, 1.5B or 1.6B", size)
		}
		if kind != "" && !slices.Contains(official, kind) {
			return c, fmt.Errorf("--size %s is of a kind of %v, not %s", size, official, kind)
		}
		c.Kind = cmp.Or(kind, c.Kind)
	case slices.Contains(official, kind):
		c = sizes["0.1B"]
		c.Kind = kind
	case kind == rwkv.X051a:
		c = rwkv.Config{Kind: kind, BlockSize: c.BlockSize, VocabSize: c.VocabSize, NumLayers: 12, NumHeads: c.NumHeads, EmbedDim: c.EmbedDim}
	case kind != "":
		c.Kind = kind
	}
	for _, f := range []struct {
		to   *int
		from int
	}{
		{&c.NumLayers, shape.NumLayers}, {&c.NumHeads, shape.NumHeads}, {&c.EmbedDim, shape.EmbedDim},
		{&c.VocabSize, shape.VocabSize}, {&c.BlockSize, shape.BlockSize},
	} {
		if f.from != 0 {
			*f.to = f.from
		}
	}
	if slices.Contains(official, c.Kind) {
		if c.BlockSize != 0 {
			return c, fmt.Errorf("--block_size %d: %s has no such limit", c.BlockSize, c.Kind)
		}
		if c.EmbedDim%64 != 0 || c.NumHeads != 0 && 64*c.NumHeads != c.EmbedDim {
			return c, fmt.Errorf("--n_embd %d: %s wants heads of 64", c.EmbedDim, c.Kind)
		}
		c.NumHeads = c.EmbedDim / 64
	}
	c.FFNDim = 0 // follows from the width
	return c, nil
}
