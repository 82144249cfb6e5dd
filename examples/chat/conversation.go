package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/tokenizer"
)

// conversation is what was said, in a state.
type conversation struct {
	tok       tokenizer.Tokenizer
	state     *rwkv.State // never changed: an answer has another
	opts      []rwkv.Option
	maxTokens int
	form      *chat.Template
	think     chat.Think
	system    string
	seed      uint64
	model     string // its file
	out       io.Writer
	notes     io.Writer
	styled    bool // out is a terminal
	failed    bool
	past      []exchange // the newest, for /undo
}

// exchange is a message, and the state before it.
type exchange struct {
	before  *rwkv.State
	message string
}

// maxPast is how many exchanges can be taken back.
const maxPast = 20

// command carries out a command.
func (c *conversation) command(name, argument string) error {
	if (name == "/save" || name == "/load") && argument == "" {
		return fmt.Errorf("%s needs a file", name)
	}
	switch name {
	case "/help":
		fmt.Fprintln(c.notes, help)
	case "/reset":
		c.state, c.past = c.state.Model().NewState(), nil
		fmt.Fprintln(c.notes, "All is forgotten.")
	case "/undo":
		last, err := c.undo()
		if err != nil {
			return err
		}
		fmt.Fprintf(c.notes, "Taken back: %s\n", cli.Quote(last))
	case "/regen":
		last, err := c.undo()
		if err != nil {
			return err
		}
		return c.answer(last)
	case "/save":
		if err := cli.CheckOutput("/save", argument, c.model); err != nil {
			return err
		}
		b, err := c.state.MarshalBinary()
		if err != nil {
			return err
		}
		if err := cli.WriteFile(argument, b); err != nil {
			return err
		}
		fmt.Fprintf(c.notes, "%d tokens are saved in %s.\n", c.state.Len(), cli.Quote(argument))
	case "/load":
		s := c.state.Model().NewState()
		if err := cli.LoadState(s, argument); err != nil {
			return err
		}
		c.state, c.past = s, nil
		fmt.Fprintf(c.notes, "Going on after %d tokens of %s.\n", s.Len(), cli.Quote(argument))
	default:
		return fmt.Errorf("no command %s; /help lists them", name)
	}
	return nil
}

// undo takes the last exchange back and returns its message.
func (c *conversation) undo() (message string, err error) {
	if len(c.past) == 0 {
		return "", errors.New("there is nothing to take back")
	}
	last := c.past[len(c.past)-1]
	c.past = c.past[:len(c.past)-1]
	c.state = last.before
	return last.message, nil
}

// prompt returns the ids that a message is for the model.
func (c *conversation) prompt(message string) (ids []int, err error) {
	parts := []string{message}
	if !c.form.Trained {
		if c.state.Len() > 0 {
			parts[0] = "\n" + message
		}
	} else {
		messages := []chat.Message{{Role: chat.User, Content: message}}
		if c.state.Len() == 0 && c.system != "" {
			messages = append([]chat.Message{{Role: chat.System, Content: c.system}}, messages...)
		}
		if parts, err = c.form.Prompt(messages, chat.Options{Think: c.think}); err != nil {
			return nil, err
		}
		if c.state.Len() > 0 {
			parts = append([]string{chat.Join}, parts...)
		}
	}
	for _, part := range parts {
		more, err := cli.Encode(c.tok, c.state.Model(), part, false)
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	return ids, nil
}

// answer appends a message and streams what the model says to it. Ctrl-C ends the answer alone. If
// there is an error, the conversation is what it was.
func (c *conversation) answer(message string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	defer hideTyping()()
	var reason rwkv.Reason
	opts := append(c.opts[:len(c.opts):len(c.opts)], rwkv.Seed(c.seed), rwkv.StopStrings(c.form.Stops...), rwkv.OnEnd(func(r rwkv.Reason) { reason = r }))
	c.seed++ // another answer if the question comes again
	ids, err := c.prompt(message)
	if err != nil {
		return err
	}
	said := c.state.Clone()
	if err := said.PromptContext(ctx, ids, opts...); err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintln(c.notes, "Interrupted: the message wasn't read.")
			return nil
		}
		return err
	}
	a := c.form.NewAnswer(c.think)
	if !c.form.Trained {
		a = nil
	}
	for piece, err := range said.Generate(ctx, c.tok, opts...) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err == nil {
			err = c.say(a, piece)
		}
		if err != nil {
			fmt.Fprintln(c.out)
			return err
		}
	}
	if a != nil {
		thoughts, text := a.Flush()
		if err := c.show(thoughts, text); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(c.out); err != nil {
		return err
	}
	if reason == rwkv.Length {
		fmt.Fprintf(c.notes, "[stopped at %d tokens: --max_num_tokens]\n", c.maxTokens)
	}
	c.past = append(c.past, exchange{c.state, message})
	if len(c.past) > maxPast {
		c.past = append(c.past[:0], c.past[1:]...)
	}
	c.state = said
	return nil
}

// say shows a piece of the answer, as it is without an Answer that splits it.
func (c *conversation) say(a *chat.Answer, piece string) error {
	if a == nil {
		return c.show("", piece)
	}
	return c.show(a.Push(piece))
}

// show prints the answer, and on a terminal thoughts, dimmed.
func (c *conversation) show(thoughts, text string) error {
	if thoughts != "" && c.styled {
		if _, err := fmt.Fprint(c.out, "\x1b[2m", thoughts, "\x1b[22m"); err != nil {
			return err
		}
		if text != "" {
			text = "\n" + text
		}
	}
	_, err := io.WriteString(c.out, text)
	return err
}
