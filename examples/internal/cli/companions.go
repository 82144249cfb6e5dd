package cli

import (
	"flag"
	"fmt"
	"os"
	"strconv"

	"microrwkv/rwkv"
)

// CompanionFlags are the flags for files that change a model while it is opened.
type CompanionFlags struct {
	State  string
	merged []merged  // in the order of the flags
	alphas []float64 // of the LoRAs
}

// merged is a file that is merged into the weights.
type merged struct {
	path string
	lora bool
}

// Register adds the flags to fs.
func (c *CompanionFlags) Register(fs *flag.FlagSet) {
	fs.StringVar(&c.State, "state", "", "start every sequence from the tuned state in this `file`")
	RegisterMerged(fs, func() *CompanionFlags { return c })
}

// RegisterMerged adds the flags for what is merged, which change what to returns.
func RegisterMerged(fs *flag.FlagSet, to func() *CompanionFlags) {
	add := func(lora bool) func(string) error {
		return func(path string) error {
			c := to()
			c.merged = append(c.merged, merged{path, lora})
			return nil
		}
	}
	fs.Func("lora", "merge the LoRA in this `file`; may be given several times, as may --bone", add(true))
	fs.Func("lora_alpha", "the `number` that the LoRA was trained with; one for all, or one for each", func(s string) error {
		alpha, err := strconv.ParseFloat(s, 64)
		c := to()
		c.alphas = append(c.alphas, alpha)
		return err
	})
	fs.Func("bone", "merge the DiSHA (Bone) weights in this `file`", add(false))
}

// Given reports whether any of the flags is.
func (c *CompanionFlags) Given() bool { return c.State != "" || len(c.merged) > 0 }

// Options returns what the model is opened with.
func (c *CompanionFlags) Options() ([]rwkv.OpenOption, error) {
	var opts []rwkv.OpenOption
	loras := 0
	for _, m := range c.merged {
		if !m.lora {
			opts = append(opts, rwkv.Bone(m.path))
			continue
		}
		i := loras
		if loras++; len(c.alphas) == 1 {
			i = 0
		}
		if i >= len(c.alphas) {
			return nil, fmt.Errorf("--lora %s: want --lora_alpha, which the file doesn't say", m.path)
		}
		opts = append(opts, rwkv.LoRA(m.path, c.alphas[i]))
	}
	if n := len(c.alphas); n > 1 && n != loras || n > 0 && loras == 0 {
		return nil, fmt.Errorf("--lora_alpha given %d times for %d of --lora", n, loras)
	}
	if c.State != "" {
		opts = append(opts, rwkv.InitialState(c.State))
	}
	return opts, nil
}

// WarnOf prints what was odd about a model on stderr.
func WarnOf(m *rwkv.Model) {
	for _, w := range m.Warnings() {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
}
