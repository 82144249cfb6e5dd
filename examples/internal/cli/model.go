package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"microrwkv/rwkv"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// ModelFlags are the flags that say which model to use and how.
type ModelFlags struct {
	Model, ModelName, OutDir string
	Kind                     string
	Weights, Kernel          string
	Threads                  int
	SkipChecks               bool
}

// Register adds the flags to fs.
func (m *ModelFlags) Register(fs *flag.FlagSet) {
	fs.StringVar(&m.Model, "model", "", "checkpoint `file` (default: the embedded model)")
	fs.StringVar(&m.ModelName, "model_name", "", "`name` of a checkpoint in out_dir: name.pt, else .pth, else .safetensors")
	fs.StringVar(&m.OutDir, "out_dir", "out", "folder of model_name")
	fs.StringVar(&m.Kind, "kind", "", "kind of a checkpoint that doesn't say so itself: reference or causal")
	fs.StringVar(&m.Weights, "weights", "auto", "keep the weights as the file has them (auto), or convert them: f32, bf16")
	fs.StringVar(&m.Kernel, "kernel", "", "assembly kernels to use (default: the fastest of "+strings.Join(tensor.Kernels(), ", ")+")")
	fs.IntVar(&m.Threads, "threads", 0, "threads to use (default: all processors)")
	fs.BoolVar(&m.SkipChecks, "skip_checks", false, "don't check weights for damage, NaN and Inf")
}

// Path returns the file that the flags name, "" for the embedded model.
func (m *ModelFlags) Path() (string, error) {
	if m.Model != "" && m.ModelName != "" {
		return "", fmt.Errorf("--model and --model_name: give one of them")
	}
	if m.Model != "" || m.ModelName == "" {
		return m.Model, nil
	}
	var tried []string
	for _, ext := range []string{".pt", ".pth", ".safetensors"} {
		path := filepath.Join(m.OutDir, m.ModelName+ext)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		tried = append(tried, path)
	}
	return "", fmt.Errorf("no model %q: looked for %s", m.ModelName, strings.Join(tried, ", "))
}

// Open applies the flags and opens the model.
func (m *ModelFlags) Open() (*rwkv.Model, error) {
	if m.Threads < 0 {
		return nil, fmt.Errorf("--threads %d: want 0 or more", m.Threads)
	}
	if m.Threads > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(m.Threads)
	}
	tensor.SetThreads(m.Threads)
	if m.Kernel != "" {
		if err := tensor.SetKernel(m.Kernel); err != nil {
			return nil, err
		}
	}
	var opts []rwkv.OpenOption
	switch m.Weights {
	case "auto":
	case "f32":
		opts = append(opts, rwkv.WeightsAs(tensor.F32))
	case "bf16":
		opts = append(opts, rwkv.WeightsAs(tensor.BF16))
	default:
		return nil, fmt.Errorf("--weights %q: want auto, f32 or bf16", m.Weights)
	}
	if m.Kind != "" {
		opts = append(opts, rwkv.AsKind(rwkv.Kind(m.Kind)))
	}
	if m.SkipChecks {
		opts = append(opts, rwkv.SkipChecks())
	}
	path, err := m.Path()
	if err != nil {
		return nil, err
	}
	if path == "" {
		return rwkv.Demo(opts...)
	}
	bar := NewBar("loading " + filepath.Base(path))
	defer bar.Finish()
	return rwkv.Open(path, append(opts, rwkv.Progress(bar.Set))...)
}

// Bar is a progress bar on stderr, shown only on a terminal.
type Bar struct {
	title string
	bar   *progressbar.ProgressBar
}

// NewBar returns a bar, which appears with the first call of Set.
func NewBar(title string) *Bar { return &Bar{title: title} }

// Set shows that so many bytes of a total are done.
func (b *Bar) Set(done, total int64) {
	if b.bar == nil {
		if !term.IsTerminal(int(os.Stderr.Fd())) {
			return
		}
		b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(b.title),
			progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	b.bar.Set64(done)
}

// Finish removes the bar.
func (b *Bar) Finish() {
	if b.bar != nil {
		b.bar.Finish()
	}
}

// Tokenizer returns the tokenizer of that name, "gpt2", "world" or the path of a character
// vocabulary, or with no name the one that fits the model.
func Tokenizer(name string, m *rwkv.Model) (tokenizer.Tokenizer, error) {
	if name == "" {
		name = "gpt2"
		if m.Config().Kind == rwkv.RWKV7 {
			name = "world"
		}
	}
	switch name {
	case "gpt2":
		return tokenizer.GPT2()
	case "world":
		return tokenizer.World()
	}
	return tokenizer.Char(name)
}

// IDs parses token ids separated by commas.
func IDs(list string) ([]int, error) {
	var ids []int
	for _, f := range strings.Split(list, ",") {
		id, err := strconv.Atoi(strings.TrimSpace(f))
		if err != nil {
			return nil, fmt.Errorf("token id %q: want integers separated by commas", f)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Text returns a text argument: itself, or the text of the file behind "FILE:".
func Text(arg string) (string, error) {
	path, ok := strings.CutPrefix(arg, "FILE:")
	if !ok {
		return arg, nil
	}
	b, err := os.ReadFile(path)
	return string(b), err
}
