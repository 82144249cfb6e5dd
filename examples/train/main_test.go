package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// input writes a text to train on.
func input(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("It was the best of times, it was the worst of times.\n", 40)), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// tiny are flags for a model that trains at once.
func tiny(args ...string) []string {
	return append([]string{"--kind", "x051a", "--n_layer=1", "--n_head", "2", "--n_embd", "16", "--block_size", "16", "--batch_size", "2", "--eval_iters", "2", "--warmup_iters", "2"}, args...)
}

type line struct {
	Iter      int
	Loss      *float64
	GradNorm  float64  `json:"grad_norm"`
	TrainLoss *float64 `json:"train_loss"`
	ValLoss   *float64 `json:"val_loss"`
}

func lines(t *testing.T, out string) (list []line) {
	t.Helper()
	for s := range strings.Lines(out) {
		var l line
		if err := json.Unmarshal([]byte(s), &l); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		list = append(list, l)
	}
	return list
}

func weights(t *testing.T, path string) []float32 {
	t.Helper()
	m, err := rwkv.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var all []float32
	for _, n := range m.Tensors() {
		all = append(all, n.Tensor.Float32().Data()...)
	}
	return all
}

// TestTrain runs to the end: a log of steps and evaluations, a checkpoint with its vocabulary, pictures.
func TestTrain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "out")
	out := clitest.Succeed(t, tiny("--data", input(t), "--max_iters", "5", "--eval_interval", "2", "--log", "json", "--out_dir", dir)...)
	var steps, evals []int
	for _, l := range lines(t, out) {
		if l.Loss != nil {
			steps = append(steps, l.Iter)
		} else if l.TrainLoss != nil && l.ValLoss != nil {
			evals = append(evals, l.Iter)
		}
	}
	if !slices.Equal(steps, []int{0, 1, 2, 3, 4}) || !slices.Equal(evals, []int{0, 2, 4, 5}) {
		t.Errorf("steps %v, evaluations %v", steps, evals)
	}
	for _, name := range []string{"ckpt.pt", "meta.pkl", "loss.png", "loss.svg"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := checkpoint.Open(filepath.Join(dir, "ckpt.pt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, v := range []string{"iter_num", "best_val_loss", "optimizer", "model_args", "config", "rng"} {
		if _, ok := f.Value(v); !ok {
			t.Errorf("no %s in the checkpoint", v)
		}
	}
	m, err := rwkv.Open(filepath.Join(dir, "ckpt.pt"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if tok, err := m.Tokenizer(); err != nil || tok.VocabSize() != m.Config().VocabSize {
		t.Errorf("tokenizer of the model: %v", err)
	}
	text := clitest.Succeed(t, tiny("--data", input(t), "--max_iters", "3", "--eval_interval", "2", "--out_dir", dir, "--sample", "20")...)
	for _, want := range []string{"x051a: ", "iter 0: loss ", " tok/s", "step 2: train loss ", "val loss", "  | ", "└"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the log:\n%s", want, text)
		}
	}
}

// TestGoOn stops after some steps and goes on with nothing but --init_from resume: the weights are those
// of the unbroken run, on any number of threads.
func TestGoOn(t *testing.T) {
	data, a, b := input(t), t.TempDir(), t.TempDir()
	flags := tiny("--data", data, "--eval_interval", "2", "--lr_decay_iters", "6", "--log", "json")
	clitest.Succeed(t, append(flags, "--max_iters", "6", "--out_dir", a, "--threads", "1")...)
	clitest.Succeed(t, append(flags, "--max_iters", "3", "--out_dir", b, "--threads", "3")...)
	clitest.Succeed(t, "--init_from", "resume", "--max_iters", "6", "--out_dir", b)
	if !slices.Equal(weights(t, filepath.Join(a, "ckpt.pt")), weights(t, filepath.Join(b, "ckpt.pt"))) {
		t.Error("other weights")
	}
	c := t.TempDir() // weights alone, and another kind of data
	clitest.Succeed(t, "--init_from", filepath.Join(a, "ckpt.pt"), "--data", data, "--max_iters", "1", "--out_dir", c, "--block_size", "8")
	state := filepath.Join(c, "state.pth")
	clitest.Succeed(t, "--init_from", filepath.Join(a, "ckpt.pt"), "--tune_state", state, "--data", data, "--max_iters", "2", "--out_dir", c)
	f, err := checkpoint.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if names := f.Names(); !slices.Equal(names, []string{"blocks.0.att.time_state"}) {
		t.Errorf("states %v", names)
	}
	clitest.Refuse(t, 1, []string{"n_embd = 16", "--n_embd 32"}, "--init_from", "resume", "--n_embd", "32", "--out_dir", a)
	clitest.Succeed(t, "--init_from", "resume", "--max_iters", "2", "--out_dir", c) // whose shape no flag told
}

// TestShapeOfRWKV7 has the sizes that only this kind has as flags.
func TestShapeOfRWKV7(t *testing.T) {
	dir := t.TempDir()
	clitest.Succeed(t, "--data", input(t), "--kind", "rwkv7", "--n_layer", "1", "--n_embd", "64", "--head_size", "32", "--dim_ffn", "48", "--block_size", "8", "--batch_size", "2",
		"--eval_iters", "1", "--max_iters", "1", "--out_dir", dir, "--log", "json")
	m, err := rwkv.Open(filepath.Join(dir, "ckpt.pt"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if c := m.Config(); c.NumHeads != 2 || c.FFNDim != 48 {
		t.Errorf("%d heads, inner width %d", c.NumHeads, c.FFNDim)
	}
	clitest.Refuse(t, 1, []string{"head_size = 32", "--head_size 64"}, "--init_from", "resume", "--head_size", "64", "--out_dir", dir)
}

// steady are flags for a model that saves after each step.
func steady(data, dir string, args ...string) []string {
	return append(tiny("--data", data, "--max_iters", "1000000", "--eval_interval", "1", "--log", "json", "--out_dir", dir), args...)
}

// TestKilled ends the program without a warning, while it saves again and again: what is there is a whole
// checkpoint, with which the next run goes on.
func TestKilled(t *testing.T) {
	data, dir := input(t), t.TempDir()
	for i := range 5 {
		args := steady(data, dir, "--n_embd", "64")
		if i > 0 {
			args = []string{"--init_from", "resume", "--out_dir", dir}
		}
		c := clitest.Command(t, args...)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		s := bufio.NewScanner(out)
		for n := 0; n < 8 && s.Scan(); n++ { // it has saved
		}
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		c.Process.Kill()
		c.Wait()
		if len(weights(t, filepath.Join(dir, "ckpt.pt"))) == 0 {
			t.Fatal("no weights")
		}
	}
	f, err := checkpoint.Open(filepath.Join(dir, "ckpt.pt"))
	if err != nil {
		t.Fatal(err)
	}
	v, _ := f.Value("iter_num")
	done, _ := v.(int64)
	f.Close()
	clitest.Succeed(t, "--init_from", "resume", "--max_iters", fmt.Sprint(done+1), "--out_dir", dir)
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFullDisk fails to save, says why, and leaves the checkpoint before.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs a small file system")
	}
	data, dir := input(t), t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no right to mount: %s", out)
	}
	defer exec.Command("umount", dir).Run()
	path := filepath.Join(dir, "ckpt.pt")
	clitest.Succeed(t, steady(data, dir, "--max_iters", "2")...)
	want := weights(t, path)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil { // to the last page
		_, err = f.Write(make([]byte, 4096))
	}
	f.Truncate(must(f.Seek(0, io.SeekCurrent)) - 16<<10)
	f.Close()
	r := clitest.Run(t, "--init_from", "resume", "--max_iters", "4", "--eval_interval", "1", "--out_dir", dir)
	if r.Status != 1 || !strings.Contains(r.Stderr, "no space left") || strings.Count(r.Stderr, "\n") != 1 {
		t.Errorf("status %d: %q", r.Status, r.Stderr)
	}
	if !slices.Equal(weights(t, path), want) {
		t.Error("another checkpoint than before")
	}
	os.Remove(filler)
	clitest.Succeed(t, "--init_from", "resume", "--max_iters", "4", "--out_dir", dir)
}

// must panics if there is an error.
func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// TestOtherVocabularies refuses data whose ids contradict their meta.pkl, or that of the model.
func TestOtherVocabularies(t *testing.T) {
	data, out := input(t), t.TempDir()
	clitest.Succeed(t, tiny("--data", data, "--max_iters", "0", "--out_dir", out)...)
	folder := func(chars string, last byte) string {
		dir := t.TempDir()
		var meta bytes.Buffer
		if err := tokenizer.WriteMeta(&meta, []rune(chars)); err != nil {
			t.Fatal(err)
		}
		ids := bytes.Repeat([]byte{1, 0}, 40)
		for name, b := range map[string][]byte{"meta.pkl": meta.Bytes(), "train.bin": ids, "val.bin": append(bytes.Clone(ids), last, 0)} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	beyond := folder("abc", 3)
	clitest.Refuse(t, 1, []string{filepath.Join(beyond, "val.bin"), "id 3 at byte 80"}, tiny("--dataset", beyond, "--out_dir", t.TempDir())...)
	others := folder("abc", 2)
	clitest.Refuse(t, 1, []string{others, "id 0 is 'a'", filepath.Join(out, "meta.pkl")}, "--init_from", filepath.Join(out, "ckpt.pt"), "--dataset", others, "--block_size", "8", "--out_dir", t.TempDir())
	empty := filepath.Join(t.TempDir(), "empty.txt")
	os.WriteFile(empty, nil, 0o666)
	clitest.Refuse(t, 1, []string{empty, "no text"}, tiny("--data", empty, "--out_dir", t.TempDir())...)
}

// TestInterrupt saves at Ctrl-C and ends well.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	dir := t.TempDir()
	c := clitest.Command(t, tiny("--data", input(t), "--max_iters", "1000000", "--eval_interval", "1000000", "--log", "json", "--out_dir", dir)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	for i := 0; s.Scan(); i++ {
		if i == 5 {
			c.Process.Signal(os.Interrupt)
		}
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(weights(t, filepath.Join(dir, "ckpt.pt"))) == 0 {
		t.Error("no weights")
	}
}

// TestRefuses says what is wrong before the first step.
func TestRefuses(t *testing.T) {
	data, dir := input(t), t.TempDir()
	bad := filepath.Join(t.TempDir(), "bad.jsonl")
	if err := os.WriteFile(bad, []byte(`{"x":[[1]],"y":[[2]]}`+"\n"+`{"x":[[1]],"y":[[70]]}`+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, words string }{
		{"", "--data --dataset --batches"},
		{"--dataset x --data " + data, "--data --dataset"},
		{"--data none", "none no_such_file"},
		{"--dropout 0.1 --data " + data, "--dropout 0.1"},
		{"--device cuda --data " + data, "--device cuda"},
		{"--compile true --data " + data, "--compile"},
		{"--kind gpt --data " + data, "gpt"},
		{"--block_size 5000 --data " + data, "block_size"},
		{"--n_embd 15 --data " + data, "n_embd 15"},
		{"--vocab_size 3 --data " + data, "vocabulary model"},
		{"--batches " + bad, "--vocab_size"},
		{"--batches " + bad + " --vocab_size 65 --max_iters 1", bad + " line_2"},
		{"--init_from resume --data " + data, "ckpt.pt"},
		{"--kernel none --data " + data, "--kernel"},
		{"--tokenizer none --data " + data, "none"},
		{"--learning_rate -1 --data " + data, "learning_rate"},
		{"--threads 5000 --data " + data, "--threads 5000"},
		{"--head_size 32 --kind x051a --data " + data, "--head_size x051a"},
		{"--head_size 48 --kind rwkv7 --data " + data, "--head_size 48 n_embd"},
	} {
		var words []string
		for _, w := range strings.Fields(c.words) {
			words = append(words, strings.ReplaceAll(w, "_such_", " such ")) // one word of two
		}
		for i, w := range words {
			words[i] = strings.ReplaceAll(w, "line_2", "line 2")
		}
		clitest.Refuse(t, 1, words, append(strings.Fields(c.args), "--out_dir", dir)...)
	}
	clitest.Refuse(t, 2, []string{"-nothing"}, "--nothing", "1")
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("files left: %v", files)
	}
}

// TestCheckpointsOnly trains kinds that there are no new models of: their states, which fit the model, and
// their weights, then goes on with those.
func TestCheckpointsOnly(t *testing.T) {
	data := input(t)
	for _, k := range []rwkv.Kind{rwkv.RWKV5, rwkv.RWKV6} {
		dir := t.TempDir()
		clitest.Refuse(t, 1, []string{string(k), "begin with a checkpoint"}, tiny("--kind", string(k), "--data", data, "--out_dir", dir)...)
		m, err := rwkv.Random(rwkv.Config{Kind: k, VocabSize: 30, NumLayers: 1, NumHeads: 2, EmbedDim: 16}, tensor.F32, 1)
		if err != nil {
			t.Fatal(err)
		}
		model, state := filepath.Join(dir, "model.pth"), filepath.Join(dir, "state.pth")
		if err := m.Save(model); err != nil {
			t.Fatal(err)
		}
		flags := []string{"--init_from", model, "--data", data, "--max_iters", "3", "--block_size", "20", "--batch_size", "2", "--eval_iters", "2", "--out_dir", dir}
		clitest.Succeed(t, append(flags, "--tune_state", state)...)
		tuned, err := rwkv.Open(model, rwkv.InitialState(state))
		if err != nil {
			t.Fatal(err)
		}
		tuned.Close()
		clitest.Succeed(t, append(flags, "--lr_decay_iters", "5")...)
		clitest.Succeed(t, "--init_from", "resume", "--max_iters", "5", "--out_dir", dir)
		b := t.TempDir()
		clitest.Succeed(t, append(flags, "--lr_decay_iters", "5", "--max_iters", "5", "--out_dir", b)...)
		if !slices.Equal(weights(t, filepath.Join(dir, "ckpt.pt")), weights(t, filepath.Join(b, "ckpt.pt"))) {
			t.Errorf("%s: other weights than of the unbroken run", k)
		}
	}
}
