// Chat talks with a language model, line by line, over one State.
//
//	go run ./examples/chat --model RWKV-x070-World-0.4B.pth
//
// Lines that begin with a slash are commands: /reset forgets everything, /save FILE and /load FILE
// keep the conversation, /help lists them. Ctrl-C stops an answer, Ctrl-D ends the program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/tokenizer"
)

const help = `/reset       forget everything
/save FILE   save the conversation
/load FILE   go on with a saved one
/help        this list
/quit        end, as Ctrl-D`

func main() {
	var model cli.ModelFlags
	fs := flag.NewFlagSet("chat", flag.ContinueOnError)
	model.Register(fs)
	format := fs.String("format", "auto", "chat: User/Assistant turns, plain: text to continue (default: chat for RWKV-7)")
	maxTokens := fs.Int("max_num_tokens", 400, "tokens of an answer")
	temperature := fs.Float64("temperature", 0.8, "below 1 makes likely tokens likelier")
	topK := fs.Int("top_k", 50, "sample from the k likeliest tokens; 0: off")
	topP := fs.Float64("top_p", 0.9, "sample from the fewest tokens whose probabilities add up to this")
	seed := fs.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the samples")
	tok := fs.String("tokenizer", "", "gpt2, world, or the path of a meta.pkl (default: what fits the model)")
	cli.Parse(fs, os.Args[1:])

	err := func() error {
		m, err := model.Open()
		if err != nil {
			return err
		}
		defer m.Close()
		t, err := cli.Tokenizer(*tok, m)
		if err != nil {
			return err
		}
		c := &chat{model: m, tok: t, state: m.NewState(), out: os.Stdout, seed: *seed}
		switch *format {
		case "auto":
			c.turns = m.Config().Kind == rwkv.RWKV7
		case "chat":
			c.turns = true
		case "plain":
		default:
			return fmt.Errorf("--format %q: want auto, chat or plain", *format)
		}
		c.opts = []rwkv.Option{rwkv.MaxTokens(*maxTokens), rwkv.Temperature(*temperature), rwkv.TopK(*topK), rwkv.TopP(*topP)}
		if err := rwkv.CheckOptions(c.opts...); err != nil {
			return err
		}
		return c.loop(newLines())
	}()
	if err != nil {
		cli.Fail(err)
	}
}

// chat is a conversation.
type chat struct {
	model *rwkv.Model
	tok   tokenizer.Tokenizer
	state *rwkv.State
	opts  []rwkv.Option
	turns bool // in the official form of RWKV models, else text that is continued
	seed  uint64
	out   io.Writer
}

// loop reads lines until there are no more.
func (c *chat) loop(in lines) error {
	for {
		line, err := in.read("> ")
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(c.out)
			return nil
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if strings.HasPrefix(line, "/") {
			quit, err := c.command(line)
			if quit {
				return nil
			}
			if err != nil {
				fmt.Fprintln(c.out, "error:", err)
			}
			continue
		}
		if err := c.answer(line); err != nil {
			fmt.Fprintln(c.out, "error:", err)
		}
	}
}

// command runs a line that begins with a slash.
func (c *chat) command(line string) (quit bool, err error) {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	arg = strings.TrimSpace(arg)
	if (name == "/save" || name == "/load") && arg == "" {
		return false, fmt.Errorf("%s needs a file", name)
	}
	switch name {
	case "/quit":
		return true, nil
	case "/help":
		fmt.Fprintln(c.out, help)
	case "/reset":
		c.state.Reset()
	case "/save":
		b, err := c.state.MarshalBinary()
		if err != nil {
			return false, err
		}
		return false, os.WriteFile(arg, b, 0o644)
	case "/load":
		b, err := os.ReadFile(arg)
		if err != nil {
			return false, err
		}
		return false, c.state.UnmarshalBinary(b)
	default:
		return false, fmt.Errorf("no command %s; /help lists them", name)
	}
	return false, nil
}

// answer appends a message and streams what the model says to it. Ctrl-C ends the answer alone.
func (c *chat) answer(message string) error {
	prompt := message
	opts := append(c.opts[:len(c.opts):len(c.opts)], rwkv.Seed(c.seed))
	c.seed++
	if c.turns {
		prompt = turn(message)
		if c.state.Len() > 0 {
			prompt = "\n\n" + prompt
		}
		opts = append(opts, rwkv.StopStrings("\n\nUser:"))
	}
	ids, err := c.tok.Encode(prompt)
	if err != nil {
		return err
	}
	if err := c.state.Prompt(ids, opts...); err != nil {
		return err
	}
	before := c.state.Clone()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var text strings.Builder
	for piece, err := range c.state.Generate(ctx, c.tok, opts...) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			return err
		}
		text.WriteString(piece)
		fmt.Fprint(c.out, piece)
	}
	fmt.Fprintln(c.out)
	if !c.turns {
		return nil
	}
	// The state may have seen the beginning of the next turn, which the model made up: go back, and
	// keep what was said.
	c.state = before
	ids, err = c.tok.Encode(strings.TrimRight(text.String(), "\n"))
	if err != nil {
		return err
	}
	_, err = c.state.Append(ids)
	return err
}

// turn puts a message into the official form: no blank lines inside, no space after the colon,
// which begins the answer's first token.
func turn(message string) string {
	var kept []string
	for line := range strings.Lines(strings.ReplaceAll(strings.TrimSpace(message), "\r\n", "\n")) {
		if line = strings.TrimRight(line, "\n"); strings.TrimSpace(line) != "" {
			kept = append(kept, line)
		}
	}
	return "User: " + strings.Join(kept, "\n") + "\n\nAssistant:"
}
