package rwkv

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"microrwkv/tokenizer"
)

// Generate continues prompt and returns pieces of text as they are made: whole UTF-8, whatever the
// tokens' borders. The loop may be left at any time. An error ends it: a prompt that is empty or
// that the tokenizer can't encode, options that make no sense, or ctx's error when ctx ends, which
// is looked at between tokens and between chunks of 256 tokens of the prompt.
//
// The model sees the newest block_size tokens of the prompt; under the rule Refuse a longer one is
// ErrFull.
func (m *Model) Generate(ctx context.Context, tok tokenizer.Tokenizer, prompt string, opts ...Option) iter.Seq2[string, error] {
	check(ctx, tok)
	return func(yield func(string, error) bool) {
		ids, err := tok.Encode(prompt)
		if err != nil {
			yield("", err)
			return
		}
		g, err := m.start(ctx, ids, tok, opts)
		if err != nil {
			yield("", err)
			return
		}
		g.text(ctx, yield)
	}
}

// GenerateTokens continues ids and returns the tokens as they are sampled; stop strings need text,
// and are an error here. Else it is as Generate.
func (m *Model) GenerateTokens(ctx context.Context, ids []int, opts ...Option) iter.Seq2[Token, error] {
	checkContext(ctx)
	return func(yield func(Token, error) bool) {
		g, err := m.start(ctx, ids, nil, opts)
		if err != nil {
			yield(Token{}, err)
			return
		}
		g.tokens(ctx, yield)
	}
}

// Generate continues the state's sequence and appends to it the text that is generated: not a token
// that ends it, and nothing of a stop string. If a token has the last of the text and the first of a
// stop string, that last piece of the text is appended as the tokenizer encodes it. Else it is as
// Model.Generate. The state must have at least one token, and must not be used in another way until
// the loop ends; then it can be used at once.
//
// A text may be made in parts, by several calls with the same options, with the state saved and
// restored between them: it is the same text.
func (s *State) Generate(ctx context.Context, tok tokenizer.Tokenizer, opts ...Option) iter.Seq2[string, error] {
	check(ctx, tok)
	return func(yield func(string, error) bool) {
		g, err := s.start(tok, opts)
		if err != nil {
			yield("", err)
			return
		}
		g.text(ctx, yield)
	}
}

// GenerateTokens is Generate for tokens.
func (s *State) GenerateTokens(ctx context.Context, opts ...Option) iter.Seq2[Token, error] {
	checkContext(ctx)
	return func(yield func(Token, error) bool) {
		g, err := s.start(nil, opts)
		if err != nil {
			yield(Token{}, err)
			return
		}
		g.tokens(ctx, yield)
	}
}

func check(ctx context.Context, tok tokenizer.Tokenizer) {
	checkContext(ctx)
	if tok == nil {
		panic("rwkv: the tokenizer is nil: generate text with one, or tokens with GenerateTokens")
	}
}

func checkContext(ctx context.Context) {
	if ctx == nil {
		panic("rwkv: the context is nil: use context.Background()")
	}
}

// generation is a text in the making.
type generation struct {
	*options
	state   *State
	sampler *sampler
	tok     tokenizer.Tokenizer // nil without a tokenizer, as the two below
	decoder *tokenizer.Decoder
	stopper *stopper
	undo    undo
	end     int // the tokenizer's end of text, if that ends the text, or -1
	made    int // tokens
	reason  Reason
	next    [1]int
}

// start begins a generation after a prompt.
func (m *Model) start(ctx context.Context, ids []int, tok tokenizer.Tokenizer, opts []Option) (*generation, error) {
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
	g.discard = true
	if err := s.prompt(ctx, ids, g.options); err != nil {
		g.ended(reasonOf(err))
		return nil, err
	}
	return g, nil
}

// Prompt appends ids as the prompt of a generation with these options: it sets the rule for full
// contexts, and of a prompt longer than block_size it appends the newest block_size tokens, or under
// the rule Refuse returns ErrFull.
func (s *State) Prompt(ids []int, opts ...Option) error {
	return s.PromptContext(context.Background(), ids, opts...)
}

// PromptContext is Prompt that ends with ctx, as AppendContext.
func (s *State) PromptContext(ctx context.Context, ids []int, opts ...Option) error {
	checkContext(ctx)
	o, err := newOptions(opts)
	if err != nil {
		return err
	}
	return s.prompt(ctx, ids, o)
}

func (s *State) prompt(ctx context.Context, ids []int, o *options) error {
	if s.total+len(ids) == 0 {
		return fmt.Errorf("rwkv: the prompt is empty: %w", ErrEmpty)
	}
	if err := s.model.CheckIDs(ids); err != nil {
		return err
	}
	if err := s.setRule(o); err != nil {
		return err
	}
	rest, err := s.newest(ids)
	if err != nil {
		return err
	}
	s.progress = o.onPrompt
	defer func() { s.progress = nil }()
	return s.append(ctx, rest)
}

// setRule sets the rule for full contexts that the options ask for, or the kind's.
func (s *State) setRule(o *options) error {
	if o.fullSet {
		return s.SetFullRule(o.full)
	}
	return s.SetFullRule(s.model.usualRule())
}

// usualRule returns the kind's rule for full contexts.
func (m *Model) usualRule() FullRule { return m.family.kinds[m.config.Kind] }

// newest returns the newest ids of a prompt that the model has positions for. The others are counted
// for the penalties alone. Under the rule Refuse there are no others.
func (s *State) newest(ids []int) ([]int, error) {
	n := s.model.config.BlockSize
	if n == 0 || len(ids) <= n {
		return ids, nil
	}
	if s.full == Refuse {
		return nil, fmt.Errorf("%w: a prompt of %d tokens, and %d have room", ErrFull, len(ids), n)
	}
	for _, id := range ids[:len(ids)-n] {
		s.seen.add(id, false)
		s.total++
	}
	return ids[len(ids)-n:], nil
}

// CheckOptions returns the error that generating with these options would give with any model.
func CheckOptions(opts ...Option) error {
	_, err := newOptions(opts)
	return err
}

// CheckOptions returns the error that generating with these options would give with this model: ids
// outside its vocabulary, and rules that aren't for its kind, are errors too.
func (m *Model) CheckOptions(opts ...Option) error {
	o, err := newOptions(opts)
	if err != nil {
		return err
	}
	if err := o.checkIDs(m.config.VocabSize); err != nil {
		return err
	}
	if o.fullSet {
		return m.checkRule(o.full)
	}
	return nil
}

// start begins a generation after what the state has seen.
func (s *State) start(tok tokenizer.Tokenizer, opts []Option) (*generation, error) {
	if s.total == 0 {
		return nil, ErrEmpty
	}
	return newGeneration(s, tok, opts)
}

// newGeneration begins a generation after what the state has seen or will, with the rule for full contexts
// that the options ask for.
func newGeneration(s *State, tok tokenizer.Tokenizer, opts []Option) (*generation, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	vocab := s.model.config.VocabSize
	if err := o.checkIDs(vocab); err != nil {
		return nil, err
	}
	if err := s.model.CheckIDs(o.seen); err != nil {
		return nil, fmt.Errorf("seen before: %w", err)
	}
	if o.fullSet {
		if err := s.SetFullRule(o.full); err != nil {
			return nil, err
		}
	}
	g := &generation{options: o, state: s, end: -1}
	var uncounted func(id int32) bool
	if tok != nil {
		g.tok = tok
		g.decoder = tokenizer.NewDecoder(tok)
		g.stopper = newStopper(o.stopStrings)
		if o.stopAtEnd {
			g.end = tok.EndOfText()
		}
		if o.Sampler == Official {
			var text []byte
			uncounted = func(id int32) bool {
				text = tok.AppendToken(text[:0], int(id))
				return strings.Contains(" \t0123456789", string(text))
			}
		}
	} else if len(o.stopStrings) > 0 {
		return nil, fmt.Errorf("rwkv: stop strings need a tokenizer")
	}
	g.sampler = newSampler(o.sampling, vocab, newPenalty(&o.sampling, vocab, &s.seen, o.seen, uncounted))
	return g, nil
}

// tokens runs the loop for tokens.
func (g *generation) tokens(ctx context.Context, yield func(Token, error) bool) {
	for g.made < g.maxTokens {
		t, err := g.step(ctx)
		if err != nil {
			g.fail(err, func(err error) { yield(Token{}, err) })
			return
		}
		if g.reason != "" {
			g.ended(g.reason)
			return
		}
		g.tell(t)
		left := !yield(t, nil)
		if more := !left && g.made < g.maxTokens; more || !g.discard {
			if err := g.feed(ctx, t); err != nil && more {
				g.fail(err, func(err error) { yield(Token{}, err) })
				return
			}
		}
		if left {
			return
		}
	}
	g.ended(Length)
}

// text runs the loop for text.
func (g *generation) text(ctx context.Context, yield func(string, error) bool) {
	g.sampler.SkipLogProb = g.onToken == nil // nobody sees them
	err := error(nil)
	for g.made < g.maxTokens {
		var t Token
		if t, err = g.step(ctx); err != nil || g.reason != "" {
			break
		}
		piece, stop := g.push(t)
		if piece != "" && !yield(piece, nil) {
			if !stop && !g.discard {
				_ = g.feed(ctx, t) // the caller has left: what the state lacks then, its length tells
			}
			return
		}
		if stop {
			g.stopped(yield)
			return
		}
		if more := g.made < g.maxTokens; more || !g.discard {
			if err = g.feed(ctx, t); err != nil {
				if !more {
					err = nil // the text is whole
				}
				break
			}
		}
	}
	piece, stop := g.rest()
	if piece != "" && !yield(piece, nil) {
		return
	}
	switch {
	case stop:
		g.stopped(yield)
	case err != nil:
		g.fail(err, func(err error) { yield("", err) })
	case g.reason != "":
		g.ended(g.reason)
	default:
		g.ended(Length)
	}
}

// stopped ends the text at a stop string.
func (g *generation) stopped(yield func(string, error) bool) {
	if err := g.cut(); err != nil {
		g.fail(err, func(err error) { yield("", err) })
		return
	}
	g.ended(Stop)
}

// fail ends the text with an error.
func (g *generation) fail(err error, yield func(error)) {
	g.ended(reasonOf(err))
	yield(err)
}

// step samples the next token, unless ctx has ended.
func (g *generation) step(ctx context.Context) (Token, error) {
	if err := ctx.Err(); err != nil {
		return Token{}, err
	}
	return g.sample()
}

// sample picks the next token; if it ends the text, reason says so.
func (g *generation) sample() (Token, error) {
	g.sampler.skipTo(g.state.Len())
	id, logProb, err := g.sampler.next(g.state.Logits())
	if err != nil {
		return Token{}, fmt.Errorf("rwkv: after %d tokens: %w", g.state.Len(), err)
	}
	switch {
	case slices.Contains(g.stopTokens, id):
		g.reason = Stop
		return Token{}, nil
	case id == g.end:
		g.reason = End
		return Token{}, nil
	}
	g.made++
	return Token{id, logProb, topLogProbs(g.state.Logits(), g.topLogProbs)}, nil
}

// ended notes why the text ended, and tells it.
func (g *generation) ended(r Reason) {
	g.reason = r
	if g.onEnd != nil {
		g.onEnd(r)
	}
}

// tell calls OnToken.
func (g *generation) tell(t Token) {
	if g.onToken != nil {
		g.onToken(t)
	}
}

// feed appends a sampled token to the state.
func (g *generation) feed(ctx context.Context, t Token) error {
	g.next[0] = t.ID
	g.state.sampled = true
	return g.state.append(ctx, g.next[:])
}
