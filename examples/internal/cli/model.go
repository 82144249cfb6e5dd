package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"microrwkv/rwkv"
	"microrwkv/rwkv/demo"
	"microrwkv/tensor"
)

// ModelFlags are the flags that say which model to use and how.
type ModelFlags struct {
	Model, ModelName, OutDir string
	Kind, Key                string
	Weights, Activations     string
	Precision                string
	MachineFlags
	SkipChecks, Opaque bool
	Companions         CompanionFlags
}

// Register adds the flags to fs.
func (m *ModelFlags) Register(fs *flag.FlagSet) {
	fs.StringVar(&m.Model, "model", "", "checkpoint `file`, or folder of one (default: the embedded model)")
	fs.StringVar(&m.ModelName, "model_name", "", "`name` of a checkpoint in out_dir: name.pt, else .pth, .safetensors or .gguf")
	fs.StringVar(&m.OutDir, "out_dir", "out", "folder of model_name")
	m.RegisterHow(fs)
	m.Companions.Register(fs)
}

// RegisterHow adds the flags that don't name a file.
func (m *ModelFlags) RegisterHow(fs *flag.FlagSet) {
	fs.StringVar(&m.Kind, "kind", "", "kind of a checkpoint that doesn't say so itself: reference or causal")
	fs.StringVar(&m.Key, "key", "", "`keys` of the file under which the weights are, one in the other, separated by dots (default: found out)")
	fs.StringVar(&m.Weights, "weights", "auto", "keep the weights as the file has them (auto), or convert them: f32, bf16")
	fs.StringVar(&m.Activations, "activations", "auto", "activations beside quantized weights: f32, which is exact, q8, 8 bits wherever there are products for them, or auto, which is q8 for q4_k, q5_k and q6_k and f32 for the rest")
	fs.StringVar(&m.Precision, "precision", "f32", "multiply with weights that aren't quantized in f32, or in bf16 as PyTorch does, or, where this CPU can't, on in f32: prefer_bf16")
	m.MachineFlags.Register(fs)
	fs.BoolVar(&m.Opaque, "opaque", false, OpaqueUsage)
	fs.BoolVar(&m.SkipChecks, "skip_checks", false, "don't check weights for damage, NaN and Inf")
}

// OpaqueUsage describes the flag that opens files with values of unknown classes.
const OpaqueUsage = "read the weights of a file that has values of unknown classes beside them, which are left out"

// Path returns the file that the flags name, "" for the embedded model.
func (m *ModelFlags) Path() (string, error) {
	if m.Model != "" && m.ModelName != "" {
		return "", fmt.Errorf("--model and --model_name: give one of them")
	}
	if m.Model != "" || m.ModelName == "" {
		return m.Model, nil
	}
	var tried []string
	for _, ext := range []string{".pt", ".pth", ".safetensors", ".gguf"} {
		path := filepath.Join(m.OutDir, m.ModelName+ext)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		tried = append(tried, path)
	}
	return "", fmt.Errorf("no model %q: looked for %s", m.ModelName, strings.Join(tried, ", "))
}

// Options applies the flags that aren't of the model alone, and returns what it is opened with.
func (m *ModelFlags) Options() ([]rwkv.OpenOption, error) {
	if err := m.Apply(); err != nil {
		return nil, err
	}
	activations := rwkv.AutoActivations
	if m.Activations != "" {
		var err error
		if activations, err = rwkv.ParseActivations(m.Activations); err != nil {
			return nil, fmt.Errorf("--%w", err)
		}
	}
	opts := []rwkv.OpenOption{rwkv.Activations(activations)}
	switch m.Weights {
	case "auto":
	case "f32":
		opts = append(opts, rwkv.WeightsAs(tensor.F32))
	case "bf16":
		opts = append(opts, rwkv.WeightsAs(tensor.BF16))
	default:
		return nil, fmt.Errorf("--weights %q: want auto, f32 or bf16", m.Weights)
	}
	if m.Precision != "" {
		p, err := rwkv.ParsePrecision(m.Precision)
		if err != nil {
			return nil, fmt.Errorf("--%w", err)
		}
		opts = append(opts, rwkv.Precision(p))
	}
	if m.Kind != "" {
		if !slices.Contains(rwkv.Kinds(), rwkv.Kind(m.Kind)) {
			return nil, fmt.Errorf("--kind %q: want one of %v", m.Kind, rwkv.Kinds())
		}
		opts = append(opts, rwkv.AsKind(rwkv.Kind(m.Kind)))
	}
	if m.Key != "" {
		opts = append(opts, rwkv.Key(strings.Split(m.Key, ".")...))
	}
	if m.Opaque {
		opts = append(opts, rwkv.Opaque())
	}
	if m.SkipChecks {
		opts = append(opts, rwkv.SkipChecks())
	}
	joined, err := m.Companions.Options()
	if err != nil {
		return nil, err
	}
	return append(opts, joined...), nil
}

// Open applies the flags and opens the model.
func (m *ModelFlags) Open() (*rwkv.Model, error) {
	opts, err := m.Options()
	if err != nil {
		return nil, err
	}
	path, err := m.Path()
	if err != nil {
		return nil, err
	}
	if path == "" {
		return demo.Model(opts...)
	}
	bar := NewBar("loading " + filepath.Base(path))
	model, err := rwkv.Open(path, append(opts, rwkv.Progress(bar.Set))...)
	bar.Finish()
	if err == nil {
		WarnOf(model)
	}
	return model, err
}
