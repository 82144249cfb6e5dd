package main

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

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

const golden = "../../rwkv/testdata/golden/"

// score runs the program and returns what it prints, which must be one object with the keys of the
// contract.
func score(t *testing.T, args ...string) result {
	t.Helper()
	out := clitest.Succeed(t, args...)
	keys := map[string]any{}
	want := 5
	if slices.Contains(args, "--against") {
		want++
	}
	var r result
	if err := json.Unmarshal([]byte(out), &keys); err != nil || len(keys) != want || keys["aux_loss_per_block"] == nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%q prints %q: %v", args, out, err)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%q prints %q: %v", args, out, err)
	}
	if r.Loss != nil && !(math.Abs(*r.Perplexity-math.Exp(*r.Loss)) <= 1e-9**r.Perplexity) {
		t.Errorf("%q: perplexity %g of loss %g", args, *r.Perplexity, *r.Loss)
	}
	return r
}

// expected is what the published implementation says of a case.
type expected struct {
	Kind    string
	Lengths []struct {
		T           int
		Loss        *float64
		AuxLoss     []float64 `json:"aux_loss_per_block"`
		MaxAbsLogit float64   `json:"max_abs_logit"`
		TorchErr    float64   `json:"torch_f32_max_abs_err"`
	}
	numbers map[string][]float64
}

func read(t *testing.T, base string) *expected {
	t.Helper()
	b, err := os.ReadFile(base + ".expect.json")
	if err != nil {
		t.Fatal(err)
	}
	e := &expected{numbers: map[string][]float64{}}
	if err := json.Unmarshal(b, e); err != nil {
		t.Fatal(err)
	}
	// A safetensors file: the length of a JSON header, the header, the numbers.
	if b, err = os.ReadFile(base + ".expect.safetensors"); err != nil {
		t.Fatal(err)
	}
	n := 8 + int(binary.LittleEndian.Uint64(b))
	header := map[string]struct {
		Dtype   string
		Offsets [2]int `json:"data_offsets"`
	}{}
	if err := json.Unmarshal(b[8:n], &header); err != nil {
		t.Fatal(err)
	}
	for name, h := range header {
		for data := b[n+h.Offsets[0] : n+h.Offsets[1]]; len(data) > 0; {
			var x float64
			switch h.Dtype {
			case "I64":
				x, data = float64(int64(binary.LittleEndian.Uint64(data))), data[8:]
			case "F64":
				x, data = math.Float64frombits(binary.LittleEndian.Uint64(data)), data[8:]
			case "F32":
				x, data = float64(math.Float32frombits(binary.LittleEndian.Uint32(data))), data[4:]
			default:
				t.Fatalf("%s: dtype %s", name, h.Dtype)
			}
			e.numbers[name] = append(e.numbers[name], x)
		}
	}
	return e
}

// list spells numbers as a flag takes them.
func list(numbers []float64) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(numbers), "[]"), " ", ",")
}

func near(t *testing.T, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= tolerance) {
			t.Errorf("%s[%d] = %g, want %g ± %g", what, i, got[i], want[i], tolerance)
			return
		}
	}
}

// TestGolden compares with the published implementations, at every length.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(golden + "*/*.expect.json")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	all := filepath.Join(t.TempDir(), "all.safetensors")
	losses, matrices := 0, 0
	for _, file := range files {
		base := strings.TrimSuffix(file, ".expect.json")
		e := read(t, base)
		model := clitest.GoldenModel(t, file)
		for _, l := range e.Lengths {
			what := fmt.Sprintf("%s T=%d ", model, l.T)
			at := fmt.Sprintf("T%d.", l.T)
			tolerance := max(4*l.TorchErr, 1e-5*l.MaxAbsLogit)
			args := append(slices.Clone(model), "--tokens", list(e.numbers[at+"tokens"]), "--all_logits", all)
			if targets := e.numbers[at+"targets"]; targets != nil {
				args = append(args, "--targets="+list(targets))
			}
			r := score(t, args...)
			if want := strings.Replace(e.Kind, "microrwkv", "reference", 1); string(r.Kind) != want {
				t.Errorf("%skind %s, want %s", what, r.Kind, want)
			}
			near(t, what+"last_logits", r.LastLogits, e.numbers[at+"last_logits"], tolerance)
			if l.Loss != nil {
				losses++
				if r.Loss == nil || !(math.Abs(*r.Loss-*l.Loss) <= max(1e-5**l.Loss, tolerance)) {
					t.Errorf("%sloss %v, want %g", what, r.Loss, *l.Loss)
				}
			}
			if len(r.AuxLossPerBlock) != len(l.AuxLoss) {
				t.Errorf("%sauxiliary losses %v, want %v", what, r.AuxLossPerBlock, l.AuxLoss)
			}
			for i, want := range l.AuxLoss {
				if got := r.AuxLossPerBlock[i]; !(math.Abs(got-want) <= 1e-5*want) {
					t.Errorf("%sauxiliary loss %d = %g, want %g", what, i, got, want)
				}
			}
			logits := readLogits(t, all)
			if len(logits) != l.T*len(r.LastLogits) {
				t.Fatalf("%s%d logits, want %d rows of %d", what, len(logits), l.T, len(r.LastLogits))
			}
			near(t, what+"last of all logits", logits[len(logits)-len(r.LastLogits):], e.numbers[at+"last_logits"], tolerance)
			if want := e.numbers[at+"logits"]; want != nil {
				matrices++
				near(t, what+"logits", logits, want, tolerance)
			}
		}
	}
	if losses < 10 || matrices < 10 {
		t.Errorf("only %d losses and %d matrices of logits were compared", losses, matrices)
	}
}

// readLogits returns the matrix in a file that --all_logits wrote.
func readLogits(t *testing.T, path string) []float32 {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, err := f.Tensor("logits")
	if err != nil || len(f.Names()) != 1 || len(x.Shape()) != 2 {
		t.Fatal(f.Names(), err)
	}
	return slices.Clone(x.Float32().Data())
}

// TestTargets compares given targets with the default: the next token, and none for the last.
func TestTargets(t *testing.T) {
	const mini = golden + "microrwkv/mini.pt"
	want := score(t, "--model", mini, "--tokens", "3,1,4,1,5")
	for _, args := range [][]string{{"--targets", "1,4,1,5,-1"}, {"--targets", "1, 4, 1, 5, -1", "--json"}, {"--json=true"}} {
		got := score(t, append([]string{"--model", mini, "--tokens=3,1,4,1,5"}, args...)...)
		if *got.Loss != *want.Loss {
			t.Errorf("%v: loss %g, want %g", args, *got.Loss, *want.Loss)
		}
	}
	if got := score(t, "--model", mini, "--tokens", "3,1,4,1,5", "--targets", "1,4,1,5,9"); *got.Loss == *want.Loss {
		t.Error("the last target doesn't count")
	}
	for _, args := range [][]string{{"--tokens", "3"}, {"--tokens", "3,1", "--targets", "-1,-1"}} {
		if r := score(t, append(args, "--model", mini)...); r.Loss != nil || r.Perplexity != nil || len(r.LastLogits) != 61 {
			t.Errorf("%v: %+v, want no loss", args, r)
		}
	}
}

// TestText scores a text by the embedded model.
func TestText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "story.txt")
	if err := os.WriteFile(file, []byte("One day, a little girl"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := score(t, "--text", file)
	ids := score(t, "--tokens", "3198,1110,11,257,1310,2576")
	if text.Kind != "reference" || *text.Loss != *ids.Loss || len(text.AuxLossPerBlock) != 6 || len(text.LastLogits) != 50304 {
		t.Errorf("text: loss %g, ids: loss %g", *text.Loss, *ids.Loss)
	}
	if !(*text.Loss > 0.5 && *text.Loss < 6) {
		t.Errorf("loss %g of a story", *text.Loss)
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, long := filepath.Join(dir, "empty"), filepath.Join(dir, "long")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(long, []byte(strings.Repeat("One day ", 129)), 0o644); err != nil {
		t.Fatal(err)
	}
	const mini = golden + "microrwkv/mini.pt"
	for _, c := range []struct {
		status int
		words  string
		args   []string
	}{
		{2, "nosuch", []string{"--nosuch"}},
		{2, "extra", []string{"extra"}},
		{1, "--tokens --text", nil},
		{1, "--tokens --text", []string{"--tokens="}},
		{1, "--tokens --text", []string{"--tokens", "1", "--text", long}},
		{1, "--targets --tokens", []string{"--text", long, "--targets", "1"}},
		{1, "2 targets 3 tokens", []string{"--tokens", "3,1,4", "--targets", "1,4"}},
		{1, "target 61 position 2", []string{"--model", mini, "--tokens", "3,1,4", "--targets", "1,4,61"}},
		{1, "target -2", []string{"--model", mini, "--tokens", "3,1,4", "--targets", "1,4,-2"}},
		{1, "token 61 60", []string{"--model", mini, "--tokens", "3,61"}},
		{1, "token -1", []string{"--model", mini, "--tokens", "-1"}},
		{1, "1.5", []string{"--tokens", "1.5"}},
		{1, "49 48 block_size", []string{"--model", mini, "--tokens", strings.Repeat("1,", 48) + "1"}},
		{1, "256 block_size", []string{"--text", long}},
		{1, empty, []string{"--text", empty}},
		{1, dir, []string{"--text", dir}},
		{1, "missing", []string{"--text", filepath.Join(dir, "missing")}},
		{1, "missing", []string{"--model", filepath.Join(dir, "missing"), "--tokens", "1"}},
		{1, "61 50257", []string{"--model", mini, "--text", long}},
		{1, dir, []string{"--model", mini, "--tokens", "1", "--all_logits", filepath.Join(dir, "none", "x.safetensors")}},
	} {
		clitest.Refuse(t, c.status, strings.Fields(c.words), c.args...)
	}
}
