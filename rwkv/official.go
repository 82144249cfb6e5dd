package rwkv

import (
	"slices"
	"strings"
)

// What the official RWKV checkpoints share: tensors named blocks.N.att.… and blocks.N.ffn.….

// officialVersion tells which version of RWKV a checkpoint with the official names is, and returns ""
// for one without them. It goes by what the first block has, never by the order of names.
func officialVersion(src source) string {
	has := func(name string) bool {
		_, ok := src.Shape("blocks.0.att." + name)
		return ok
	}
	switch {
	case has("x_r") || has("r_k") || has("w0"):
		return "RWKV-7 (x070)"
	case has("time_maa_x") || has("time_maa_w1"):
		return "RWKV-6 (x060)"
	case has("gate.weight"):
		return "RWKV-5 (x051 or x052)"
	case has("time_mix_k") && has("time_first") && has("ln_x.weight"):
		return "RWKV-5 (x050)"
	case has("time_mix_k") && has("time_first"):
		return "RWKV-4"
	}
	return ""
}

// companions are files that belong to a model and are none, by what all of their tensors' names have.
var companions = []struct{ part, what string }{
	{"lora_", "a LoRA of a model, not the model: it is merged into the weights that it was trained on"},
	{".bone", "a bone (DiSHA) of a model, not the model: it is merged into the weights that it was trained on"},
	{".time_state", "an initial state of a model (state tuning), not the model"},
}

// companion says what a file is that belongs to a model, "" if it is none.
func companion(src source) string {
	for _, c := range companions {
		if names := src.Names(); len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return !strings.Contains(name, c.part) }) {
			return c.what
		}
	}
	return ""
}

// isOfficial returns the match of a family that is one official version.
func isOfficial(version string, kind Kind) func(src source, variant string) (Kind, error) {
	return func(src source, _ string) (Kind, error) {
		if officialVersion(src) == version {
			return kind, nil
		}
		return "", nil
	}
}
