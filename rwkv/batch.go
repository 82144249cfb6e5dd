package rwkv

import (
	"fmt"
	"slices"

	"microrwkv/tokenizer"
)

// Batch generates several sequences together: each step reads every weight once for all of them.
// Sequences join and leave between steps, and each gets exactly the tokens that it would get
// alone. A Batch belongs to one goroutine.
type Batch struct {
	model  *Model
	active []*Sequence
	states []*State // of active, and what each is fed
	feed   [][]int
}

// Sequence is one text of a Batch.
type Sequence struct {
	g      *generation
	feed   []int // to append before the next token is sampled
	tokens []Token
	text   []byte
	piece  string
	err    error
	done   bool
}

// NewBatch returns a batch without sequences.
func (m *Model) NewBatch() *Batch { return &Batch{model: m} }

// Add lets a sequence join that begins with prompt, of at least one id. With a tokenizer it makes
// text; tok may be nil. The conditions are those of Generate.
func (b *Batch) Add(prompt []int, tok tokenizer.Tokenizer, opts ...Option) (*Sequence, error) {
	if len(prompt) == 0 {
		return nil, fmt.Errorf("rwkv: the prompt is empty: %w", ErrEmpty)
	}
	if err := b.model.CheckIDs(prompt); err != nil {
		return nil, err
	}
	g, err := newGeneration(b.model.NewState(), tok, opts)
	if err != nil {
		return nil, err
	}
	if err := g.state.setRule(g.options); err != nil {
		return nil, err
	}
	for _, id := range prompt {
		g.sampler.observe(id)
	}
	q := &Sequence{g: g, feed: slices.Clone(b.model.newest(prompt))}
	if g.maxTokens == 0 {
		q.done = true
		return q, nil
	}
	b.active = append(b.active, q)
	return q, nil
}

// Remove lets a sequence leave before it is done.
func (b *Batch) Remove(q *Sequence) {
	if i := slices.Index(b.active, q); i >= 0 {
		b.active = slices.Delete(b.active, i, i+1)
		q.done = true
	}
}

// Len returns the number of sequences that aren't done.
func (b *Batch) Len() int { return len(b.active) }

// Step makes one token of every sequence, and lets those leave that are done with it. An error of
// a single sequence ends that one alone: see Sequence.Err.
func (b *Batch) Step() error {
	b.states, b.feed = b.states[:0], b.feed[:0]
	for _, q := range b.active {
		b.states, b.feed = append(b.states, q.g.state), append(b.feed, q.feed)
	}
	if err := b.model.AppendBatch(b.states, b.feed); err != nil {
		return err
	}
	for _, q := range b.active {
		q.step()
	}
	b.active = slices.DeleteFunc(b.active, func(q *Sequence) bool { return q.done })
	return nil
}

// step samples a token after the state's logits.
func (q *Sequence) step() {
	q.piece = ""
	t, stop, err := q.g.sample()
	if err != nil {
		q.err, stop = err, true
	}
	if !stop {
		q.tokens = append(q.tokens, t)
		q.feed = append(q.feed[:0], t.ID)
		if q.g.decoder != nil {
			if q.piece, q.done = q.g.piece(t); q.done {
				q.text = append(q.text, q.piece...)
				return
			}
		}
		q.done = q.g.made >= q.g.maxTokens || q.full()
	} else {
		q.done = true
	}
	if q.done && q.g.decoder != nil {
		q.piece += q.g.rest()
	}
	q.text = append(q.text, q.piece...)
}

// full reports, and notes as the sequence's error, that its rule leaves no room for another token.
func (q *Sequence) full() bool {
	s := q.g.state
	if s.full != Refuse || s.model.config.BlockSize == 0 || s.pos < s.model.config.BlockSize {
		return false
	}
	q.err = ErrFull
	return true
}

// Piece returns the text that the last Step made certain, as Generate would have yielded it.
func (q *Sequence) Piece() string { return q.piece }

// Text returns all text so far.
func (q *Sequence) Text() string { return string(q.text) }

// Tokens returns the tokens so far, without one that ended the text.
func (q *Sequence) Tokens() []Token { return q.tokens }

// Done reports whether the sequence has ended.
func (q *Sequence) Done() bool { return q.done }

// Err returns what ended the sequence before its time, or nil.
func (q *Sequence) Err() error { return q.err }
