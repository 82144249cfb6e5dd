package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// TestInitialWeights checks new models against the published laws.
func TestInitialWeights(t *testing.T) {
	var list []struct {
		Kind          rwkv.Kind
		Name          string
		Args          rwkv.Config `json:"model_args"`
		Deterministic string
		Constant      map[string]struct {
			Shape []int
			Value float64
		}
		Random map[string]struct {
			Shape                       []int
			Normal, Uniform, Orthogonal float64
		}
	}
	readJSON(t, golden+"/init/expect.json", &list)
	for _, want := range list {
		t.Run(want.Name, func(t *testing.T) {
			c := want.Args
			if c.Kind = want.Kind; c.NumHeads == 0 {
				c.NumHeads = c.EmbedDim / 64
			}
			tr, err := rwkv.Fresh(c, 3)
			if err != nil {
				t.Fatal(err)
			}
			again, err := rwkv.Fresh(c, 3)
			if err != nil {
				t.Fatal(err)
			}
			exact := readTensors(t, golden+"/init/"+want.Deterministic)
			for i, p := range tr.Parameters() {
				if !slices.Equal(p.Value, again.Parameters()[i].Value) {
					t.Errorf("%s: the same seed, other weights", p.Name)
				}
				if law, ok := want.Constant[p.Name]; ok {
					for _, v := range p.Value {
						near(t, p.Name, float64(v), law.Value, 1e-6)
					}
					shape(t, p, law.Shape)
					continue
				}
				law, ok := want.Random[p.Name]
				if !ok {
					for j, v := range exact(p.Name) {
						if math.Abs(float64(p.Value[j]-v)) > 2e-6*max(1, math.Abs(float64(v))) {
							t.Fatalf("%s[%d] = %v, want %v", p.Name, j, p.Value[j], v)
						}
					}
					continue
				}
				shape(t, p, law.Shape)
				var sum, most float64
				for _, v := range p.Value {
					sum += float64(v) * float64(v)
					most = max(most, math.Abs(float64(v)))
				}
				dev := math.Sqrt(sum / float64(len(p.Value)))
				n := float64(len(p.Value))
				switch {
				case law.Normal != 0: // five standard errors
					near(t, p.Name+" deviation", dev, law.Normal, 5/math.Sqrt(2*n))
				case law.Uniform != 0:
					near(t, p.Name+" bound", most, law.Uniform, 1e-2)
					near(t, p.Name+" deviation", dev, law.Uniform/math.Sqrt(3), 5/math.Sqrt(n))
				default:
					checkOrthogonal(t, p, law.Orthogonal)
				}
			}
		})
	}
}

func shape(t *testing.T, p rwkv.Parameter, want []int) {
	t.Helper()
	if !slices.Equal(p.Shape, want) {
		t.Errorf("%s: shape %v, want %v", p.Name, p.Shape, want)
	}
}

func checkOrthogonal(t *testing.T, p rwkv.Parameter, gain float64) {
	t.Helper()
	rows, cols := p.Shape[0], p.Shape[1]
	at := func(i, j int) float64 { // vector i of the shorter side
		if rows <= cols {
			return float64(p.Value[i*cols+j])
		}
		return float64(p.Value[j*cols+i])
	}
	for i := range min(rows, cols) {
		for k := range i + 1 {
			var sum float64
			for j := range max(rows, cols) {
				sum += at(i, j) * at(k, j)
			}
			want := 0.0
			if i == k {
				want = gain * gain
			}
			if math.Abs(sum-want) > 1e-5*gain*gain {
				t.Fatalf("%s: vectors %d and %d: %v, want %v", p.Name, i, k, sum, want)
			}
		}
	}
}

const text = "The quick brown fox jumps over the lazy dog; how vexingly quick daft zebras jump!\n"

// small returns a trainer of a small model on a little text.
func small(t testing.TB, k rwkv.Kind, change func(o *Options)) *Trainer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat(text, 30)), 0o666); err != nil {
		t.Fatal(err)
	}
	data, err := Open(path, DataOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { data.Close() })
	o := Defaults(k)
	o.MaxIters, o.BatchSize, o.BlockSize, o.Accumulation, o.WarmupIters, o.EvalIters = 6, 3, 20, 2, 2, 2
	if change != nil {
		change(&o)
	}
	c := rwkv.Config{Kind: k, BlockSize: 20, VocabSize: data.VocabSize, NumLayers: 2, NumHeads: 1, EmbedDim: 64, NumExperts: 3, NumActiveExperts: 2, ExpertDim: 20}
	if k == rwkv.RWKV7 {
		c.BlockSize = 0
	}
	tr, err := New(newModel(t, c), o, data)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// newModel returns a new model, of random weights for kinds that have no initial ones.
func newModel(t testing.TB, c rwkv.Config) *rwkv.Trainee {
	t.Helper()
	tr, err := rwkv.Fresh(c, 1)
	if errors.Is(err, rwkv.ErrNotFresh) {
		var m *rwkv.Model
		if m, err = rwkv.Random(c, tensor.F32, 1); err == nil {
			tr, err = m.Trainee()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var kinds = []rwkv.Kind{rwkv.Causal, rwkv.Reference, rwkv.X051a, rwkv.RWKV5, rwkv.RWKV6, rwkv.RWKV7}

// TestResume stops a run and goes on from the file, on another number of threads: the bits are those of
// the unbroken run.
func TestResume(t *testing.T) {
	defer tensor.SetThreads(0)
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			steps := func(tr *Trainer, n int) (losses []float64) {
				for range n {
					r, err := tr.Step(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					losses = append(losses, r.Loss, r.GradNorm)
				}
				return losses
			}
			tensor.SetThreads(1)
			whole := small(t, k, nil)
			want := steps(whole, 6)

			first := small(t, k, nil)
			got := steps(first, 3)
			if _, _, err := first.Evaluate(t.Context()); err != nil { // which changes nothing
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "ckpt.pt")
			first.Config = map[string]any{"data": "x"}
			if err := first.Save(path); err != nil {
				t.Fatal(err)
			}
			m, err := rwkv.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			tensor.SetThreads(3)
			second := small(t, k, func(o *Options) { o.Seed = 99 }) // the file's generator counts
			model, err := m.Trainee()
			if err != nil {
				t.Fatal(err)
			}
			if second, err = New(model, second.options, second.source); err != nil {
				t.Fatal(err)
			}
			if err := second.Resume(path); err != nil {
				t.Fatal(err)
			}
			got = append(got, steps(second, 3)...)
			if !slices.Equal(got, want) {
				t.Errorf("losses and norms %v, want %v", got, want)
			}
			for i, p := range second.model.Parameters() {
				if w := whole.model.Parameters()[i]; p.Name != w.Name || !slices.Equal(p.Value, w.Value) {
					t.Errorf("%s differs from the unbroken run's %s", p.Name, w.Name)
				}
			}
		})
	}
}

// TestLearns wants a falling loss, and what was learnt in the model that generates.
func TestLearns(t *testing.T) {
	for _, k := range kinds {
		tr := small(t, k, func(o *Options) { o.MaxIters, o.Accumulation, o.LearningRate, o.WarmupIters = 60, 1, 3e-3, 5 })
		_, before, err := tr.Evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			if _, err := tr.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		_, after, err := tr.Evaluate(t.Context())
		if err != nil || !(after < 0.9*before) {
			t.Errorf("%s: loss %v, then %v (%v)", k, before, after, err)
		}
		ids := []int{3, 1, 4, 1, 5}
		s, err := tr.Model().Model().Score(ids, []int{1, 4, 1, 5, 9})
		if err != nil {
			t.Fatal(err)
		}
		l, err := tr.Model().Loss([][]int{ids}, [][]int{{1, 4, 1, 5, 9}})
		if err != nil {
			t.Fatal(err)
		}
		near(t, string(k)+": loss of the model", s.Loss, l.Entropy, 1e-5)
	}
}

// TestStepsAllocateNothing holds once warm.
func TestStepsAllocateNothing(t *testing.T) {
	for _, k := range []rwkv.Kind{rwkv.Causal, rwkv.X051a, rwkv.RWKV5, rwkv.RWKV6, rwkv.RWKV7} {
		tr := small(t, k, nil)
		ctx := context.Background()
		step := func() {
			if _, err := tr.Step(ctx); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(5, step); n != 0 {
			t.Errorf("%s: %v allocations a step", k, n)
		}
	}
}

// TestNonFinite stops before the weights change, and says where.
func TestNonFinite(t *testing.T) {
	tr := small(t, rwkv.X051a, nil)
	if _, err := tr.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	params := tr.model.Parameters()
	params[3].Value[0] = float32(math.Inf(1))
	kept := slices.Clone(params[0].Value)
	_, err := tr.Step(t.Context())
	var bad *NonFiniteError
	if !errors.As(err, &bad) || bad.Iter != 1 || !strings.Contains(err.Error(), "text.txt: tokens from [") {
		t.Errorf("%v", err)
	}
	if !slices.Equal(params[0].Value, kept) || tr.Iter() != 1 {
		t.Error("the step was done")
	}
}

// TestBadBatches are refused with file and line.
func TestBadBatches(t *testing.T) {
	m, err := rwkv.Fresh(rwkv.Config{Kind: rwkv.X051a, BlockSize: 4, VocabSize: 9, NumLayers: 1, NumHeads: 1, EmbedDim: 8}, 1)
	if err != nil {
		t.Fatal(err)
	}
	good := `{"x":[[1,2]],"y":[[2,-1]]}`
	for name, line := range map[string]string{
		"long": `{"x":[[1,1,1,1,1]],"y":[[1,1,1,1,1]]}`, "id": `{"x":[[9]],"y":[[1]]}`, "target": `{"x":[[1]],"y":[[9]]}`, "negative": `{"x":[[-1]],"y":[[1]]}`,
		"below": `{"x":[[1]],"y":[[-2]]}`, "lengths": `{"x":[[1,2]],"y":[[1]]}`, "counts": `{"x":[[1],[2]],"y":[[1]]}`, "none": `{"x":[],"y":[]}`, "empty": `{"x":[[]],"y":[[]]}`,
		"nothing": `{"x":[[1]],"y":[[-1]]}`, "no y": `{"x":[[1]]}`, "float": `{"x":[[1.5]],"y":[[1]]}`, "JSON": `{"x":[[1`, "binary": "\x00\x01",
	} {
		path := filepath.Join(t.TempDir(), "b.jsonl")
		if err := os.WriteFile(path, []byte(good+"\n"+line+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBatches(path)
		if err == nil {
			o := Defaults(rwkv.X051a)
			o.MaxIters = 1
			_, err = New(m, o, b)
		}
		if err == nil || !strings.Contains(err.Error(), path+": line 2: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOptions are checked.
func TestOptions(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"batch_size": func(o *Options) { o.BatchSize = 0 }, "beta1": func(o *Options) { o.Beta1 = 1 }, "learning_rate": func(o *Options) { o.LearningRate = math.NaN() },
		"grad_clip": func(o *Options) { o.GradClip = -1 }, "max_iters": func(o *Options) { o.MaxIters = -1 },
	} {
		tr := small(t, rwkv.X051a, nil)
		o := tr.options
		change(&o)
		if _, err := New(tr.model, o, tr.source); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestData opens what it should and says what is wrong.
func TestData(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bin := func(ids ...int) string {
		var b bytes.Buffer
		for _, id := range ids {
			b.Write([]byte{byte(id), byte(id >> 8)})
		}
		return b.String()
	}
	m, err := rwkv.Fresh(rwkv.Config{Kind: rwkv.X051a, BlockSize: 8, VocabSize: 300, NumLayers: 1, NumHeads: 1, EmbedDim: 8}, 1)
	if err != nil {
		t.Fatal(err)
	}
	o := Defaults(rwkv.X051a)
	o.BlockSize = 3
	many := make([]int, 100)
	for i := range many {
		many[i] = i
	}
	write("folder/b.txt", "bbbb\n")
	write("folder/a/c.go", strings.Repeat("ac", 30))
	write("folder/bin", "\xff\x00")
	for _, c := range []struct {
		path, want string // want is an error, or else the sizes
		vocab      int
	}{
		{write("a.bin", bin(many...)), "90 10", 300},
		{write("odd.bin", "abc"), "3 bytes", 300},
		{write("empty.bin", ""), "no tokens", 300},
		{write("short.bin", bin(1, 2, 3, 4)), "want more than block_size", 300},
		{write("beyond.bin", bin(append(many, 7, 300)...)), "id 300 at byte 202", 300},
		{write("vocab.bin", bin(many...)), "a vocabulary of 301", 301},
		{write("a.txt", strings.Repeat("hello\n", 20)), "108 12", 0},
		{write("empty.txt", ""), "no text", 0},
		{write("latin.txt", "abc\xe9"), "byte 3 isn't UTF-8", 0},
		{write("a.jsonl", strings.Repeat(`{"text":"héllo"}`+"\n", 20)), "90 10", 0},
		{write("bad.jsonl", `{"text":"a"}`+"\n{}\n"), "line 2: no \"text\"", 0},
		{write("worse.jsonl", `{"text":"a"}`+"\n{"), "line 2", 0},
		{filepath.Join(dir, "folder"), "58 7", 0},
		{filepath.Join(dir, "none"), "no such file", 0},
	} {
		d, err := Open(c.path, DataOptions{VocabSize: c.vocab})
		got := ""
		if err == nil {
			if err = d.Check(m, &o); err == nil {
				a, b := d.Tokens()
				got = fmt.Sprint(a, b)
			}
			d.Close()
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
}

// TestConfig has every option in the checkpoint under its flag's name.
func TestConfig(t *testing.T) {
	tr := small(t, rwkv.X051a, nil)
	c, err := tr.config()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(c)
	var o Options
	if err := json.Unmarshal(b, &o); err != nil || o != tr.options {
		t.Errorf("%+v, want %+v (%v)", o, tr.options, err)
	}
}

// TestNewStates tunes states: the loss falls, no weight moves, and the file has the states by head,
// value and key: one that answers to one key with one value gives it at that key alone.
func TestNewStates(t *testing.T) {
	for _, k := range []rwkv.Kind{rwkv.Causal, rwkv.X051a, rwkv.RWKV5, rwkv.RWKV6, rwkv.RWKV7} {
		trained := small(t, k, func(o *Options) { o.MaxIters, o.Accumulation, o.LearningRate = 25, 1, 3e-3 })
		for range 25 { // with initial weights RWKV-7's states change nothing
			if _, err := trained.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var kept [][]float32
		for _, p := range trained.model.Parameters() {
			kept = append(kept, slices.Clone(p.Value))
		}
		o := trained.options
		o.MaxIters, o.LearningRate, o.DecayLR = 15, 0.005, false
		tr, err := NewStates(trained.model, o, trained.source)
		if err != nil {
			t.Fatal(err)
		}
		_, before, err := tr.Evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 15 {
			if _, err := tr.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		_, after, err := tr.Evaluate(t.Context())
		if err != nil || !(after < before) {
			t.Errorf("%s: loss %v, then %v (%v)", k, before, after, err)
		}
		for i, p := range tr.model.Parameters() {
			if !slices.Equal(p.Value, kept[i]) {
				t.Errorf("%s: %s moved", k, p.Name)
			}
		}
		s := tr.params[1]
		clear(s.Value)
		s.Value[3*64+5] = 7 // x051a: key 3, value 5; rwkv5 to rwkv7: value 3, key 5
		path := filepath.Join(t.TempDir(), "state.pth")
		if err := tr.Save(path); err != nil {
			t.Fatal(err)
		}
		at := 5*64 + 3
		if k != rwkv.Causal && k != rwkv.X051a {
			at = 3*64 + 5
		}
		if got := readTensors(t, path)("blocks.1.att.time_state"); got[at] != 7 || len(got) != 64*64 {
			t.Errorf("%s: state %v", k, got[at])
		}
	}
	if _, err := NewStates(small(t, rwkv.Reference, nil).model, Defaults(rwkv.Reference), small(t, rwkv.Reference, nil).source); err == nil {
		t.Error("reference has no states")
	}
}

// TestImproved knows the best loss so far; NaN, of a part that there isn't, is none.
func TestImproved(t *testing.T) {
	tr := &Trainer{best: noLoss}
	for _, c := range []struct {
		loss   float64
		better bool
		best   float64
	}{{math.NaN(), false, noLoss}, {2, true, 2}, {2, false, 2}, {3, false, 2}, {1.5, true, 1.5}, {math.Inf(1), false, 1.5}} {
		if got := tr.Improved(c.loss); got != c.better || tr.Best() != c.best {
			t.Errorf("%v: better is %v, the best %v, want %v, %v", c.loss, got, tr.Best(), c.better, c.best)
		}
	}
}
