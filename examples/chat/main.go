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

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/tokenizer"
)

const help = `/reset       forget everything
/save FILE   save the conversation
/load FILE   go on with a saved one
/help        this list
/quit        end, as Ctrl-D

A line that ends in a backslash goes on in the next one. Ctrl-C stops an answer.`

func main() {
	var model cli.ModelFlags
	var seed cli.Seed
	fs := flag.NewFlagSet("chat", flag.ContinueOnError)
	model.Register(fs)
	format := fs.String("format", "auto", "chat: User/Assistant turns, plain: text to go on with (default: chat for RWKV-7)")
	maxTokens := fs.Int("max_num_tokens", 400, "tokens of an answer")
	temperature := fs.Float64("temperature", 0.8, "below 1 makes likely tokens likelier")
	topK := fs.Int("top_k", 50, "sample from the k likeliest tokens; 0: off")
	topP := fs.Float64("top_p", 0.9, "sample from the fewest tokens whose probabilities add up to this")
	seed.Register(fs)
	tok := fs.String("tokenizer", "", cli.TokenizerUsage)
	cli.Parse(fs, os.Args[1:])

	err := func() error {
		opts := []rwkv.Option{rwkv.MaxTokens(*maxTokens), rwkv.Temperature(*temperature), rwkv.TopK(*topK), rwkv.TopP(*topP)}
		if err := rwkv.CheckOptions(opts...); err != nil {
			return err
		}
		if *format != "auto" && *format != "chat" && *format != "plain" {
			return fmt.Errorf("--format %q: want auto, chat or plain", *format)
		}
		m, t, err := open(&model, *tok)
		if err != nil {
			return err
		}
		defer m.Close()
		turns := *format == "chat" || *format == "auto" && m.Config().Kind.Vocabulary() == "world"
		c := &chat{tok: t, state: m.NewState(), out: os.Stdout, opts: opts, turns: turns, seed: uint64(seed)}
		in, editing := newLines()
		if editing {
			fmt.Printf("%s, %d layers of %d. /help lists the commands.\n", m.Config().Kind, m.Config().NumLayers, m.Config().EmbedDim)
		}
		return c.loop(in)
	}()
	if err != nil {
		cli.Fail(err)
	}
}

// open opens the model and its tokenizer.
func open(model *cli.ModelFlags, name string) (*rwkv.Model, tokenizer.Tokenizer, error) {
	m, err := model.Open()
	if err != nil {
		return nil, nil, err
	}
	t, err := cli.Tokenizer(name, m)
	return m, t, err
}

// chat is a conversation.
type chat struct {
	tok   tokenizer.Tokenizer
	state *rwkv.State
	opts  []rwkv.Option
	turns bool // in the official form of RWKV models, else text that is continued
	seed  uint64
	out   io.Writer
}

// loop reads messages until there are no more.
func (c *chat) loop(in lines) error {
	for {
		message, err := read(in)
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(c.out)
			return nil
		}
		if err != nil {
			return err
		}
		switch line := strings.TrimSpace(message); {
		case line == "":
		case line == "/quit":
			return nil
		case line[0] == '/':
			err = c.command(line)
		default:
			err = c.answer(message)
		}
		if err != nil {
			fmt.Fprintln(c.out, "error:", err)
		}
	}
}

// read returns the next message: a line, and those after it while they end in a backslash.
func read(in lines) (string, error) {
	message, err := in.read("> ")
	for err == nil && strings.HasSuffix(message, "\\") {
		var more string
		more, err = in.read("  ")
		message = strings.TrimSuffix(message, "\\") + "\n" + more
	}
	return message, err
}

// command runs a line that begins with a slash.
func (c *chat) command(line string) error {
	name, file, _ := strings.Cut(line, " ")
	file = strings.TrimSpace(file)
	if (name == "/save" || name == "/load") && file == "" {
		return fmt.Errorf("%s needs a file", name)
	}
	switch name {
	case "/help":
		fmt.Fprintln(c.out, help)
	case "/reset":
		c.state.Reset()
	case "/save":
		b, err := c.state.MarshalBinary()
		if err != nil {
			return err
		}
		return cli.WriteFile(file, b)
	case "/load":
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := c.state.UnmarshalBinary(b); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	default:
		return fmt.Errorf("no command %s; /help lists them", name)
	}
	return nil
}

// answer appends a message and streams what the model says to it. Ctrl-C ends the answer alone. If
// there is an error, the conversation is what it was.
func (c *chat) answer(message string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	opts := append(c.opts[:len(c.opts):len(c.opts)], rwkv.Seed(c.seed))
	c.seed++ // another answer if the question comes again
	if c.turns {
		opts = append(opts, rwkv.StopStrings(cli.EndOfTurn), rwkv.Discard())
		message = cli.Turn(message, c.state.Len() == 0)
	} else if c.state.Len() > 0 {
		message = "\n" + message
	}
	ids, err := cli.Encode(c.tok, c.state.Model(), message, false)
	if err != nil {
		return err
	}
	said := c.state.Clone()
	if err := said.Prompt(ids, opts...); err != nil {
		return err
	}
	speaker := said
	if c.turns { // it may go on to the user's next turn, which isn't kept
		speaker = said.Clone()
	}
	var text strings.Builder
	for piece, err := range speaker.Generate(ctx, c.tok, opts...) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			fmt.Fprintln(c.out)
			return err
		}
		if c.turns && text.Len() == 0 {
			fmt.Fprint(c.out, strings.TrimLeft(piece, " "))
		} else {
			fmt.Fprint(c.out, piece)
		}
		text.WriteString(piece)
	}
	fmt.Fprintln(c.out)
	if c.turns {
		ids, err := c.tok.Encode(strings.TrimRight(text.String(), " \n"))
		if err != nil {
			return err
		}
		if _, err := said.Append(ids); err != nil {
			return err
		}
	}
	c.state = said
	return nil
}
