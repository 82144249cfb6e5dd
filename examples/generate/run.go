package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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
	Text            string    `json:"text"`
	PromptTokens    []int     `json:"prompt_tokens"`
	Tokens          []int     `json:"tokens"` // generated only
	Seconds         float64   `json:"seconds"`
	TokensPerSecond float64   `json:"tokens_per_second"`
}

func run(ctx context.Context, s *settings, out io.Writer) error {
	if s.listKernels {
		for _, k := range tensor.Kernels() {
			fmt.Fprintln(out, k)
		}
		return nil
	}
	opts, err := s.options()
	if err != nil {
		return err
	}
	m, err := s.ModelFlags.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	g := &generator{settings: s, model: m, out: out, opts: opts}
	if err := g.readPrompt(); err != nil {
		return err
	}
	var results []result
	for i := range s.samples {
		r, err := g.sample(ctx, s.seed+uint64(i))
		if err != nil {
			return err
		}
		results = append(results, *r)
	}
	if !s.json {
		return nil
	}
	enc := json.NewEncoder(out)
	if len(results) == 1 {
		return enc.Encode(results[0])
	}
	return enc.Encode(map[string]any{"samples": results})
}

// options turns the flags into options, all but the seed.
func (s *settings) options() ([]rwkv.Option, error) {
	if s.samples < 1 {
		return nil, fmt.Errorf("--num_samples %d: want 1 or more", s.samples)
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
	out    io.Writer
	opts   []rwkv.Option
	prompt string
	ids    []int
	begin  *rwkv.State // after the prompt: what each sample begins with
}

// readPrompt encodes the prompt.
func (g *generator) readPrompt() error {
	if g.tokens != "" {
		ids, err := cli.IDs(g.tokens)
		if err != nil {
			return err
		}
		g.ids = ids
		return g.model.CheckIDs(ids)
	}
	prompt, err := cli.Text(g.settings.prompt)
	if err != nil {
		return err
	}
	if prompt == "" && g.loadState == "" {
		return errors.New("the prompt is empty")
	}
	if g.tok, err = cli.Tokenizer(g.tokenizer, g.model); err != nil {
		return err
	}
	g.prompt = prompt
	if g.ids, err = g.tok.Encode(prompt); err != nil {
		return err
	}
	return g.model.CheckIDs(g.ids)
}

// start returns a state that has seen the prompt, after what a saved state has seen.
func (g *generator) start() (*rwkv.State, error) {
	s := g.model.NewState()
	if g.loadState != "" {
		b, err := os.ReadFile(g.loadState)
		if err != nil {
			return nil, err
		}
		if err := s.UnmarshalBinary(b); err != nil {
			return nil, fmt.Errorf("%s: %w", g.loadState, err)
		}
	}
	return s, s.Prompt(g.ids, g.opts...)
}

// sample generates one text and prints it, streaming unless --json is set.
func (g *generator) sample(ctx context.Context, seed uint64) (*result, error) {
	r := &result{Kind: g.model.Config().Kind, Prompt: g.prompt, PromptTokens: g.ids, Tokens: []int{}}
	begin := time.Now()
	if g.begin == nil {
		s, err := g.start()
		if err != nil {
			return nil, err
		}
		g.begin = s
	}
	state := g.begin
	if g.samples > 1 {
		state = state.Clone()
	}
	show := func(text string) {
		if !g.json {
			fmt.Fprint(g.out, text)
		}
	}

	show(g.prompt)
	opts := append(g.opts[:len(g.opts):len(g.opts)], rwkv.Seed(seed), rwkv.OnToken(func(t rwkv.Token) { r.Tokens = append(r.Tokens, t.ID) }))
	if g.saveState == "" {
		opts = append(opts, rwkv.Discard())
	}
	var err error
	if g.tok == nil {
		for t, e := range state.GenerateTokens(ctx, opts...) {
			if err = e; err != nil {
				break
			}
			if len(r.Tokens) > 1 {
				show(",")
			}
			show(fmt.Sprint(t.ID))
		}
	} else {
		for piece, e := range state.Generate(ctx, g.tok, opts...) {
			if err = e; err != nil {
				break
			}
			r.Text += piece
			show(piece)
		}
	}
	interrupted := errors.Is(err, context.Canceled)
	if err != nil && !interrupted {
		return nil, err
	}
	r.Seconds = time.Since(begin).Seconds()
	r.TokensPerSecond = float64(len(r.Tokens)) / r.Seconds
	if g.saveState != "" {
		b, err := state.MarshalBinary()
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(g.saveState, b, 0o644); err != nil {
			return nil, err
		}
	}
	if !g.json {
		g.report(r)
	}
	if interrupted {
		return nil, errors.New("interrupted")
	}
	return r, nil
}

// report prints what the published program prints after a text.
func (g *generator) report(r *result) {
	text := r.Prompt + r.Text
	if g.tok == nil {
		fmt.Fprintf(g.out, "\n\nPrompt: %v\nGenerated tokens: %d\n", r.PromptTokens, len(r.Tokens))
	} else {
		fmt.Fprintf(g.out, "\n\nPrompt: %s\nGenerated text: %s\nGenerated text length: %d\n", r.Prompt, text, utf8.RuneCountInString(text))
	}
	fmt.Fprintf(g.out, "Inference time: %.2f s (%.1f tokens/s)\n", r.Seconds, r.TokensPerSecond)
}
