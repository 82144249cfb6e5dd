package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/tokenizer"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

const golden = "../../rwkv/testdata/golden/"

// generate runs the program with --json and returns what it prints, which must be one object with
// the keys of the contract.
func generate(t *testing.T, args ...string) result {
	t.Helper()
	r0 := clitest.Run(t, append(args, "--json")...)
	out := r0.Stdout
	if r0.Status != 0 || r0.Stderr != "" {
		t.Fatalf("%q: %+v", args, r0)
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	var r result
	if err := d.Decode(&r); err != nil || d.More() || strings.Count(out, "\n") != 1 {
		t.Fatalf("%q prints %q: %v", args, out, err)
	}
	keys := map[string]any{}
	if err := json.Unmarshal([]byte(out), &keys); err != nil || len(keys) < 9 || len(keys) > 10 || keys["tokens"] == nil || keys["prompt_tokens"] == nil {
		t.Fatalf("%q prints %q: %v", args, out, err)
	}
	return r
}

// report is the last line of a run.
var report = regexp.MustCompile(`^Generated text length: (\d+) \| Inference time: \d+\.\d\d seconds \(\d+\.\d tokens/s\)\n$`)

func TestStory(t *testing.T) {
	out := clitest.Succeed(t, "--prompt", "One day", "--max_num_tokens=20", "--seed", "7")
	const head = "Prompt: One day\nGenerated text: "
	story, ok := strings.CutPrefix(out, head)
	end := strings.LastIndex(story, "\nGenerated text length")
	if !ok || end < 0 {
		t.Fatalf("%q", out)
	}
	last := report.FindStringSubmatch(story[end+1:])
	story = story[:end]
	if !strings.HasPrefix(story, "One day") || len(story) < 30 || last == nil || last[1] != fmt.Sprint(utf8.RuneCountInString(story)) {
		t.Errorf("%q", out)
	}
	r := generate(t, "--prompt=One day", "--max_num_tokens", "20", "--seed=7")
	if r.Kind != "reference" || r.Prompt != "One day" || r.Prompt+r.Text != story || !slices.Equal(r.PromptTokens, []int{3198, 1110}) ||
		len(r.Tokens) != 20 || r.FinishReason != "length" || r.Seed != 7 || !(r.Seconds > 0) || !(r.TokensPerSecond > 0) {
		t.Errorf("%+v", r)
	}
	tok, err := tokenizer.Open("gpt2")
	if err != nil || tok.Decode(r.Tokens) != r.Text {
		t.Errorf("the text %q isn't that of tokens %v", r.Text, r.Tokens)
	}

	file := filepath.Join(t.TempDir(), "prompt.txt")
	if err := os.WriteFile(file, []byte("One day"), 0o644); err != nil {
		t.Fatal(err)
	}
	same := generate(t, "--prompt", "FILE:"+file, "--max_num_tokens", "20", "--seed", "7", "--kernel", "generic", "--threads", "1", "--weights", "bf16")
	if same.Text != r.Text {
		t.Errorf("%q from a file, with other kernels: %q", same.Text, r.Text)
	}
	if err := os.WriteFile(file, []byte("caf\xc3"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := clitest.Succeed(t, "--prompt", "FILE:"+file, "--max_num_tokens", "3", "--seed=1"); !strings.HasPrefix(out, "Prompt: caf\ufffd\nGenerated text: caf\ufffd") || !utf8.ValidString(out) {
		t.Errorf("from a file that isn't UTF-8: %q", out)
	}
	if other := generate(t, "--prompt", "One day", "--max_num_tokens", "20", "--seed", "8"); other.Text == r.Text {
		t.Errorf("seeds 7 and 8 both give %q", r.Text)
	}
	if none := generate(t, "--max_num_tokens", "0"); none.Prompt != "\n" || none.Text != "" || len(none.Tokens) != 0 {
		t.Errorf("no tokens: %+v", none)
	}
}

// TestGolden continues ids greedily, as the published implementations do.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(golden + "*/*.expect.json")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want struct {
			Greedy []struct{ Prompt, Output []int }
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		model := clitest.GoldenModel(t, file)
		for _, w := range want.Greedy {
			args := append(slices.Clone(model), "--tokens", list(w.Prompt), "--top_k", "1", "--max_num_tokens", fmt.Sprint(len(w.Output)))
			r := generate(t, args...)
			if !slices.Equal(r.Tokens, w.Output) || !slices.Equal(r.PromptTokens, w.Prompt) || r.Text != "" || r.Prompt != "" {
				t.Errorf("%s: %+v, want tokens %v", model, r, w.Output)
			}
			out := clitest.Succeed(t, append(args, "--weights=f32")...)
			if !strings.HasPrefix(out, fmt.Sprintf("Prompt: %s\nGenerated text: %s\nGenerated text length: %d | Inference time: ", list(w.Prompt), list(w.Output), len(w.Output))) {
				t.Errorf("%s: %q, want tokens %v", model, out, w.Output)
			}
		}
	}
}

func list(ids []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(ids), "[]"), " ", ",")
}

// TestModelName looks for .pt, .pth and .safetensors, in this order.
func TestModelName(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	kind := func(args ...string) string {
		c := clitest.Command(t, append(args, "--model_name", "ckpt", "--tokens=1", "--json")...)
		c.Dir = dir
		r := clitest.Wait(t, c)
		var got result
		if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		return string(got.Kind)
	}
	for _, step := range []struct{ from, to, kind string }{
		{"../../checkpoint/testdata/formats/model.safetensors", "ckpt.safetensors", "reference"},
		{golden + "rwkv7/base.pth", "ckpt.pth", "rwkv7"},
		{golden + "causal/base.pt", "ckpt.pt", "causal"},
	} {
		b, err := os.ReadFile(step.from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, step.to), b, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := kind(); got != step.kind {
			t.Errorf("with %s: %s, want %s", step.to, got, step.kind)
		}
		if got := kind("--out_dir", out); got != step.kind {
			t.Errorf("with %s by --out_dir: %s, want %s", step.to, got, step.kind)
		}
	}
}

// TestRefuses makes every mistake. Nothing is printed but the reason.
func TestRefuses(t *testing.T) {
	const mini = golden + "microrwkv/mini.pt"
	missing, tiny := filepath.Join(t.TempDir(), "missing"), tinyModel(t)
	for _, c := range []struct {
		status int
		words  string
		args   string
	}{
		{2, "nosuch", "--nosuch"},
		{2, "model", "--model"},
		{2, "extra", "prompt extra"},
		{2, "temperature", "--temperature warm"},
		{2, "top_k", "--top_k 1.5"},
		{2, "max_num_tokens", "--max_num_tokens=many"},
		{2, "seed", "--seed -1"},
		{2, "json", "--json=perhaps"},
		{1, "prompt empty", "--prompt="},
		{1, "prompt empty", "--prompt= --json"},
		{1, "prompt empty", "--tokens="},
		{1, "--prompt --tokens", "--tokens 1 --prompt x"},
		{1, "--stop --tokens", "--tokens 1 --stop x"},
		{1, "token -1", "--tokens 3,-1"},
		{1, "token 50304", "--tokens=3,50304"},
		{1, "x integers", "--tokens 3,x"},
		{1, "integers", "--tokens 3,,4"},
		{1, "99999999999999999999", "--tokens 99999999999999999999"},
		{1, "token 61 60", "--model " + mini + " --tokens 61"},
		{1, "tokenizer 50257 61", "--model " + mini + " --prompt Hello"},
		{1, "temperature", "--temperature -1"},
		{1, "temperature NaN", "--temperature nan"},
		{1, "temperature", "--temperature inf --json"},
		{1, "top_k", "--top_k -1"},
		{1, "--top_p", "--top_p -0.1"},
		{1, "--sampler", "--sampler best"},
		{1, "--ban", "--ban 1,x"},
		{1, "token 50304", "--ban 50304"},
		{1, "official min_p", "--sampler official --min_p 0.1"},
		{1, "--logprobs --json", "--logprobs 1"},
		{1, "--logprobs", "--logprobs -2 --json"},
		{1, "--quiet --json", "--quiet --json"},
		{1, "--chat", "--system x"},
		{1, "--think", "--chat --think maybe --prompt x"},
		{1, "--chat empty", "--chat --prompt="},
		{1, "--stop", "--stop \\xz"},
		{2, "twice", "one --prompt two"},
		{1, "top_p", "--top_p 1.01"},
		{1, "top_p", "--top_p nan"},
		{1, "min_p", "--min_p 1"},
		{1, "repetition", "--repetition_penalty 0"},
		{1, "decay", "--penalty_decay 2"},
		{1, "--max_num_tokens -1", "--max_num_tokens -1"},
		{1, "--num_samples 0", "--num_samples 0"},
		{1, "nokernel", "--kernel nokernel"},
		{1, "--weights int3", "--weights int3"},
		{1, "--threads", "--threads -1"},
		{1, "--threads", "--threads 1025"},
		{1, "--when_full", "--when_full stop"},
		{1, "reference", "--when_full half"},
		{1, "kind", "--kind x"},
		{1, "--model --model_name", "--model x --model_name y"},
		{1, "nope out/nope.pt out/nope.pth out/nope.safetensors", "--model_name nope"},
		{1, "elsewhere/nope.pt", "--model_name nope --out_dir elsewhere"},
		{1, missing, "--model " + missing},
		{1, missing, "--prompt FILE:" + missing},
		{1, missing, "--tokenizer " + missing},
		{1, missing, "--load_state " + missing},
		{1, missing, "--save_state " + missing + "/x --max_num_tokens 1"},
		{1, "--save_state", "--save_state x --num_samples 2"},
		{1, mini + " state", "--load_state " + mini},
		{1, "--save_state mini.pt read", "--model " + mini + " --tokens 1 --save_state " + mini},
		{1, "context full 9 8 --when_full", "--model " + tiny + " --tokens 1,2,3,4,5,6,7,8,9 --when_full error"},
		{1, "wrong_shape.pt transformer.h.1.cmix.value.weight [16 47] [16 48]", "--model ../../checkpoint/testdata/hostile/wrong_shape.pt --tokens 1"},
		{1, "nan.pt transformer.ln_f.weight NaN", "--model ../../checkpoint/testdata/hostile/nan.pt --tokens 1"},
	} {
		words := strings.Fields(c.words)
		for i, w := range words {
			if strings.HasPrefix(w, "out/") || strings.HasPrefix(w, "elsewhere/") {
				words[i] = filepath.FromSlash(w)
			}
		}
		clitest.Refuse(t, c.status, words, strings.Fields(c.args)...)
	}
}

// TestSamples makes several texts, each with a seed of its own.
func TestSamples(t *testing.T) {
	out := clitest.Succeed(t, "--prompt", "One day", "--max_num_tokens", "8", "--seed", "3", "--num_samples", "3", "--json")
	var all struct{ Samples []result }
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all.Samples) != 3 {
		t.Fatalf("%q: %v", out, err)
	}
	for i, r := range all.Samples {
		if one := generate(t, "--prompt", "One day", "--max_num_tokens", "8", "--seed", fmt.Sprint(3+i)); one.Text != r.Text {
			t.Errorf("sample %d: %q, alone %q", i, r.Text, one.Text)
		}
	}
	text := clitest.Succeed(t, "--prompt", "One day", "--max_num_tokens", "8", "--seed", "3", "--num_samples", "3")
	if n := strings.Count(text, "| Inference time: "); n != 3 || !strings.Contains(text, all.Samples[2].Text) {
		t.Errorf("%q", text)
	}
}

// TestState continues from saved states as if there had been no break, sampled and greedy.
func TestState(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	for _, model := range []string{"causal/base.pt", "microrwkv/mini.pt", "x051a/base.pt", "rwkv7/base.pth"} {
		for _, sampling := range [][]string{{"--top_k", "1"}, {"--seed", "5", "--temperature", "2"}} {
			args := append([]string{"--model", golden + model}, sampling...)
			whole := generate(t, append(args, "--tokens", "3,1,4", "--max_num_tokens", "20")...)
			a := generate(t, append(args, "--tokens", "3,1,4", "--max_num_tokens", "7", "--save_state", state)...)
			b := generate(t, append(args, "--tokens", "", "--max_num_tokens", "6", "--load_state", state, "--save_state", state)...)
			c := generate(t, append(args, "--tokens", "", "--max_num_tokens", "7", "--load_state", state)...)
			if got := slices.Concat(a.Tokens, b.Tokens, c.Tokens); !slices.Equal(got, whole.Tokens) || len(got) != 20 {
				t.Errorf("%s %v: %v in three parts, %v in one", model, sampling, got, whole.Tokens)
			}
		}
	}
	// text, where no prompt is the default after a state
	whole := generate(t, "--prompt", "One day", "--seed", "4", "--max_num_tokens", "20")
	a := generate(t, "--prompt", "One day", "--seed", "4", "--max_num_tokens", "9", "--save_state", state)
	b := generate(t, "--seed", "4", "--max_num_tokens", "11", "--load_state", state)
	if a.Text+b.Text != whole.Text || b.Prompt != "" || len(b.PromptTokens) != 0 {
		t.Errorf("%q and %q, in one %q", a.Text, b.Text, whole.Text)
	}
	clitest.Refuse(t, 1, []string{state, "another model"}, "--load_state", state, "--model", golden+"causal/base.pt", "--tokens", "1")

	// what can't be written leaves what was there, and nothing else is left
	before, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	clitest.Refuse(t, 1, []string{"not a regular file"}, "--save_state", dir)
	clitest.Refuse(t, 1, []string{"temperature"}, "--save_state", state, "--temperature", "-1")
	after, err := os.ReadFile(state)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the saved state has changed: %v", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files left: %v, %v", files, err)
	}
}

// TestSpecial and the form of a chat change what the model reads.
func TestSpecial(t *testing.T) {
	prompt := tokenizer.EndOfTextName + "One day"
	if r := generate(t, "--prompt", prompt, "--max_num_tokens", "1"); slices.Contains(r.PromptTokens, 50256) || len(r.PromptTokens) < 5 {
		t.Errorf("as text: %v", r.PromptTokens)
	}
	if r := generate(t, "--prompt", prompt, "--max_num_tokens", "1", "--special"); !slices.Equal(r.PromptTokens, []int{50256, 3198, 1110}) {
		t.Errorf("as the end of a text: %v", r.PromptTokens)
	}
	if r := generate(t, "--prompt", "Hi.\n\n\nThere?\n", "--max_num_tokens", "1", "--chat"); r.Prompt != "User: Hi.\nThere?\n\nAssistant:" {
		t.Errorf("chat: %q", r.Prompt)
	}
}

// TestGGUF reads a model with the vocabulary that is in its file, as text and in the form of a chat.
func TestGGUF(t *testing.T) {
	const path = golden + "gguf/rwkv7-q8_0.gguf"
	for _, c := range []struct {
		args   []string
		prompt string
	}{
		{nil, "Hi there"},
		{[]string{"--chat"}, "User: Hi there\n\nAssistant:"},
		{[]string{"--chat", "--think", "on", "--system", "Be kind."}, "System: Be kind.\n\nUser: Hi there\n\nAssistant: <think"},
	} {
		r := generate(t, append([]string{"--model", path, "--prompt", "Hi there", "--max_num_tokens", "5", "--seed", "3"}, c.args...)...)
		if r.Prompt != c.prompt || len(r.PromptTokens) == 0 || len(r.Tokens) != 5 && r.FinishReason == "length" {
			t.Errorf("%v: prompt %q of %d tokens, then %d, %s", c.args, r.Prompt, len(r.PromptTokens), len(r.Tokens), r.FinishReason)
		}
		m, err := rwkv.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		tok, err := m.Tokenizer()
		if err != nil {
			t.Fatal(err)
		}
		if ids, _ := tok.Encode(c.prompt); !slices.Equal(ids, r.PromptTokens) || string([]rune(tok.Decode(r.Tokens))) != r.Text {
			t.Errorf("%v: ids %v, want %v; text %q of %v", c.args, r.PromptTokens, ids, r.Text, r.Tokens)
		}
	}
}

// TestCharacters uses the meta.pkl beside a model that has too few ids for anything else.
func TestCharacters(t *testing.T) {
	dir := t.TempDir()
	for from, to := range map[string]string{golden + "causal/base.pt": "m.pt", "../../tokenizer/testdata/meta_p4.pkl": "meta.pkl"} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := tokenizer.Char(filepath.Join(dir, "meta.pkl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"--tokenizer", filepath.Join(dir, "meta.pkl")}} {
		r := generate(t, append(args, "--model", filepath.Join(dir, "m.pt"), "--prompt", "To be", "--max_num_tokens", "50")...)
		if len(r.PromptTokens) != 5 || len(r.Tokens) != 50 || tok.Decode(r.Tokens) != r.Text {
			t.Errorf("%+v", r)
		}
	}
	clitest.Refuse(t, 1, []string{"☃"}, "--model", filepath.Join(dir, "m.pt"), "--prompt", "a ☃")
}

// TestStdin takes the prompt from a pipe, without the flag and from FILE:-.
func TestStdin(t *testing.T) {
	want := generate(t, "--prompt", "One day", "--seed", "3", "--max_num_tokens", "4")
	run := func(in string, args ...string) result {
		t.Helper()
		c := clitest.Command(t, append(args, "--json", "--seed", "3", "--max_num_tokens", "4")...)
		c.Stdin = strings.NewReader(in)
		r := clitest.Wait(t, c)
		var got result
		if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil {
			t.Fatalf("%q: %+v", args, r)
		}
		return got
	}
	for in, args := range map[string][]string{
		"One day": nil, "One day\n": nil, "One day\r\n": {}, "ignored": {"One day"}, "": {"--prompt", "One day"},
	} {
		if got := run(in, args...); got.Prompt != "One day" || got.Text != want.Text {
			t.Errorf("%q, %q: %+v", in, args, got)
		}
	}
	for prompt, got := range map[string]result{
		"\n":        run(""),
		"One day\n": run("One day\r\n", "--prompt", "FILE:-"),
		"a\r\n":     run("a\r\n", "--binary"),
		"a\tb":      run("", "--prompt", `a\tb`, "--escapes"),
		`a\tb`:      run("", "--prompt", `a\tb`),
	} {
		if got.Prompt != prompt {
			t.Errorf("prompt %q, want %q", got.Prompt, prompt)
		}
	}
	r := clitest.Run(t, "One day", "--quiet", "--max_num_tokens", "4", "--seed", "3")
	if r.Stdout != want.Text+"\n" || !strings.HasPrefix(r.Stderr, "Generated text length: ") {
		t.Errorf("--quiet: %+v", r)
	}
	if r := clitest.Run(t, "One day", "--max_num_tokens", "4"); !strings.HasPrefix(r.Stderr, "seed ") {
		t.Errorf("without a seed: %+v", r)
	} else if again := clitest.Run(t, "One day", "--max_num_tokens", "4", "--seed", strings.TrimSpace(strings.TrimPrefix(r.Stderr, "seed "))); again.Stdout[:40] != r.Stdout[:40] {
		t.Errorf("%q, again %q", r.Stdout, again.Stdout)
	}
}

// TestFullDisk reports what can't be printed.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	for _, args := range [][]string{{}, {"--json"}} {
		c := clitest.Command(t, append(args, "--max_num_tokens", "3")...)
		c.Stdout = full
		if r := clitest.Wait(t, c); r.Status != 1 || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestHelp(t *testing.T) {
	out := clitest.Succeed(t, "--help")
	for _, name := range strings.Fields("model model_name out_dir max_num_tokens temperature top_k top_p seed num_samples stop_at_end prompt tokens weights kernel threads json save_state load_state") {
		if !strings.Contains(out, "  -"+name) {
			t.Errorf("--%s is not in\n%s", name, out)
		}
	}
}
