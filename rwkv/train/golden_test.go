package train

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/rwkv"
)

const golden = "testdata/golden"

// batch is a line of a batch file.
type batchLine struct{ X, Y [][]int }

func readBatches(t *testing.T, path string) (list []batchLine) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		var b batchLine
		if err := json.Unmarshal(s.Bytes(), &b); err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readTensors(t *testing.T, path string) func(name string) []float32 {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func(name string) []float32 {
		w, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		return w.Float32().Data()
	}
}

// near fails unless got is want but for a relative error.
func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if !(math.Abs(got-want) <= relative*math.Abs(want)+1e-12) {
		t.Errorf("%s: %.9g, want %.9g", what, got, want)
	}
}

// TestGradients compares every gradient with float64 autograd, by the golden data's rules.
func TestGradients(t *testing.T) {
	files, _ := filepath.Glob(golden + "/*/*.grad.json")
	if len(files) == 0 {
		t.Fatal("no golden data")
	}
	for _, file := range files {
		base := file[:len(file)-len(".grad.json")]
		t.Run(filepath.Base(filepath.Dir(base))+"/"+filepath.Base(base), func(t *testing.T) {
			var want struct {
				Kind  rwkv.Kind
				Cases []struct {
					Line  int
					Flags struct {
						Aux float64 `json:"aux_loss_coef"`
						L2  float64 `json:"l2wrap"`
					}
					Loss       float64
					AuxLoss    float64  `json:"aux_loss"`
					GradNorm   float64  `json:"grad_norm"`
					NoGradient []string `json:"no_gradient"`
					Tensors    map[string]struct {
						MaxAbs float64 `json:"max_abs"`
						Torch  float64 `json:"torch_f32_max_abs_err"`
					}
				}
			}
			readJSON(t, file, &want)
			m, err := rwkv.Open(base+".pt", rwkv.AsKind(want.Kind))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			lines := readBatches(t, base+".grad.jsonl")
			tensors := readTensors(t, base+".grad.safetensors")
			tr, err := m.Trainee()
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for _, c := range want.Cases {
				tr.ZeroGradients()
				losses, err := tr.Backward(lines[c.Line].X, lines[c.Line].Y, rwkv.LossOptions{AuxCoef: c.Flags.Aux, L2Wrap: c.Flags.L2, Scale: 1})
				if err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprint("line ", c.Line)
				near(t, name+" loss", losses.Entropy, c.Loss, 1e-5)
				near(t, name+" aux", losses.Aux, c.AuxLoss, 1e-5)
				var norm float64
				for _, p := range tr.Parameters() {
					w, ok := c.Tensors[p.Name]
					if p.Grad == nil || !ok {
						if ok && w.MaxAbs != 0 {
							t.Errorf("%s: %s has no gradient", name, p.Name)
						}
						continue
					}
					expect := tensors(fmt.Sprintf("%d/%s", c.Line, p.Name))
					bound := max(8*w.Torch, 2e-5*w.MaxAbs, 1e-7*c.GradNorm)
					most := 0.0
					for i, g := range p.Grad {
						norm += float64(g) * float64(g)
						most = max(most, math.Abs(float64(g-expect[i])))
						if g != g {
							most = math.Inf(1)
						}
					}
					worst = max(worst, most/bound)
					if !(most <= bound) {
						t.Errorf("%s: %s off by %.3g, allowed %.3g, of %.3g", name, p.Name, most, bound, w.MaxAbs)
					}
				}
				near(t, name+" norm", math.Sqrt(norm), c.GradNorm, 1e-4)
			}
			t.Logf("at most %.2g of what is allowed", worst)
		})
	}
}

// TestRuns trains as PyTorch did, and goes on from its checkpoints.
func TestRuns(t *testing.T) {
	files, _ := filepath.Glob(golden + "/*/*.run.json")
	if len(files) == 0 {
		t.Fatal("no golden data")
	}
	for _, file := range files {
		base := file[:len(file)-len(".run.json")]
		t.Run(filepath.Base(filepath.Dir(base))+"/"+filepath.Base(base), func(t *testing.T) {
			var want struct {
				Kind  rwkv.Kind
				Flags json.RawMessage
				Steps []struct {
					LR          float64
					Loss        float64
					AuxLoss     float64 `json:"aux_loss"`
					GradNorm    float64 `json:"grad_norm"`
					GradNormF32 float64 `json:"grad_norm_f32"`
				}
				ResumeStep int `json:"resume_step"`
				Tensors    map[string]struct {
					UpdateNorm float64 `json:"update_norm"`
					Torch      float64 `json:"torch_f32_err"`
				}
			}
			readJSON(t, file, &want)
			final := readTensors(t, base+".final.safetensors")
			batches, err := OpenBatches(base + ".run.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			run := func(path string, resume bool) {
				m, err := rwkv.Open(path, rwkv.AsKind(want.Kind))
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				tr, err := m.Trainee()
				if err != nil {
					t.Fatal(err)
				}
				o := Defaults(want.Kind)
				o.MaxIters = len(want.Steps)
				if err := json.Unmarshal(want.Flags, &o); err != nil {
					t.Fatal(err)
				}
				trainer, err := New(tr, o, batches)
				if err != nil {
					t.Fatal(err)
				}
				if resume {
					if err := trainer.Resume(path); err != nil {
						t.Fatal(err)
					}
				}
				for trainer.Iter() < o.MaxIters {
					w := want.Steps[trainer.Iter()]
					r, err := trainer.Step(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					at := fmt.Sprint("step ", r.Iter)
					near(t, at+" lr", r.LearningRate, w.LR, 1e-6)
					near(t, at+" loss", r.Loss, w.Loss, 1e-5)
					near(t, at+" aux", r.AuxLoss, w.AuxLoss, 1e-4)
					near(t, at+" norm", r.GradNorm, w.GradNorm, max(5e-4, 8*math.Abs(w.GradNormF32/w.GradNorm-1)))
				}
				for _, p := range tr.Parameters() {
					expect := final(p.Name)
					var diff, norm float64
					for i, v := range p.Value {
						d, e := float64(v-expect[i]), float64(expect[i])
						diff, norm = diff+d*d, norm+e*e
					}
					w := want.Tensors[p.Name]
					if bound := max(8*w.Torch, 1e-3*w.UpdateNorm, 2e-7*math.Sqrt(norm)); !(math.Sqrt(diff) <= bound) {
						t.Errorf("%s: off by %.3g, allowed %.3g", p.Name, math.Sqrt(diff), bound)
					}
				}
			}
			run(base+".pt", false)
			if want.ResumeStep > 0 {
				if path := fmt.Sprintf("%s.step%d.pt", base, want.ResumeStep); exists(path) {
					run(path, true)
				}
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
