package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/rwkv/demo"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// script is what a user types.
type script []string

func (s *script) read(string) (string, error) {
	if len(*s) == 0 {
		return "", io.EOF
	}
	line := (*s)[0]
	*s = (*s)[1:]
	return line, nil
}

// say runs a conversation's loop over lines and returns the answers.
func say(t *testing.T, c *conversation, typed ...string) string {
	t.Helper()
	answers, _ := both(t, c, typed)
	return answers
}

// note is say for what is printed beside the answers.
func note(t *testing.T, c *conversation, typed ...string) string {
	t.Helper()
	_, notes := both(t, c, typed)
	return notes
}

func both(t *testing.T, c *conversation, typed script) (answers, notes string) {
	t.Helper()
	var out, beside strings.Builder
	c.out, c.notes = &out, &beside
	if err := c.loop(&typed); err != nil {
		t.Fatal(err)
	}
	return out.String(), beside.String()
}

func saved(t *testing.T, s *rwkv.State) string {
	t.Helper()
	b, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// story returns a conversation with the embedded model.
func story(t *testing.T) *conversation {
	t.Helper()
	m, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open("gpt2")
	if err != nil {
		t.Fatal(err)
	}
	return &conversation{tok: tok, state: m.NewState(), opts: []rwkv.Option{rwkv.MaxTokens(6), rwkv.TopK(5)}, form: chat.Plain, seed: 4}
}

// goose returns a conversation with a little RWKV-7 of random weights.
func goose(t *testing.T) *conversation {
	t.Helper()
	m, err := rwkv.Random(rwkv.Config{Kind: rwkv.RWKV7, NumLayers: 1, NumHeads: 1, EmbedDim: 64, VocabSize: 65536}, tensor.BF16, 1)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open("world")
	if err != nil {
		t.Fatal(err)
	}
	return &conversation{tok: tok, state: m.NewState(), opts: []rwkv.Option{rwkv.MaxTokens(6)}, form: chat.G1, seed: 4}
}

// TestTurns follows a conversation: the state has seen the turns in their form and the answers,
// and nothing else; /undo goes back, /regen answers anew.
func TestTurns(t *testing.T) {
	c := goose(t)
	c.system = "Be kind."
	out := say(t, c, "Hello there.", "", "How\\", "\\", "are you? ")
	want := c.state.Model().NewState()
	var shown strings.Builder
	var states []string
	ask := func(s *rwkv.State, seed uint64, parts ...string) {
		t.Helper()
		for _, text := range parts {
			ids, err := c.tok.Encode(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(ids); err != nil {
				t.Fatal(err)
			}
		}
		var text string
		for piece, err := range s.Generate(t.Context(), c.tok, append(c.opts, rwkv.Seed(seed))...) {
			if err != nil {
				t.Fatal(err)
			}
			text += piece
		}
		if text == "" {
			t.Fatalf("%q has no answer", parts)
		}
		shown.WriteString(strings.TrimLeft(text, " \n") + "\n")
	}
	ask(want, 4, "System: Be kind.\n\nUser: Hello there.\n\nAssistant:")
	first := want.Clone()
	states = append(states, saved(t, want))
	ask(want, 5, "\n\nUser: How\nare you?\n\nAssistant:")
	states = append(states, saved(t, want))
	if out != shown.String() {
		t.Errorf("printed %q, want %q", out, shown.String())
	}
	if saved(t, c.state) != states[1] {
		t.Error("the state differs from one that has seen the conversation")
	}
	shown.Reset()
	ask(first, 6, "\n\nUser: How\nare you?\n\nAssistant:")
	if out := say(t, c, "/regen"); out != shown.String() || saved(t, c.state) != saved(t, first) {
		t.Errorf("/regen prints %q, want %q", out, shown.String())
	}
	if out := note(t, c, "/undo"); !strings.Contains(out, `"How\n`) || saved(t, c.state) != states[0] {
		t.Errorf("/undo prints %q", out)
	}
	if say(t, c, "/undo"); c.state.Len() != 0 {
		t.Error("/undo doesn't take the first exchange back")
	}
	for _, line := range []string{"/undo", "/regen"} {
		if out := note(t, c, line); !strings.HasPrefix(out, "error: ") {
			t.Errorf("%s of nothing prints %q", line, out)
		}
	}
}

// TestPlain goes on with the text, a line for each message.
func TestPlain(t *testing.T) {
	c := story(t)
	out := say(t, c, "One day", "The dog")
	want := c.state.Model().NewState()
	var text string
	for i, message := range []string{"One day", "\nThe dog"} {
		ids, err := c.tok.Encode(message)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.Prompt(ids); err != nil {
			t.Fatal(err)
		}
		for piece, err := range want.Generate(t.Context(), c.tok, append(c.opts, rwkv.Seed(4+uint64(i)))...) {
			if err != nil {
				t.Fatal(err)
			}
			text += piece
		}
		text += "\n"
	}
	if out != text || saved(t, c.state) != saved(t, want) {
		t.Errorf("printed %q, want %q, and the states are the same: %v", out, text, saved(t, c.state) == saved(t, want))
	}
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "with a blank")
	c := story(t)
	say(t, c, "One day", "/save "+file)
	after := saved(t, c.state)
	if b, err := os.ReadFile(file); err != nil || string(b) != after {
		t.Fatalf("the file isn't the state: %v", err)
	}
	if out := note(t, c, "/reset"); strings.Count(out, "\n") != 1 || c.state.Len() != 0 {
		t.Errorf("/reset prints %q and leaves %d tokens", out, c.state.Len())
	}
	if out := note(t, c, "  ", " /load "+file+" "); !strings.HasPrefix(out, "Going on after ") || !strings.Contains(out, file) {
		t.Errorf("/load prints %q", out)
	}
	if saved(t, c.state) != after {
		t.Error("/load isn't back at what was saved")
	}

	other := filepath.Join(dir, "other")
	say(t, goose(t), "Hello.", "/save "+other)
	damaged := filepath.Join(dir, "damaged")
	if err := os.WriteFile(damaged, []byte(after[:len(after)-1]), 0o644); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "model")
	if err := os.WriteFile(model, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.model = model
	for line, words := range map[string]string{
		"/save " + model:                        model + " read",
		"/load /dev/zero":                       "/dev/zero state",
		"/load " + other:                        other + " another model",
		"/load " + damaged:                      damaged + " state",
		"/load " + filepath.Join(dir, "none"):   "none",
		"/load":                                 "/load file",
		"/save":                                 "/save file",
		"/save " + filepath.Join(dir, "x", "y"): "y",
		"/sing":                                 "/sing /help",
	} {
		out := note(t, c, line)
		if !strings.HasPrefix(out, "error: ") || strings.Count(out, "\n") != 1 {
			t.Errorf("%s prints %q", line, out)
		}
		for _, w := range strings.Fields(words) {
			if !strings.Contains(out, w) {
				t.Errorf("%s prints %q, which doesn't name %s", line, out, w)
			}
		}
		if saved(t, c.state) != after {
			t.Errorf("%s changed the conversation", line)
		}
	}
	for _, end := range []string{"/quit", "/exit", " exit ", "quit"} {
		if say(t, c, end, "One day"); saved(t, c.state) != after {
			t.Errorf("%s doesn't end the program", end)
		}
	}
	if out := note(t, c, "/help", "/quit", "One day"); !strings.Contains(out, "/save FILE") || strings.Contains(out, "\n\n\n") || saved(t, c.state) != after {
		t.Errorf("/help and /quit print %q", out)
	}
}

// TestFailedAnswer keeps the conversation.
func TestFailedAnswer(t *testing.T) {
	c := story(t)
	say(t, c, "One day")
	before := saved(t, c.state)
	calls := 0
	c.opts = append(c.opts, rwkv.Bias(func(logits []float32) {
		if calls++; calls > 3 {
			logits[0] = float32(math.NaN())
		}
	}))
	if answer, out := both(t, c, script{"The dog"}); answer == "\n" || !strings.HasPrefix(out, "error: ") || !strings.Contains(out, "NaN") {
		t.Errorf("printed %q and %q", answer, out)
	}
	if saved(t, c.state) != before {
		t.Error("an answer that failed changed the conversation")
	}
}

// TestProgram runs the program over pipes: answers alone are on stdout.
func TestProgram(t *testing.T) {
	c := clitest.Command(t, "--max_num_tokens=4", "--seed", "1", "--top_k", "1")
	c.Stdin = strings.NewReader("One day\r\n/nonsense\n/etc/hosts\n" + strings.Repeat("long ", 30_000) + "\nThe end\\")
	r := clitest.Wait(t, c)
	if lines := strings.Split(r.Stdout, "\n"); r.Status != 1 || len(lines) != 5 || lines[0] != ", a little girl" || lines[3] == "" {
		t.Errorf("%+v", r)
	}
	if !strings.HasPrefix(r.Stderr, "This model") || !strings.Contains(r.Stderr, "\nerror: no command /nonsense") || strings.Count(r.Stderr, "--max_num_tokens") < 3 {
		t.Errorf("stderr %q", r.Stderr)
	}
	for words, args := range map[string]string{
		"--template":    "--template x",
		"--think":       "--think x",
		"--temperature": "--temperature -1",
		"--sampler":     "--sampler x",
		"--ban":         "--ban 1,x",
		"--stop":        "--stop=",
		"missing.pt":    "--model missing.pt",
		"none.pkl":      "--tokenizer none.pkl",
		"/dev/zero":     "--load_state /dev/zero",
	} {
		clitest.Refuse(t, 1, []string{words}, strings.Fields(args)...)
	}
	clitest.Refuse(t, 2, []string{"nosuch"}, "--nosuch")
	clitest.Refuse(t, 2, []string{"extra"}, "extra")
}

// TestThoughts shows what a model thinks on a terminal alone.
func TestThoughts(t *testing.T) {
	c := goose(t)
	c.think = chat.ThinkOn
	script := []string{">", "\n", "h", "m", "</", "think", ">", "\n", "H", "i"}
	calls := 0
	c.opts = append(c.opts, rwkv.MaxTokens(len(script)), rwkv.Bias(func(logits []float32) {
		ids, err := c.tok.Encode(script[calls%len(script)])
		if err != nil || len(ids) != 1 {
			t.Fatal(ids, err)
		}
		calls++
		for id := range logits {
			if id != ids[0] {
				logits[id] = float32(math.Inf(-1))
			}
		}
	}))
	if out := say(t, c, "Hello"); !strings.HasPrefix(out, "Hi\n") {
		t.Errorf("printed %q", out)
	}
	c.styled = true
	if out := say(t, c, "Hello"); !strings.HasPrefix(out, "\x1b[2mh\x1b[22m\x1b[2mm\x1b[22mHi\n") {
		t.Errorf("on a terminal %q", out)
	}
}

// TestWrapper replays what is written on a screen: no word is broken.
func TestWrapper(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"one two three four", []string{"one two", "three four"}},
		{"1234567890 ab", []string{"1234567890", "ab"}},
		{"ab 1234567890", []string{"ab", "1234567890"}},
		{"12345678901234 x", []string{"1234567890", "1234 x"}},
		{"a\nb", []string{"a", "b"}},
		{"你好吗 你好", []string{"你好吗", "你好"}},
		{"dim \x1b[2mwords\x1b[22m here", []string{"dim words", "here"}},
	} {
		for step := range 4 {
			var b strings.Builder
			w := &wrapper{w: &b, width: func() int { return 10 }}
			for _, cluster := range chunks(c.text, step+1) {
				io.WriteString(w, cluster)
			}
			if got := screen(b.String(), 10); strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("%q: %q, want %q", c.text, got, c.want)
			}
		}
	}
}

// chunks cuts text into pieces of n characters, styles whole.
func chunks(text string, n int) (pieces []string) {
	if strings.Contains(text, "\x1b") {
		return []string{text}
	}
	r := []rune(text)
	for len(r) > n {
		pieces, r = append(pieces, string(r[:n])), r[n:]
	}
	return append(pieces, string(r))
}

// screen returns the lines that a terminal of a width shows, without blanks at their ends.
func screen(text string, width int) []string {
	lines := []string{""}
	for text != "" {
		last := len(lines) - 1
		var n int
		if _, err := fmt.Sscanf(text, "\x1b[%dD\x1b[K\n", &n); err == nil && strings.Contains(text[:min(len(text), 8)], "D") {
			for uniseg.StringWidth(lines[last]) > 0 && n > 0 {
				r := []rune(lines[last])
				n -= uniseg.StringWidth(string(r[len(r)-1]))
				lines[last] = string(r[:len(r)-1])
			}
			lines = append(lines, "")
			text = text[strings.Index(text, "\n")+1:]
			continue
		}
		if text[0] == 27 {
			text = text[strings.IndexByte(text, 'm')+1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		if r == '\n' {
			lines = append(lines, "")
			continue
		}
		if uniseg.StringWidth(lines[last]+string(r)) > width {
			lines = append(lines, "")
			last++
		}
		lines[last] += string(r)
	}
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// TestInterrupt stops an answer, after which the program goes on.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process can't send Ctrl-C there")
	}
	c := clitest.Command(t, "--max_num_tokens=1000000")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "One day\n")
	b := make([]byte, 1000)
	if _, err := out.Read(b); err != nil { // it answers
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "/sing\n")
	in.Close()
	if rest, err := io.ReadAll(out); err != nil || !strings.HasSuffix(string(rest), "\n") {
		t.Errorf("%q, %v", rest, err)
	}
	c.Wait()
	if !strings.HasSuffix(errs.String(), "\nerror: no command /sing; /help lists them\n") || c.ProcessState.ExitCode() != 1 {
		t.Errorf("%v, %q", c.ProcessState, errs.String())
	}
}

// TestGGUF talks to a quantized model, whose vocabulary is in its file.
func TestGGUF(t *testing.T) {
	const path = "../../rwkv/testdata/golden/gguf/rwkv7-q8_0.gguf"
	dir := t.TempDir()
	state := filepath.Join(dir, "a.state")
	talk := func(lines string, args ...string) string {
		t.Helper()
		c := clitest.Command(t, append([]string{"--model", path, "--max_num_tokens", "4", "--seed", "5"}, args...)...)
		c.Stdin = strings.NewReader(lines)
		r := clitest.Wait(t, c)
		if r.Status != 0 {
			t.Fatalf("status %d: %s", r.Status, r.Stderr)
		}
		return r.Stdout
	}
	one := talk("Hello\n/save " + state + "\nHow are you?\n")
	if len(one) < 4 {
		t.Errorf("answers %q", one)
	}
	if again := talk("Hello\n/save " + state + "\nHow are you?\n"); again != one {
		t.Errorf("%q, then %q", one, again)
	}
	if more := talk("How are you?\n", "--load_state", state); more == "" || !strings.Contains(one, more[:1]) {
		t.Errorf("%q after %q", more, one)
	}
}
