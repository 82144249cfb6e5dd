package rwkv

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"microrwkv/tokenizer"
)

// Token is a generated token.
type Token struct {
	ID      int
	LogProb float32 // natural logarithm of its probability by the model's own softmax, before any option
}

// Generate continues prompt and returns pieces of text as they are made: whole UTF-8, whatever the
// tokens' borders. The loop may be left at any time. An error ends it: a prompt that is empty or
// that the tokenizer can't encode, options that make no sense, or ctx's error when ctx ends, which
// is looked at between tokens.
//
// The model sees the newest block_size tokens of the prompt.
func (m *Model) Generate(ctx context.Context, tok tokenizer.Tokenizer, prompt string, opts ...Option) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ids, err := tok.Encode(prompt)
		if err != nil {
			yield("", err)
			return
		}
		g, err := m.start(ids, tok, opts)
		if err != nil {
			yield("", err)
			return
		}
		g.text(ctx, false, yield)
	}
}

// GenerateTokens continues ids and returns the tokens as they are sampled; stop strings need text,
// and are an error here. Else it is as Generate.
func (m *Model) GenerateTokens(ctx context.Context, ids []int, opts ...Option) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		g, err := m.start(ids, nil, opts)
		if err != nil {
			yield(Token{}, err)
			return
		}
		g.tokens(ctx, false, yield)
	}
}

// Generate continues the state's sequence and appends to it what is generated, but not a token
// that ends the text. Else it is as Model.Generate. The state must have at least one token, and
// must not be used in another way until the loop ends; then it can be used at once.
//
// A text may be made in parts, by several calls with the same options, with the state saved and
// restored between them: it is the same text. Only the penalties have to be told what the state
// forgets: see Seen.
func (s *State) Generate(ctx context.Context, tok tokenizer.Tokenizer, opts ...Option) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		g, err := s.start(tok, opts)
		if err != nil {
			yield("", err)
			return
		}
		g.text(ctx, !g.discard, yield)
	}
}

// GenerateTokens is Generate for tokens.
func (s *State) GenerateTokens(ctx context.Context, opts ...Option) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		g, err := s.start(nil, opts)
		if err != nil {
			yield(Token{}, err)
			return
		}
		g.tokens(ctx, !g.discard, yield)
	}
}

// generation is a text in the making.
type generation struct {
	*options
	state   *State
	sampler *sampler
	decoder *tokenizer.Decoder // nil without a tokenizer
	stopper *stopper
	made    int // tokens
	next    [1]int
}

// start begins a generation after a prompt.
func (m *Model) start(ids []int, tok tokenizer.Tokenizer, opts []Option) (*generation, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("rwkv: the prompt is empty: %w", ErrEmpty)
	}
	if err := m.CheckIDs(ids); err != nil {
		return nil, err
	}
	s := m.NewState()
	g, err := newGeneration(s, tok, opts)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		g.sampler.observe(id)
	}
	return g, s.prompt(ids, g.options)
}

// Prompt appends ids as the prompt of a generation with these options: it sets the rule for full
// contexts, and of a prompt longer than block_size it appends the newest block_size tokens.
func (s *State) Prompt(ids []int, opts ...Option) error {
	o, err := newOptions(opts)
	if err != nil {
		return err
	}
	return s.prompt(ids, o)
}

func (s *State) prompt(ids []int, o *options) error {
	if s.total+len(ids) == 0 {
		return fmt.Errorf("rwkv: the prompt is empty: %w", ErrEmpty)
	}
	if err := s.setRule(o); err != nil {
		return err
	}
	_, err := s.Append(s.model.newest(ids))
	return err
}

// setRule sets the rule for full contexts that the options ask for, or the kind's.
func (s *State) setRule(o *options) error {
	if o.fullSet {
		return s.SetFullRule(o.full)
	}
	return s.SetFullRule(s.model.family.kinds[s.model.config.Kind])
}

// newest returns the newest ids of a prompt that the model has positions for.
func (m *Model) newest(ids []int) []int {
	if n := m.config.BlockSize; n > 0 && len(ids) > n {
		return ids[len(ids)-n:]
	}
	return ids
}

// CheckOptions returns the error that generating with these options would give.
func CheckOptions(opts ...Option) error {
	_, err := newOptions(opts)
	return err
}

// start begins a generation after what the state has seen.
func (s *State) start(tok tokenizer.Tokenizer, opts []Option) (*generation, error) {
	if s.total == 0 {
		return nil, ErrEmpty
	}
	g, err := newGeneration(s, tok, opts)
	if err != nil {
		return nil, err
	}
	if g.fullSet {
		if err := s.SetFullRule(g.full); err != nil {
			return nil, err
		}
	}
	for _, id := range s.ids {
		g.sampler.observe(id)
	}
	return g, nil
}

func newGeneration(s *State, tok tokenizer.Tokenizer, opts []Option) (*generation, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if err := s.model.CheckIDs(o.seen); err != nil {
		return nil, fmt.Errorf("seen before: %w", err)
	}
	g := &generation{options: o, state: s, sampler: newSampler(o.sampling, s.model.config.VocabSize)}
	for _, id := range o.seen {
		g.sampler.observe(id)
	}
	if tok == nil {
		if len(o.stopStrings) > 0 {
			return nil, fmt.Errorf("rwkv: stop strings need a tokenizer")
		}
		return g, nil
	}
	if end := tok.EndOfText(); o.stopAtEnd && end >= 0 {
		o.stopTokens = append(o.stopTokens, end)
	}
	g.decoder = tokenizer.NewDecoder(tok)
	g.stopper = newStopper(o.stopStrings)
	return g, nil
}

// tokens runs the loop. keep appends the last token to the state too.
func (g *generation) tokens(ctx context.Context, keep bool, yield func(Token, error) bool) {
	for g.made < g.maxTokens {
		if err := ctx.Err(); err != nil {
			yield(Token{}, err)
			return
		}
		t, stop, err := g.sample()
		if err != nil {
			yield(Token{}, err)
			return
		}
		if stop {
			return
		}
		more := yield(t, nil) && g.made < g.maxTokens
		if more || keep {
			if err := g.feed(t); err != nil {
				if more {
					yield(Token{}, err)
				}
				return
			}
		}
		if !more {
			return
		}
	}
}

// sample picks the next token, and reports whether it ends the text instead.
func (g *generation) sample() (t Token, stop bool, err error) {
	g.sampler.skipTo(g.state.Len())
	id, logProb, err := g.sampler.next(g.state.Logits())
	if err != nil {
		return Token{}, false, fmt.Errorf("rwkv: after %d tokens: %w", g.state.Len(), err)
	}
	if slices.Contains(g.stopTokens, id) {
		return Token{}, true, nil
	}
	g.sampler.observe(id)
	g.made++
	t = Token{ID: id, LogProb: logProb}
	if g.onToken != nil {
		g.onToken(t)
	}
	return t, false, nil
}

// feed appends a sampled token to the state.
func (g *generation) feed(t Token) error {
	g.next[0] = t.ID
	_, err := g.state.Append(g.next[:])
	return err
}

// text runs the loop and yields text.
func (g *generation) text(ctx context.Context, keep bool, yield func(string, error) bool) {
	g.sampler.SkipLogProb = g.onToken == nil // nobody sees them
	var failed error
	done := false
	for t, err := range func(y func(Token, error) bool) { g.tokens(ctx, keep, y) } {
		if err != nil {
			failed = err
			break
		}
		piece, stop := g.piece(t)
		if piece != "" && !yield(piece, nil) {
			return
		}
		if stop {
			done = true
			break
		}
	}
	if !done {
		if piece := g.rest(); piece != "" && !yield(piece, nil) {
			return
		}
	}
	if failed != nil {
		yield("", failed)
	}
}

// piece returns the text that is certain with a token, and whether a stop string ended it.
func (g *generation) piece(t Token) (text string, stop bool) {
	return g.stopper.push(g.decoder.Push(t.ID))
}

// rest returns the text that was held back.
func (g *generation) rest() string {
	text, stop := g.stopper.push(g.decoder.Flush())
	if !stop {
		text += g.stopper.flush()
	}
	return text
}
