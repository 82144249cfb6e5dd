package rwkv

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folders of models, as Hugging Face has them: weights in one file or several, and a config.json.

// weightFiles are the names of a folder's weights, in the order that they are looked for.
var weightFiles = []string{
	"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
}

// ModelFile returns the file that Open opens for a path: in a folder model.safetensors, its index
// if there are several, the same of pytorch_model.bin, or else the one file that a checkpoint's name
// ends like. Another path is returned as it is.
func ModelFile(path string) (string, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return path, nil // opening it tells what is wrong
	}
	for _, name := range weightFiles {
		file := filepath.Join(path, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file, nil
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", err
	}
	var weights, others []string
	for _, e := range entries {
		switch ext := strings.ToLower(filepath.Ext(e.Name())); {
		case e.IsDir():
		case slices.Contains([]string{".safetensors", ".st", ".pth", ".pt", ".bin", ".gguf"}, ext):
			weights = append(weights, e.Name())
		default:
			others = append(others, e.Name())
		}
	}
	if len(weights) == 1 {
		return filepath.Join(path, weights[0]), nil
	}
	const want = "want model.safetensors, or model.safetensors.index.json and the files that it names"
	if len(weights) > 1 {
		return "", fmt.Errorf("%s: %d files of weights and none that says which: %s; there are %s", path, len(weights), want, some(weights))
	}
	return "", fmt.Errorf("%s: no weights in this folder: %s; there are %s", path, want, some(others))
}

// some lists a few names.
func some(names []string) string {
	if len(names) == 0 {
		return "no files"
	}
	if len(names) > 8 {
		names = append(slices.Clone(names[:8]), "…")
	}
	return strings.Join(names, ", ")
}

// maxConfig bounds the bytes of a config.json.
const maxConfig = 1 << 20

// configSizes are the names that a config.json has for sizes. The heads aren't among them: published
// files have their size in the place of their number, or neither.
var configSizes = []struct {
	name string
	of   func(c *Config) int
}{
	{"hidden_size", func(c *Config) int { return c.EmbedDim }},
	{"num_hidden_layers", func(c *Config) int { return c.NumLayers }},
	{"vocab_size", func(c *Config) int { return c.VocabSize }},
	{"intermediate_size", func(c *Config) int { return c.FFNDim }},
	{"attention_hidden_size", (*Config).attDim},
}

// modelTypes are Hugging Face's names of the kinds.
var modelTypes = map[string]Kind{"rwkv": RWKV4, "rwkv5": RWKV5, "rwkv6": RWKV6, "rwkv7": RWKV7}

// readConfig takes from the config.json beside the file what shapes can't tell, and returns where it
// contradicts the tensors, which win.
func (s *fileSource) readConfig(c *Config) (warnings []string) {
	if s.layout == nil || !s.layout.config || !s.o.onDisk {
		return nil
	}
	path := filepath.Join(filepath.Dir(s.file.Name()), "config.json")
	values, err := readObject(path)
	if os.IsNotExist(err) {
		return nil
	}
	warn := func(format string, args ...any) {
		warnings = append(warnings, path+": "+fmt.Sprintf(format, args...))
	}
	if err != nil {
		warn("not used: %v", err)
		return warnings
	}
	if name, ok := values["model_type"].(string); ok && modelTypes[name] != c.Kind {
		warn("model_type is %q, but by the tensors this is %s", name, c.Kind)
	}
	for _, size := range configSizes {
		if v, ok := values[size.name]; ok && v != nil {
			if n, err := toInt(v); err != nil || n != int64(size.of(c)) {
				warn("%s is %v, but by the tensors' shapes it is %d", size.name, quoted(v), size.of(c))
			}
		}
	}
	if _, ok := s.Shape("head.weight"); !ok && values["tie_word_embeddings"] == true {
		if emb, ok := s.stored["emb.weight"]; ok {
			s.stored["head.weight"] = emb
			s.names = append(s.names, "head.weight")
		}
	}
	number := func(name string, usual float64) float64 {
		v, ok := values[name]
		if !ok || v == nil {
			return usual
		}
		f, err := toFloat(v)
		if err != nil || !(f > 0 && f < 1 || name == "head_size_divisor" && f > 0 && f < 1e3) {
			warn("%s is %v, which makes no sense: %v is used", name, quoted(v), usual)
			return usual
		}
		return f
	}
	eps, headEps := 1e-5, 64e-5
	if c.Kind == RWKV7 {
		eps = number("norm_eps", eps)
		headEps = eps * float64(c.EmbedDim/c.NumHeads)
	} else {
		eps = number("layer_norm_epsilon", eps)
		d := number("head_size_divisor", 8) // of what is normalized, beside an eps of 1e-5
		headEps = 1e-5 * d * d
	}
	if eps != 1e-5 {
		c.NormEps = eps
	}
	if math.Abs(headEps-64e-5) > 1e-12 && c.Kind != RWKV4 {
		c.HeadNormEps = headEps
	}
	return warnings
}

// readObject reads an object from a small file.
func readObject(path string) (map[string]any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	values := map[string]any{}
	d := json.NewDecoder(io.LimitReader(f, maxConfig))
	d.UseNumber()
	if err := d.Decode(&values); err != nil {
		return nil, err
	}
	return values, nil
}
