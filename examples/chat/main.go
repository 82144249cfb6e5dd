// Chat talks with a language model, message by message, over one State.
//
//	go run ./examples/chat --model RWKV-x070-World-0.4B.pth
//
// Lines that begin with a slash and a word are commands: /undo takes the last exchange back, /save FILE
// and /load FILE keep the conversation, /help lists all. Ctrl-C stops an answer, Ctrl-D ends the program.
// Only answers go to stdout, so that it can be a file; all else goes to the terminal or stderr.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
)

const help = `/undo        take the last message and its answer back
/regen       answer the last message anew
/reset       forget everything
/save FILE   save the conversation
/load FILE   go on with a saved one
/help        this list
/exit        end, as /quit, exit, quit and Ctrl-D

A line that ends in a backslash goes on in the next one, and so does pasted text. Ctrl-C stops an answer.`

func main() {
	var model cli.ModelFlags
	sampling := cli.SamplingFlags{Sampling: rwkv.DefaultSampling(), MaxTokens: 400}
	sampling.Temperature, sampling.TopK, sampling.TopP = 0.8, 50, 0.9
	fs := flag.NewFlagSet("chat", flag.ContinueOnError)
	model.Register(fs)
	sampling.Register(fs)
	template := fs.String("template", "auto", "form of the conversation: g1 (official RWKV models of today), world (earlier ones), plain (text to go on with), auto")
	think := fs.String("think", string(chat.ThinkOff), "off, fast or on: whether a g1 model thinks first")
	system := fs.String("system", "", "a system's `message` at the beginning")
	state := fs.String("load_state", "", "go on with a saved conversation, a `file`")
	tok := fs.String("tokenizer", "", cli.TokenizerUsage)
	cli.Parse(fs, os.Args[1:])

	failed, err := run(&model, &sampling, *tok, *template, *think, *system, *state)
	if err != nil {
		cli.Fail(err)
	}
	if failed {
		os.Exit(1)
	}
}

// run holds a conversation. It reports whether something in it failed that no terminal's user has seen.
func run(model *cli.ModelFlags, sampling *cli.SamplingFlags, tok, template, think, system, state string) (failed bool, err error) {
	opts, err := sampling.Options()
	if err != nil {
		return false, err
	}
	path, err := model.Path()
	if err != nil {
		return false, err
	}
	m, err := model.Open()
	if err != nil {
		return false, err
	}
	defer m.Close()
	t, err := cli.Tokenizer(tok, m)
	if err != nil {
		return false, err
	}
	form, err := chat.Named(template, m.Config().Kind)
	if err != nil {
		return false, fmt.Errorf("--%w", err)
	}
	if _, err := form.Prompt([]chat.Message{{Role: chat.User}}, chat.Options{Think: chat.Think(think)}); err != nil {
		return false, fmt.Errorf("--%w", err)
	}
	c := &conversation{tok: t, state: m.NewState(), out: os.Stdout, notes: os.Stderr, opts: opts, maxTokens: sampling.MaxTokens,
		form: form, think: chat.Think(think), system: system, seed: sampling.Seed, model: path}
	if state != "" {
		if err := cli.LoadState(c.state, state); err != nil {
			return false, err
		}
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		c.out, c.styled = &wrapper{w: os.Stdout, width: func() int {
			w, _, err := term.GetSize(int(os.Stdout.Fd()))
			if err != nil {
				return 0
			}
			return w
		}}, true
	}
	in, editing := newLines()
	if editing {
		fmt.Fprintf(os.Stderr, "%s, %d layers of %d. /help lists the commands.\n", m.Config().Kind, m.Config().NumLayers, m.Config().EmbedDim)
	}
	if !form.Trained {
		fmt.Fprintln(os.Stderr, "This model goes on with what you write. It isn't trained to answer.")
	}
	err = c.loop(in)
	return c.failed && !editing, err
}

// loop reads messages until there are no more.
func (c *conversation) loop(in lines) error {
	for {
		message, err := read(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line := strings.TrimSpace(message)
		switch name, argument, isCommand := command(line); {
		case line == "":
		case isCommand && (name == "/quit" || name == "/exit"), line == "exit", line == "quit":
			return nil
		case isCommand:
			err = c.command(name, argument)
		default:
			err = c.answer(message)
		}
		if err != nil {
			c.failed = true
			fmt.Fprintln(c.notes, "error:", cli.QuoteLines(strings.ReplaceAll(err.Error(), "\n", "; ")))
		}
	}
}

// command cuts a line that is a command: a slash and a word of letters, alone or before a space. A path
// at the beginning of a message is none.
func command(line string) (name, argument string, ok bool) {
	name, argument, _ = strings.Cut(line, " ")
	letters := strings.TrimPrefix(name, "/")
	if letters == name || letters == "" || strings.Trim(letters, "abcdefghijklmnopqrstuvwxyz") != "" {
		return "", "", false
	}
	return name, strings.TrimSpace(argument), true
}

// read returns the next message: a line, and those after it while they end in a backslash.
func read(in lines) (string, error) {
	message, err := in.read("> ")
	for err == nil && strings.HasSuffix(message, "\\") {
		var more string
		more, err = in.read("  ")
		message = strings.TrimSuffix(message, "\\") + "\n" + more
		if errors.Is(err, io.EOF) { // what there is is a message
			return message, nil
		}
	}
	return message, err
}
