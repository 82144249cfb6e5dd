package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// result is what --json prints.
type result struct {
	Kind            rwkv.Kind `json:"kind"`
	Prompt          string    `json:"prompt"`
	Text            string    `json:"text"` // generated only, as Tokens; both it and Prompt are empty with --tokens
	PromptTokens    []int     `json:"prompt_tokens"`
	Tokens          []int     `json:"tokens"`
	Seconds         float64   `json:"seconds"`
	TokensPerSecond float64   `json:"tokens_per_second"`
}

func run(ctx context.Context, s *settings, stdout io.Writer) error {
	if s.listKernels {
		for _, k := range tensor.Kernels() {
			fmt.Fprintln(stdout, k)
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
	g := &generator{settings: s, model: m, out: bufio.NewWriter(stdout), opts: opts, bar: cli.NewCountBar("generating")}
	if err := g.start(); err != nil {
		return err
	}
	stop()
	if s.saveState != "" { // whether that is possible shows before anything is printed
		if g.file, err = cli.Create(s.saveState); err != nil {
			return err
		}
		defer g.file.Discard()
	}

	defer g.bar.Finish()
	var results []*result
	for i := range s.samples {
		r, err := g.sample(ctx, uint64(s.seed)+uint64(i))
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	if s.json {
		g.bar.Finish()
		if err := g.encode(results); err != nil {
			return err
		}
	}
	return g.out.Flush()
}

// options checks the flags and turns them into options, all but the seed.
func (s *settings) options() ([]rwkv.Option, error) {
	if s.samples < 1 {
		return nil, fmt.Errorf("--num_samples %d: want 1 or more", s.samples)
	}
	if s.saveState != "" && s.samples > 1 {
		return nil, errors.New("--save_state goes with one sample")
	}
	if s.given["tokens"] {
		for _, name := range []string{"prompt", "tokenizer", "stop", "chat", "special"} {
			if s.given[name] {
				return nil, fmt.Errorf("--%s doesn't go with --tokens, which uses no text", name)
			}
		}
	}
	if s.chat {
		s.stop = append(s.stop, cli.EndOfTurn)
	}
	opts := []rwkv.Option{
		rwkv.MaxTokens(s.maxTokens), rwkv.Temperature(s.temperature), rwkv.TopK(s.topK), rwkv.TopP(s.topP), rwkv.MinP(s.minP),
		rwkv.RepetitionPenalty(s.repetition), rwkv.PresencePenalty(s.presence), rwkv.FrequencyPenalty(s.frequency), rwkv.PenaltyDecay(s.penaltyDecay),
		rwkv.StopAtEnd(s.stopAtEnd), rwkv.StopStrings(s.stop...),
	}
	switch s.whenFull {
	case "":
	case "recompute":
		opts = append(opts, rwkv.WhenFull(rwkv.Recompute))
	case "half":
		opts = append(opts, rwkv.WhenFull(rwkv.KeepHalf))
	case "error":
		opts = append(opts, rwkv.WhenFull(rwkv.Refuse))
	default:
		return nil, fmt.Errorf("--when_full %q: want recompute, half or error", s.whenFull)
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
	begin  *rwkv.State // after the prompt: what each sample begins with
	clock  time.Time   // when the work on the next sample began
	file   *cli.File   // of --save_state
	bar    *cli.Bar
}

// start makes the state that has seen the prompt, after what a saved state has seen.
func (g *generator) start() error {
	s := g.model.NewState()
	if g.loadState != "" {
		b, err := os.ReadFile(g.loadState)
		if err != nil {
			return err
		}
		if err := s.UnmarshalBinary(b); err != nil {
			return fmt.Errorf("%s: %w", g.loadState, err)
		}
	}
	var err error
	if g.given["tokens"] {
		err = g.readTokens()
	} else {
		err = g.readPrompt(s.Len() == 0)
	}
	if err != nil {
		return err
	}
	if s.Len()+len(g.ids) == 0 {
		return errors.New("the prompt is empty")
	}
	if g.model.Config().BlockSize == 0 {
		g.opts = append(g.opts, rwkv.Seen(g.ids...)) // of which the state keeps no list
	}
	g.begin, g.clock = s, time.Now()
	return s.Prompt(g.ids, g.opts...)
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

// readPrompt encodes the prompt.
func (g *generator) readPrompt(first bool) (err error) {
	if !first && !g.given["prompt"] {
		g.settings.prompt = ""
	}
	if g.prompt, err = cli.Text(g.settings.prompt); err != nil {
		return err
	}
	if g.chat {
		g.prompt = cli.Turn(g.prompt, first)
	}
	if g.tok, err = cli.Tokenizer(g.tokenizer, g.model); err != nil {
		return err
	}
	g.ids, err = cli.Encode(g.tok, g.model, g.prompt, g.special)
	g.prompt = strings.ToValidUTF8(g.prompt, "\ufffd") // to be shown
	return err
}

// sample generates one text and prints it, streaming unless --json is set.
func (g *generator) sample(ctx context.Context, seed uint64) (*result, error) {
	r := &result{Kind: g.model.Config().Kind, Prompt: g.prompt, PromptTokens: g.ids, Tokens: []int{}}
	if r.PromptTokens == nil {
		r.PromptTokens = []int{}
	}
	state := g.begin
	if g.samples > 1 {
		state = state.Clone()
	}
	opts := append(g.opts[:len(g.opts):len(g.opts)], rwkv.Seed(seed), rwkv.OnToken(func(t rwkv.Token) {
		r.Tokens = append(r.Tokens, t.ID)
		if g.json {
			g.bar.Set(int64(len(r.Tokens)), int64(g.maxTokens))
		}
	}))
	if g.file == nil {
		opts = append(opts, rwkv.Discard())
	}
	err := g.stream(ctx, state, r, opts)
	interrupted := errors.Is(err, context.Canceled)
	if err != nil && !interrupted {
		return nil, err
	}
	r.Seconds = time.Since(g.clock).Seconds()
	g.clock = time.Now()
	if r.Seconds > 0 {
		r.TokensPerSecond = float64(len(r.Tokens)) / r.Seconds
	}
	if !g.json {
		if err := g.report(r); err != nil {
			return nil, err
		}
	}
	if g.file != nil {
		b, err := state.MarshalBinary()
		if err != nil {
			return nil, err
		}
		if err := g.file.Write(b); err != nil {
			return nil, err
		}
	}
	if interrupted {
		return nil, cli.ErrInterrupted
	}
	return r, nil
}

// stream generates r's tokens and its text, and shows them as they come.
func (g *generator) stream(ctx context.Context, state *rwkv.State, r *result, opts []rwkv.Option) error {
	if g.tok == nil {
		for t, err := range state.GenerateTokens(ctx, opts...) {
			if err != nil {
				return err
			}
			id := strconv.Itoa(t.ID)
			if len(r.Tokens) > 1 {
				id = "," + id
			}
			if err := g.show(id); err != nil {
				return err
			}
		}
		return nil
	}
	if err := g.show(g.prompt); err != nil {
		return err
	}
	for piece, err := range state.Generate(ctx, g.tok, opts...) {
		if err != nil {
			return err
		}
		r.Text += piece
		if err := g.show(piece); err != nil {
			return err
		}
	}
	return nil
}

// show prints text at once, unless --json is set.
func (g *generator) show(text string) error {
	if g.json {
		return nil
	}
	g.out.WriteString(text)
	return g.out.Flush()
}

// report prints what the published program prints after a text.
func (g *generator) report(r *result) error {
	if g.tok == nil {
		fmt.Fprintf(g.out, "\n\nPrompt: %v\nGenerated tokens: %d\n", r.PromptTokens, len(r.Tokens))
	} else {
		text := r.Prompt + r.Text
		fmt.Fprintf(g.out, "\n\nPrompt: %s\nGenerated text: %s\nGenerated text length: %d\n", r.Prompt, text, utf8.RuneCountInString(text))
	}
	fmt.Fprintf(g.out, "Inference time: %.2f s (%.1f tokens/s)\n", r.Seconds, r.TokensPerSecond)
	return g.out.Flush()
}

// encode prints the results as one JSON object.
func (g *generator) encode(results []*result) error {
	enc := json.NewEncoder(g.out)
	enc.SetEscapeHTML(false)
	if len(results) == 1 {
		return enc.Encode(results[0])
	}
	return enc.Encode(map[string]any{"samples": results})
}
