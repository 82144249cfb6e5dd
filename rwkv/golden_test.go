package rwkv

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// The golden data: see testdata/golden/README.md.

// golden is one case: a checkpoint and what the published implementation computes with it.
type golden struct {
	Kind    string
	Config  map[string]any
	Lengths []struct {
		T           int
		Loss        float64
		AuxLoss     []float64 `json:"aux_loss_per_block"`
		MaxAbsLogit float64   `json:"max_abs_logit"`
		TorchErr    float64   `json:"torch_f32_max_abs_err"`
		F32Err      float64   `json:"f32_max_abs_err"` // the same, of GGUF's
		AllLogits   bool      `json:"all_logits"`
	}
	Greedy []struct{ Prompt, Output []int }
	Chunks []int // pieces of the longest case

	File      string // of the checkpoint if it isn't the case's name
	State     string // a tuned state, a LoRA and a Bone file
	LoRA      string
	LoRAAlpha float64 `json:"lora_alpha"`
	Bone      string

	path    string // of the checkpoint
	numbers map[string][]float64
	ids     map[string][]int
}

// goldens returns all cases by name, as "causal/bias".
func goldens(t testing.TB) map[string]*golden {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*/*.expect.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden data: %v", err)
	}
	all := map[string]*golden{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		g := &golden{}
		if err := json.Unmarshal(b, g); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		base := strings.TrimSuffix(f, ".expect.json")
		g.path = base + ".pt"
		if g.Kind == "rwkv7" {
			g.path = base + ".pth"
		}
		if filepath.Base(filepath.Dir(f)) == "gguf" {
			g.path = base + ".gguf"
			for i := range g.Lengths {
				g.Lengths[i].TorchErr, g.Lengths[i].AllLogits = g.Lengths[i].F32Err, g.Lengths[i].T <= 8
			}
		}
		if g.File != "" {
			g.path = filepath.Join(filepath.Dir(f), g.File)
		}
		g.read(t, base+".expect.safetensors")
		all[filepath.ToSlash(strings.TrimPrefix(base, "testdata/golden/"))] = g
	}
	return all
}

// read reads a safetensors file: the length of a JSON header, the header, the numbers.
func (g *golden) read(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 8 + int(binary.LittleEndian.Uint64(b))
	header := map[string]struct {
		Dtype   string
		Offsets [2]int `json:"data_offsets"`
	}{}
	if err := json.Unmarshal(b[8:n], &header); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	g.numbers, g.ids = map[string][]float64{}, map[string][]int{}
	for name, h := range header {
		data := b[n+h.Offsets[0] : n+h.Offsets[1]]
		switch h.Dtype {
		case "I64":
			for ; len(data) > 0; data = data[8:] {
				g.ids[name] = append(g.ids[name], int(int64(binary.LittleEndian.Uint64(data))))
			}
		case "F32":
			for ; len(data) > 0; data = data[4:] {
				g.numbers[name] = append(g.numbers[name], float64(math.Float32frombits(binary.LittleEndian.Uint32(data))))
			}
		case "F64":
			for ; len(data) > 0; data = data[8:] {
				g.numbers[name] = append(g.numbers[name], math.Float64frombits(binary.LittleEndian.Uint64(data)))
			}
		case "":
		default:
			t.Fatalf("%s: %s has dtype %s", path, name, h.Dtype)
		}
	}
}

// options returns what the case's model is opened with.
func (g *golden) options() (opts []OpenOption) {
	opts = append(opts, Activations(Float32)) // the numbers are of exact ones
	beside := func(name string) string { return filepath.Join(filepath.Dir(g.path), name) }
	if g.State != "" {
		opts = append(opts, InitialState(beside(g.State)))
	}
	if g.LoRA != "" {
		opts = append(opts, LoRA(beside(g.LoRA), g.LoRAAlpha))
	}
	if g.Bone != "" {
		opts = append(opts, Bone(beside(g.Bone)))
	}
	return opts
}

// eachGolden runs a test on each case.
func eachGolden(t *testing.T, f func(t *testing.T, g *golden, m *Model)) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			m, err := Open(g.path, g.options()...)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			want := Kind(g.Kind)
			if want == "microrwkv" {
				want = Reference
			}
			if m.Config().Kind != want {
				t.Fatalf("kind %s, want %s", m.Config().Kind, want)
			}
			f(t, g, m)
		})
	}
}

// within fails unless all of got are within the golden data's tolerance: four times the error that
// PyTorch's own float32 run has on this case, or 1e-5 of the largest logit.
func within(t *testing.T, what string, got []float32, want []float64, torchErr, largest float64) {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
		return
	}
	var worst float64
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-want[i]))
		if math.IsNaN(float64(got[i])) {
			worst = math.NaN()
		}
	}
	if tol := max(4*torchErr, 1e-5*largest); !(worst <= tol) {
		t.Errorf("%s: error %g, tolerance %g", what, worst, tol)
	}
}

func TestGoldenLogitsAndLoss(t *testing.T) {
	eachGolden(t, func(t *testing.T, g *golden, m *Model) {
		for _, l := range g.Lengths {
			key := fmt.Sprintf("T%d.", l.T)
			ids, targets := g.ids[key+"tokens"], g.ids[key+"targets"]
			s, err := m.Score(ids, targets)
			if err != nil {
				t.Fatal(err)
			}
			within(t, key+"last_logits", s.LastLogits, g.numbers[key+"last_logits"], l.TorchErr, l.MaxAbsLogit)
			last, err := m.LastLogits(ids)
			if err != nil {
				t.Fatal(err)
			}
			within(t, key+"last_logits alone", last[0].Data(), g.numbers[key+"last_logits"], l.TorchErr, l.MaxAbsLogit)
			if targets != nil {
				// The loss is a mean of differences of logits: its error is at most twice theirs.
				if tol := max(1e-5*l.Loss, 8*l.TorchErr); !(math.Abs(s.Loss-l.Loss) <= tol) {
					t.Errorf("%sloss = %g, want %g ± %g", key, s.Loss, l.Loss, tol)
				}
				if !(math.Abs(s.Perplexity-math.Exp(s.Loss)) <= 1e-12*s.Perplexity) {
					t.Errorf("%sperplexity = %g", key, s.Perplexity)
				}
			}
			if len(s.AuxLoss) != len(l.AuxLoss) {
				t.Errorf("%s%d auxiliary losses, want %d", key, len(s.AuxLoss), len(l.AuxLoss))
				continue
			}
			for i, want := range l.AuxLoss { // squares of means of float32 sums
				if !(math.Abs(s.AuxLoss[i]-want) <= 1e-5*want) {
					t.Errorf("%sauxiliary loss of block %d = %g, want %g", key, i, s.AuxLoss[i], want)
				}
			}
			if l.AllLogits {
				logits, err := m.Forward(ids)
				if err != nil {
					t.Fatal(err)
				}
				within(t, key+"logits", logits.Data(), g.numbers[key+"logits"], l.TorchErr, l.MaxAbsLogit)
			}
		}
	})
}

// Every layer's output, where it was recorded.
func TestGoldenActivations(t *testing.T) {
	layers := 0
	eachGolden(t, func(t *testing.T, g *golden, m *Model) {
		for _, l := range g.Lengths {
			key := fmt.Sprintf("T%d.act.", l.T)
			want := map[string][]float64{}
			for name, x := range g.numbers {
				if layer, ok := strings.CutPrefix(name, key); ok {
					want[layer] = x
				}
			}
			if len(want) == 0 {
				continue
			}
			b, err := m.acquire()
			if err != nil {
				t.Fatal(err)
			}
			b.add(g.ids[fmt.Sprintf("T%d.tokens", l.T)], 0, m.net.newState())
			b.trace = func(layer string, x *tensor.Tensor) {
				w, ok := want[layer]
				if !ok {
					return // not every layer is recorded of every kind; below, all that are must come
				}
				delete(want, layer)
				layers++
				var largest float64
				for _, v := range w {
					largest = max(largest, math.Abs(v))
				}
				// Activations are as exact as the logits, relative to the largest of each.
				within(t, key+layer, slices.Clone(x.Data()), w, l.TorchErr*max(1, largest/l.MaxAbsLogit), largest)
			}
			m.net.forward(b)
			m.release(b)
			for layer := range want {
				t.Errorf("%s%s: not computed", key, layer)
			}
		}
	})
	if layers == 0 {
		t.Error("no activations in the golden data")
	}
}

// The states of the official kinds after 7 tokens.
func TestGoldenStates(t *testing.T) {
	eachGolden(t, func(t *testing.T, g *golden, m *Model) {
		if m.Config().BlockSize > 0 || filepath.Ext(g.path) == ".gguf" { // of which no states were recorded
			return
		}
		s := m.NewState()
		if _, err := s.Append(g.ids["T7.tokens"]); err != nil {
			t.Fatal(err)
		}
		type part struct {
			name string
			got  []float32
		}
		for i, st := range s.layers.blocks {
			parts := []part{{"att_x", st.tmix[0].Shift}, {"ffn_x", st.cmix.Shift}}
			if wkv := st.tmix[0].WKV; m.Config().Kind == RWKV4 {
				n := len(wkv) / 3
				parts = append(parts, part{"aa", wkv[:n]}, part{"bb", wkv[n:][:n]}, part{"pp", wkv[2*n:]})
			} else {
				parts = append(parts, part{"S", wkv})
			}
			for _, part := range parts {
				key := fmt.Sprintf("T7.state.%d.%s", i, part.name)
				var largest float64
				for _, v := range g.numbers[key] {
					largest = max(largest, math.Abs(v))
				}
				within(t, key, part.got, g.numbers[key], 0, largest)
			}
		}
	})
}

// A sequence cut into pieces gives what it gives whole.
func TestGoldenChunks(t *testing.T) {
	eachGolden(t, func(t *testing.T, g *golden, m *Model) {
		if len(g.Chunks) == 0 {
			return
		}
		l := g.Lengths[len(g.Lengths)-1]
		key := fmt.Sprintf("T%d.", l.T)
		ids, s := g.ids[key+"tokens"], m.NewState()
		for _, n := range g.Chunks {
			if _, err := s.Append(ids[:n]); err != nil {
				t.Fatal(err)
			}
			ids = ids[n:]
		}
		within(t, key+"last_logits in pieces", s.Logits(), g.numbers[key+"last_logits"], l.TorchErr, l.MaxAbsLogit)
	})
}

// Greedy continuations, also across block_size.
func TestGoldenGreedy(t *testing.T) {
	eachGolden(t, func(t *testing.T, g *golden, m *Model) {
		for _, want := range g.Greedy {
			var got []int
			for tok, err := range m.GenerateTokens(t.Context(), want.Prompt, MaxTokens(len(want.Output)), TopK(1)) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, tok.ID)
			}
			if !slices.Equal(got, want.Output) {
				t.Errorf("after %d tokens: %v, want %v", len(want.Prompt), got, want.Output)
			}
		}
	})
}
