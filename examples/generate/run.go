package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

func run(ctx context.Context, s *settings, stdout io.Writer) error {
	if s.listKernels {
		for _, k := range tensor.Kernels() {
			if _, err := fmt.Fprintln(stdout, k); err != nil {
				return err
			}
		}
		return nil
	}
	opts, err := s.options()
	if err != nil {
		return err
	}
	stop := cli.FailWhenDone(ctx)
	defer stop()
	m, err := s.ModelFlags.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	if s.saveState != "" { // whether that is possible shows before anything is printed
		path, err := s.ModelFlags.Path()
		if err != nil {
			return err
		}
		if err := cli.CheckOutput("--save_state", s.saveState, path); err != nil {
			return err
		}
	}
	g := &generator{settings: s, model: m, out: bufio.NewWriter(stdout), opts: opts, bar: cli.NewCountBar("generating")}
	if err := g.load(); err != nil {
		return err
	}
	stop()
	if s.saveState != "" {
		if g.file, err = cli.Create(s.saveState); err != nil {
			return err
		}
		defer g.file.Discard()
	}
	defer g.bar.Finish()
	var results []*result
	for i := range s.samples {
		r, err := g.sample(ctx, s.Seed+uint64(i))
		if r != nil {
			results = append(results, r)
		}
		if err != nil {
			if s.json && len(results) > 0 { // what there is
				err = errors.Join(g.encode(results), err)
			}
			return err
		}
	}
	if s.json {
		g.bar.Finish()
		return g.encode(results)
	}
	if !s.SeedGiven() && s.Temperature > 0 && s.TopK != 1 {
		fmt.Fprintf(os.Stderr, "seed %d\n", s.Seed)
	}
	return nil
}

// fullRules are the values of --when_full.
var fullRules = map[string]rwkv.FullRule{"recompute": rwkv.Recompute, "half": rwkv.KeepHalf, "error": rwkv.Refuse}

// options checks the flags and turns them into options, all but the seed.
func (s *settings) options() ([]rwkv.Option, error) {
	switch {
	case s.samples < 1:
		return nil, fmt.Errorf("--num_samples %d: want 1 or more", s.samples)
	case s.saveState != "" && s.samples > 1:
		return nil, errors.New("--save_state goes with one sample")
	case s.json && s.quiet:
		return nil, errors.New("--json and --quiet: give one of them")
	case s.given["logprobs"] && !s.json:
		return nil, errors.New("--logprobs goes with --json")
	case s.given["logprobs"] && s.logProbs < 0:
		return nil, fmt.Errorf("--logprobs %d: want 0 or more", s.logProbs)
	}
	for _, name := range []string{"system", "think"} {
		if s.given[name] && !s.chat {
			return nil, fmt.Errorf("--%s goes with --chat", name)
		}
	}
	if s.given["tokens"] {
		for _, name := range []string{"prompt", "tokenizer", "stop", "chat", "special"} {
			if s.given[name] {
				return nil, fmt.Errorf("--%s doesn't go with --tokens, which uses no text", name)
			}
		}
	}
	opts, err := s.SamplingFlags.Options()
	if err != nil {
		return nil, err
	}
	opts = append(opts, rwkv.StopAtEnd(s.stopAtEnd), rwkv.TopLogProbs(max(s.logProbs, 0)))
	if s.whenFull != "" {
		rule, ok := fullRules[s.whenFull]
		if !ok {
			return nil, fmt.Errorf("--when_full %q: want recompute, half or error", s.whenFull)
		}
		opts = append(opts, rwkv.WhenFull(rule))
	}
	return opts, rwkv.CheckOptions(opts...)
}

// generator makes samples from one prompt.
type generator struct {
	*settings
	model  *rwkv.Model
	tok    tokenizer.Tokenizer // nil with --tokens
	out    *bufio.Writer
	opts   []rwkv.Option
	prompt string
	ids    []int       // of the prompt
	begin  *rwkv.State // what each sample begins with: after the prompt, once it is read
	clock  time.Time   // when the work on the next sample began
	file   *cli.File   // of --save_state
	bar    *cli.Bar
}

// load reads the saved state and the prompt.
func (g *generator) load() error {
	g.begin = g.model.NewState()
	if g.loadState != "" {
		if err := cli.LoadState(g.begin, g.loadState); err != nil {
			return err
		}
	}
	var err error
	if g.given["tokens"] {
		err = g.readTokens()
	} else {
		err = g.readPrompt(g.begin.Len() == 0)
	}
	if err != nil {
		return err
	}
	if g.begin.Len()+len(g.ids) == 0 {
		return errors.New("the prompt is empty")
	}
	if n := g.model.Config().BlockSize; n > 0 && len(g.ids) > n {
		if g.whenFull == "error" {
			return fmt.Errorf("--when_full error: %w: the prompt has %d tokens, and %d have room", rwkv.ErrFull, len(g.ids), n)
		}
		cli.Warn("the prompt has %d tokens; the model sees the newest %d (block_size)", len(g.ids), n)
	}
	return g.model.CheckOptions(g.opts...)
}

// readTokens parses --tokens.
func (g *generator) readTokens() (err error) {
	if g.tokens != "" {
		if g.ids, err = cli.IDs(g.tokens); err != nil {
			return err
		}
	}
	if end := cli.EndOfText(g.model); end >= 0 && g.stopAtEnd {
		g.opts = append(g.opts, rwkv.StopTokens(end))
	}
	return g.model.CheckIDs(g.ids)
}

// readPrompt encodes the prompt: what was given, else what is piped, else the default, which nothing
// is after a saved state.
func (g *generator) readPrompt(first bool) (err error) {
	text := g.settings.prompt
	if g.given["prompt"] {
		if text, err = cli.Text(text, g.binary); err != nil {
			return err
		}
	} else {
		if !first {
			text = ""
		} else if piped, err := cli.Piped(g.binary); err != nil {
			return fmt.Errorf("stdin: %w", err)
		} else if piped != "" {
			text = piped
		}
	}
	if g.escapes {
		if text, err = cli.Unescape(text); err != nil {
			return fmt.Errorf("--prompt: %w", err)
		}
	}
	if g.tok, err = cli.Tokenizer(g.tokenizer, g.model); err != nil {
		return err
	}
	parts := []string{text}
	if g.chat {
		if parts, err = g.conversation(text, first); err != nil {
			return err
		}
	}
	for _, part := range parts {
		ids, err := cli.Encode(g.tok, g.model, part, g.special)
		if err != nil {
			return err
		}
		g.prompt += part
		g.ids = append(g.ids, ids...)
	}
	return nil
}

// conversation returns the parts of the prompt that asks for an answer to a message.
func (g *generator) conversation(message string, first bool) ([]string, error) {
	if chat.Clean(message) == "" {
		return nil, errors.New("--chat: the prompt is empty")
	}
	template, err := chat.Named("auto", g.model.Config().Kind)
	if err != nil {
		return nil, err
	}
	if !template.Trained {
		template = chat.G1
	}
	g.opts = append(g.opts, rwkv.StopStrings(template.Stops...))
	var messages []chat.Message
	if g.system != "" {
		messages = append(messages, chat.Message{Role: chat.System, Content: g.system})
	}
	parts, err := template.Prompt(append(messages, chat.Message{Role: chat.User, Content: message}), chat.Options{Think: chat.Think(g.think)})
	if err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	if !first {
		parts = append([]string{chat.Join}, parts...)
	}
	return parts, nil
}

// read lets the state read the prompt, before the first sample.
func (g *generator) read(ctx context.Context) error {
	bar := cli.NewCountBar("reading the prompt")
	defer bar.Finish()
	opts := g.opts
	if len(g.ids) > 512 { // shorter ones take no time
		opts = append(opts[:len(opts):len(opts)], rwkv.PromptProgress(func(done, total int) { bar.Set(int64(done), int64(total)) }))
	}
	return g.begin.PromptContext(ctx, g.ids, opts...)
}
