package main

import (
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
)

// result is what --json prints.
type result struct {
	Kind            rwkv.Kind   `json:"kind"`
	Prompt          string      `json:"prompt"`
	Text            string      `json:"text"` // generated only, as Tokens; both it and Prompt are empty with --tokens
	PromptTokens    []int       `json:"prompt_tokens"`
	Tokens          []int       `json:"tokens"`
	FinishReason    rwkv.Reason `json:"finish_reason"`
	Seed            uint64      `json:"seed"`
	LogProbs        []logProbs  `json:"logprobs,omitempty"`
	Seconds         float64     `json:"seconds"`
	TokensPerSecond float64     `json:"tokens_per_second"`
}

// logProbs are the log-probabilities of a token and of the likeliest in its place. Those of tokens that
// can't come are null.
type logProbs struct {
	Token   int       `json:"token"`
	LogProb *float64  `json:"logprob"`
	Top     []logProb `json:"top"`
}

type logProb struct {
	Token   int      `json:"token"`
	LogProb *float64 `json:"logprob"`
}

// number returns x as JSON can carry it.
func number(x float32) *float64 {
	y := float64(x)
	if y-y != 0 {
		return nil
	}
	return &y
}

// sample generates one text and prints it, streaming unless --json is set. With an error there may be a
// result too: what was made before it.
func (g *generator) sample(ctx context.Context, seed uint64) (*result, error) {
	r := &result{Kind: g.model.Config().Kind, Prompt: strings.ToValidUTF8(g.prompt, "\ufffd"), PromptTokens: g.ids, Tokens: []int{}, Seed: seed}
	if r.PromptTokens == nil {
		r.PromptTokens = []int{}
	}
	if err := g.head(r); err != nil {
		return nil, err
	}
	if g.clock.IsZero() {
		g.clock = time.Now()
		if err := g.read(ctx); err != nil {
			if errors.Is(err, context.Canceled) {
				r.FinishReason, err = rwkv.Interrupted, cli.ErrInterrupted
				return r, err
			}
			return nil, err
		}
	}
	state := g.begin
	if g.samples > 1 {
		state = state.Clone()
	}
	opts := append(g.opts[:len(g.opts):len(g.opts)], rwkv.Seed(seed), rwkv.OnEnd(func(why rwkv.Reason) { r.FinishReason = why }), rwkv.OnToken(func(t rwkv.Token) { g.token(r, t) }))
	if g.file == nil {
		opts = append(opts, rwkv.Discard())
	}
	err := g.stream(ctx, state, r, opts)
	ended := r.FinishReason == rwkv.Interrupted || r.FinishReason == rwkv.Full // the text so far is one
	if err != nil && !ended {
		return nil, err
	}
	if r.FinishReason == rwkv.Interrupted {
		err = cli.ErrInterrupted
	}
	r.Seconds = time.Since(g.clock).Seconds()
	g.clock = time.Now()
	if r.Seconds > 0 {
		r.TokensPerSecond = float64(len(r.Tokens)) / r.Seconds
	}
	if failed := g.report(r); failed != nil {
		return nil, failed
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
	return r, err
}

// token notes a token of the text.
func (g *generator) token(r *result, t rwkv.Token) {
	r.Tokens = append(r.Tokens, t.ID)
	if g.logProbs >= 0 {
		l := logProbs{t.ID, number(t.LogProb), []logProb{}}
		for _, p := range t.Top {
			l.Top = append(l.Top, logProb{p.ID, number(p.LogProb)})
		}
		r.LogProbs = append(r.LogProbs, l)
	}
	if g.json {
		g.bar.Set(int64(len(r.Tokens)), int64(g.MaxTokens))
	}
}

// stream generates r's tokens and its text, and shows them as they come.
func (g *generator) stream(ctx context.Context, state *rwkv.State, r *result, opts []rwkv.Option) error {
	if g.tok == nil {
		n := 0
		for t, err := range state.GenerateTokens(ctx, opts...) {
			if err != nil {
				return err
			}
			id := strconv.Itoa(t.ID)
			if n++; n > 1 {
				id = "," + id
			}
			if err := g.show(id); err != nil {
				return err
			}
		}
		return nil
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

// head prints what the published program prints before the text that comes: the prompt, and the prompt
// again as the text's beginning.
func (g *generator) head(r *result) error {
	if g.quiet {
		return nil
	}
	if g.tok == nil {
		return g.show(fmt.Sprintf("Prompt: %s\nGenerated text: ", ids(r.PromptTokens)))
	}
	return g.show(fmt.Sprintf("Prompt: %s\nGenerated text: %s", r.Prompt, r.Prompt))
}

// report prints what the published program prints after a text.
func (g *generator) report(r *result) error {
	if g.json {
		return nil
	}
	length := utf8.RuneCountInString(r.Prompt + r.Text)
	if g.tok == nil {
		length = len(r.Tokens)
	}
	if err := g.show("\n"); err != nil {
		return err
	}
	to := io.Writer(g.out)
	if g.quiet {
		to = os.Stderr
	}
	fmt.Fprintf(to, "Generated text length: %d | Inference time: %.2f seconds (%.1f tokens/s)\n", length, r.Seconds, r.TokensPerSecond)
	return g.out.Flush()
}

// ids formats token ids as --tokens takes them.
func ids(list []int) string {
	var b strings.Builder
	for i, id := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(id))
	}
	return b.String()
}

// encode prints the results as one JSON object.
func (g *generator) encode(results []*result) error {
	enc := json.NewEncoder(g.out)
	enc.SetEscapeHTML(false)
	var err error
	if len(results) == 1 && g.samples == 1 {
		err = enc.Encode(results[0])
	} else {
		err = enc.Encode(map[string]any{"samples": results})
	}
	return errors.Join(err, g.out.Flush())
}
