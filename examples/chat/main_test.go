package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"microrwkv/examples/internal/cli"
	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
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

// say runs a conversation's loop over lines and returns what is printed.
func say(t *testing.T, c *chat, typed ...string) string {
	t.Helper()
	var out bytes.Buffer
	c.out = &out
	s := script(typed)
	if err := c.loop(&s); err != nil {
		t.Fatal(err)
	}
	return out.String()
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
func story(t *testing.T) *chat {
	t.Helper()
	m, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open("gpt2")
	if err != nil {
		t.Fatal(err)
	}
	return &chat{tok: tok, state: m.NewState(), opts: []rwkv.Option{rwkv.MaxTokens(6), rwkv.TopK(5)}, seed: 4}
}

// goose returns a conversation with a little RWKV-7 of random weights.
func goose(t *testing.T) *chat {
	t.Helper()
	m, err := rwkv.Random(rwkv.Config{Kind: rwkv.RWKV7, NumLayers: 1, NumHeads: 1, EmbedDim: 64, VocabSize: 65536}, tensor.BF16, 1)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open("world")
	if err != nil {
		t.Fatal(err)
	}
	return &chat{tok: tok, state: m.NewState(), opts: []rwkv.Option{rwkv.MaxTokens(6)}, turns: true, seed: 4}
}

// TestTurns follows a conversation: the state has seen the turns in their form and the answers,
// and nothing else.
func TestTurns(t *testing.T) {
	c := goose(t)
	out := say(t, c, "Hello there.", "", "How\\", "\\", "are you? ")
	want := c.state.Model().NewState()
	var shown strings.Builder
	read := func(text string) {
		ids, err := c.tok.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := want.Append(ids); err != nil {
			t.Fatal(err)
		}
	}
	for i, turn := range []string{"User: Hello there.\n\nAssistant:", "\n\nUser: How\nare you?\n\nAssistant:"} {
		read(turn)
		var text string
		for piece, err := range want.Clone().Generate(t.Context(), c.tok, append(c.opts, rwkv.Seed(4+uint64(i)))...) {
			if err != nil {
				t.Fatal(err)
			}
			text += piece
		}
		if text == "" {
			t.Fatalf("turn %d has no answer", i)
		}
		read(strings.TrimRight(text, " \n"))
		shown.WriteString(strings.TrimLeft(text, " ") + "\n")
	}
	if out != shown.String()+"\n" {
		t.Errorf("printed %q, want %q", out, shown.String())
	}
	if saved(t, c.state) != saved(t, want) {
		t.Error("the state differs from one that has seen the conversation")
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
	if out != text+"\n" || saved(t, c.state) != saved(t, want) {
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
	if out := say(t, c, "/reset"); out != "\n" || c.state.Len() != 0 {
		t.Errorf("/reset prints %q and leaves %d tokens", out, c.state.Len())
	}
	if out := say(t, c, "  ", " /load "+file+" "); out != "\n" {
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
	for line, words := range map[string]string{
		"/load " + other:                        other + " another model",
		"/load " + damaged:                      damaged + " state",
		"/load " + filepath.Join(dir, "none"):   "none",
		"/load":                                 "/load file",
		"/save":                                 "/save file",
		"/save " + filepath.Join(dir, "x", "y"): "y",
		"/sing":                                 "/sing /help",
	} {
		out := say(t, c, line)
		if !strings.HasPrefix(out, "error: ") || strings.Count(out, "\n") != 2 { // the line, and the end
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
	if out := say(t, c, "/help", "/quit", "One day"); !strings.Contains(out, "/save FILE") || strings.Contains(out, "\n\n\n") || saved(t, c.state) != after {
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
	if out := say(t, c, "The dog"); strings.HasPrefix(out, "error: ") || !strings.Contains(out, "\nerror: ") || !strings.Contains(out, "NaN") {
		t.Errorf("printed %q", out)
	}
	if saved(t, c.state) != before {
		t.Error("an answer that failed changed the conversation")
	}
}

// TestProgram runs the program over a pipe.
func TestProgram(t *testing.T) {
	c := clitest.Command(t, "--max_num_tokens=4", "--seed", "1", "--top_k", "1")
	c.Stdin = strings.NewReader("One day\r\n/nonsense\n" + strings.Repeat("long ", 30_000) + "\nThe end")
	r := clitest.Wait(t, c)
	if lines := strings.Split(r.Stdout, "\n"); r.Status != 0 || r.Stderr != "" || len(lines) != 6 || lines[0] != ", a little girl" ||
		!strings.HasPrefix(lines[1], "error: no command /nonsense") {
		t.Errorf("%+v", r)
	}
	for words, args := range map[string]string{
		"--format":    "--format x",
		"temperature": "--temperature 0",
		"missing.pt":  "--model missing.pt",
		"none.pkl":    "--tokenizer none.pkl",
	} {
		clitest.Refuse(t, 1, []string{words}, strings.Fields(args)...)
	}
	clitest.Refuse(t, 2, []string{"nosuch"}, "--nosuch")
	clitest.Refuse(t, 2, []string{"extra"}, "extra")
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
	rest, err := io.ReadAll(out)
	if err != nil || !strings.HasSuffix(string(rest), "\nerror: no command /sing; /help lists them\n\n") {
		t.Errorf("%q, %v", rest, err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// The stop string is what begins a turn.
func TestEndOfTurn(t *testing.T) {
	if turn := cli.Turn("x", false); !strings.HasPrefix(turn, cli.EndOfTurn) {
		t.Errorf("%q ends an answer, %q follows it", cli.EndOfTurn, turn)
	}
}
