package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// TestStopAtEnd continues a text that the embedded model ends in its seventh token.
func TestStopAtEnd(t *testing.T) {
	const prompt = "They were happy."
	on := generate(t, "--prompt", prompt, "--top_k", "1", "--max_num_tokens", "12")
	off := generate(t, "--prompt", prompt, "--top_k", "1", "--max_num_tokens", "12", "--stop_at_end", "false")
	if len(off.Tokens) != 12 {
		t.Fatalf("without a stop: %d tokens", len(off.Tokens))
	}
	end := slices.Index(off.Tokens, 50256)
	if end < 1 {
		t.Fatalf("no end in %q", off.Text)
	}
	if !slices.Equal(on.Tokens, off.Tokens[:end]) {
		t.Errorf("stopped after %v, want %v", on.Tokens, off.Tokens[:end])
	}
	ids := generate(t, "--tokens", list(on.PromptTokens), "--top_k", "1", "--max_num_tokens", "12")
	if !slices.Equal(ids.Tokens, on.Tokens) {
		t.Errorf("ids in and out: %v, want %v", ids.Tokens, on.Tokens)
	}
	ids = generate(t, "--tokens", list(on.PromptTokens), "--top_k", "1", "--max_num_tokens", "12", "--stop_at_end=False")
	if !slices.Equal(ids.Tokens, off.Tokens) {
		t.Errorf("ids in and out without a stop: %v, want %v", ids.Tokens, off.Tokens)
	}
}

func TestStopString(t *testing.T) {
	whole := generate(t, "--prompt", "One day", "--top_k", "1", "--max_num_tokens", "30")
	at := strings.Index(whole.Text, "mom. They")
	if at < 0 {
		t.Fatalf("%q", whole.Text)
	}
	if r := generate(t, "--prompt", "One day", "--top_k", "1", "--stop", "never", "--stop", "mom. They"); r.Text != whole.Text[:at] {
		t.Errorf("%q, want %q", r.Text, whole.Text[:at])
	}
}

// TestInterrupt ends a long generation by Ctrl-C and SIGTERM: the text so far and the report are there,
// with --json as one object, one line says why, and no file is left.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process can't send Ctrl-C there")
	}
	for i, args := range [][]string{{}, {"--json"}} {
		dir := t.TempDir()
		c := clitest.Command(t, append(args, "--prompt", "One day", "--max_num_tokens", "1000000", "--stop_at_end=false", "--save_state", filepath.Join(dir, "state"))...)
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(700 * time.Millisecond)
		if err := c.Process.Signal([]os.Signal{os.Interrupt, syscall.SIGTERM}[i]); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		if c.ProcessState.ExitCode() != 1 || stderr.String() != "error: interrupted\n" {
			t.Errorf("%v: %v, stderr %q", args, c.ProcessState, stderr.String())
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
		if err != nil || len(files) > 0 {
			t.Errorf("files left: %v, %v", files, err)
		}
		out := stdout.String()
		if out == "" { // it came while the model was being opened
			continue
		}
		if len(args) > 0 {
			var r result
			if err := json.Unmarshal([]byte(out), &r); err != nil || r.FinishReason != "interrupted" || r.Text == "" || len(r.Tokens) == 0 {
				t.Errorf("%v: stdout %q", args, out)
			}
		} else if !strings.HasPrefix(out, "Prompt: One day\nGenerated text: One day") || !strings.Contains(out, " | Inference time: ") || !utf8.ValidString(out) {
			t.Errorf("stdout %q", out)
		}
	}
}

// tinyModel writes a model of 8 positions and returns its path.
func tinyModel(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.safetensors")
	m, err := rwkv.Random(rwkv.Config{Kind: rwkv.X051a, BlockSize: 8, VocabSize: 50304, NumLayers: 1, NumHeads: 1, EmbedDim: 4}, tensor.BF16, 1)
	if err == nil {
		err = m.Save(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFull warns of a long prompt, and says with --when_full error what was there when the context was full.
func TestFull(t *testing.T) {
	tiny := tinyModel(t)
	r := clitest.Run(t, "--model", tiny, "--tokens", "1,2,3,4,5,6,7,8,9,10", "--max_num_tokens", "2", "--seed", "1")
	if r.Status != 0 || !strings.Contains(r.Stderr, "warning: ") || !strings.Contains(r.Stderr, "10 tokens") || !strings.Contains(r.Stderr, "newest 8") {
		t.Errorf("%+v", r)
	}
	r = clitest.Run(t, "--model", tiny, "--tokens", "1,2,3,4,5", "--max_num_tokens", "20", "--when_full", "error", "--json")
	var got result
	if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil || got.FinishReason != "full" || len(got.Tokens) != 4 || r.Status != 1 || !strings.Contains(r.Stderr, "full") {
		t.Errorf("%+v: %v", r, err)
	}
}

// TestReasons tells why texts end.
func TestReasons(t *testing.T) {
	whole := generate(t, "--prompt", "One day", "--top_k", "1", "--max_num_tokens", "30")
	for want, args := range map[rwkv.Reason][]string{
		"length": {"--prompt", "One day", "--max_num_tokens", "3"},
		"stop":   {"--prompt", "One day", "--top_k", "1", "--stop", whole.Text[5:9]},
		"end":    {"--prompt", "They were happy.", "--top_k", "1", "--max_num_tokens", "12"},
	} {
		if r := generate(t, args...); r.FinishReason != want {
			t.Errorf("%q: %s, want %s", args, r.FinishReason, want)
		}
	}
	r := generate(t, "--prompt", "One day", "--temperature", "0", "--max_num_tokens", "5", "--logprobs", "2")
	if len(r.LogProbs) != 5 || len(r.LogProbs[4].Top) != 2 || r.LogProbs[4].Top[0].Token != r.Tokens[4] || *r.LogProbs[4].LogProb != *r.LogProbs[4].Top[0].LogProb ||
		!(*r.LogProbs[4].Top[1].LogProb < *r.LogProbs[4].Top[0].LogProb) {
		t.Errorf("%+v", r)
	}
}

// TestStopStringLeavesNothing: tokens and the saved state end where the text does.
func TestStopStringLeavesNothing(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	greedy := []string{"--top_k", "1", "--max_num_tokens", "30"}
	whole := generate(t, append(greedy, "--prompt", "One day")...)
	at := strings.Index(whole.Text, " mom. They") // where a token ends
	r := generate(t, append(greedy, "--prompt", "One day", "--stop", " mom. They", "--save_state", state)...)
	tok, err := tokenizer.Open("gpt2")
	if err != nil || at < 0 || r.Text != whole.Text[:at] || tok.Decode(r.Tokens) != r.Text {
		t.Fatalf("%+v, %v", r, err)
	}
	if on := generate(t, "--load_state", state, "--top_k", "1", "--max_num_tokens", "3"); !strings.HasPrefix(whole.Text[at:], on.Text[:3]) {
		t.Errorf("it goes on with %q, not %q", on.Text, whole.Text[at:])
	}
}
