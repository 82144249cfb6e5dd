package rwkv

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"microrwkv/tokenizer"
)

// Batch generates several sequences together: each step reads every weight once for all of them.
// Sequences join and leave between steps, and each gets exactly the tokens that it would get
// alone. A Batch belongs to one goroutine.
type Batch struct {
	model  *Model
	budget int
	active []*Sequence
	fed    []*Sequence // in the present step, with their states and what each is fed
	states []*State
	feed   [][]int
}

// Sequence is one text of a Batch.
type Sequence struct {
	g      *generation
	prompt []int // of it, what isn't read yet
	chunks []int // tokens of the next passes that read it, see PromptChunks
	paused bool
	last   Token // sampled, and not appended to the state if unfed
	unfed  bool
	tokens []Token
	text   []byte
	piece  string
	err    error
	done   bool
}

// NewBatch returns a batch without sequences.
func (m *Model) NewBatch() *Batch { return &Batch{model: m} }

// SetPromptBudget limits the tokens of prompts that one Step reads, for all sequences together, so that
// those that write aren't kept waiting: prompts are read in the order of joining, at least one chunk
// of 256 tokens a step. 0, the default, is no limit.
func (b *Batch) SetPromptBudget(tokens int) { b.budget = tokens }

// Add lets a sequence join that begins with prompt, of at least one id. With a tokenizer it makes
// text; tok may be nil. The conditions are those of Generate.
func (b *Batch) Add(prompt []int, tok tokenizer.Tokenizer, opts ...Option) (*Sequence, error) {
	s := b.model.NewState()
	if err := s.SetFullRule(b.model.usualRule()); err != nil {
		return nil, err
	}
	return b.AddState(s, prompt, tok, opts...)
}

// AddState lets a sequence join that goes on from a state, which belongs to it then, after reading
// prompt; that may be empty if the state isn't. Else it is as Add.
func (b *Batch) AddState(s *State, prompt []int, tok tokenizer.Tokenizer, opts ...Option) (*Sequence, error) {
	switch {
	case s.model != b.model:
		return nil, errors.New("rwkv: the state is of another model")
	case slices.ContainsFunc(b.active, func(q *Sequence) bool { return q.g.state == s }):
		return nil, errors.New("rwkv: the state is in the batch already")
	case s.total+len(prompt) == 0:
		return nil, fmt.Errorf("rwkv: the prompt is empty: %w", ErrEmpty)
	}
	if err := b.model.CheckIDs(prompt); err != nil {
		return nil, err
	}
	g, err := newGeneration(s, tok, opts)
	if err != nil {
		return nil, err
	}
	q := &Sequence{g: g}
	if q.prompt, err = s.newest(prompt); err != nil {
		return nil, err
	}
	if len(q.prompt) == len(prompt) {
		q.chunks = slices.Clone(g.promptChunks)
	}
	q.prompt = slices.Clone(q.prompt)
	told := g.onToken
	g.onToken = func(t Token) {
		q.tokens = append(q.tokens, t)
		if told != nil {
			told(t)
		}
	}
	if g.maxTokens == 0 && len(q.prompt) == 0 {
		q.finish(Length)
		return q, nil
	}
	b.active = append(b.active, q)
	return q, nil
}

// Remove lets a sequence leave before it is done.
func (b *Batch) Remove(q *Sequence) {
	if i := slices.Index(b.active, q); i >= 0 {
		b.active = slices.Delete(b.active, i, i+1)
		q.finish(Interrupted)
	}
}

// Len returns the number of sequences that aren't done.
func (b *Batch) Len() int { return len(b.active) }

// Step reads the next 256 tokens of the prompts of sequences that have some left, makes one token of
// every other sequence and of those that have read theirs, and lets leave those that are done. An
// error of a single sequence ends that one alone: see Sequence.Err. An error of Step is of the model:
// nothing is known of the sequences' states then.
func (b *Batch) Step() error { return b.StepContext(context.Background()) }

// StepContext is Step that ends with ctx between passes of the model, with ctx's error.
func (b *Batch) StepContext(ctx context.Context) error {
	b.fed, b.states, b.feed = b.fed[:0], b.states[:0], b.feed[:0]
	left := b.budget
	for _, q := range b.active {
		q.piece = ""
		if q.paused {
			continue
		}
		var feed []int
		switch {
		case len(q.prompt) > 0:
			if b.budget > 0 && left <= 0 {
				continue
			}
			feed = q.prompt[:q.chunk()]
			left -= len(feed)
		case q.unfed:
			q.g.next[0] = q.last.ID
			feed = q.g.next[:]
		}
		if err := q.g.state.room(len(feed)); err != nil {
			q.fail(err)
			continue
		}
		q.g.state.sampled = q.unfed && len(q.prompt) == 0
		b.fed, b.states, b.feed = append(b.fed, q), append(b.states, q.g.state), append(b.feed, feed)
	}
	if err := b.model.AppendBatchContext(ctx, b.states, b.feed); err != nil {
		return err
	}
	for i, q := range b.fed {
		if n := len(b.feed[i]); len(q.prompt) > 0 {
			q.prompt = q.prompt[n:]
			if len(q.chunks) > 0 {
				if q.chunks[0] -= n; q.chunks[0] == 0 {
					q.chunks = q.chunks[1:]
				}
			}
		} else {
			q.unfed = false
		}
		if len(q.prompt) == 0 {
			q.step()
		}
	}
	b.active = slices.DeleteFunc(b.active, func(q *Sequence) bool { return q.done })
	return nil
}

// chunk returns how many tokens of the prompt the next pass reads.
func (q *Sequence) chunk() int {
	n := min(len(q.prompt), prefillChunk)
	if len(q.chunks) > 0 {
		n = min(n, q.chunks[0])
	}
	return n
}

// step samples a token after the state's logits.
func (q *Sequence) step() {
	g := q.g
	if g.made >= g.maxTokens {
		q.finish(Length)
		return
	}
	t, err := g.sample()
	switch {
	case err != nil:
		q.fail(err)
	case g.reason != "":
		q.rest(g.reason)
	case g.decoder == nil:
		g.tell(t)
		q.wrote(t)
	default:
		text, stop := g.push(t)
		q.say(text)
		if stop {
			q.stopped()
			return
		}
		q.wrote(t)
	}
}

// wrote notes a token that the state doesn't have, and ends the sequence if there is no room for more.
func (q *Sequence) wrote(t Token) {
	q.last, q.unfed = t, true
	if q.g.made >= q.g.maxTokens {
		q.rest(Length)
	} else if err := q.g.state.room(1); err != nil {
		q.fail(err)
	}
}

// fail ends the sequence with an error.
func (q *Sequence) fail(err error) {
	q.err = err
	q.rest(reasonOf(err))
}

// rest ends the sequence after the text that was held back.
func (q *Sequence) rest(r Reason) {
	if q.g.decoder != nil {
		text, stop := q.g.rest()
		q.say(text)
		if stop {
			q.err = nil
			q.stopped()
			return
		}
	}
	q.finish(r)
}

// stopped ends the sequence before a stop string.
func (q *Sequence) stopped() {
	q.unfed = false // cut feeds what is to stay
	if err := q.g.cut(); err != nil {
		q.err = err
		q.finish(reasonOf(err))
		return
	}
	q.finish(Stop)
}

func (q *Sequence) finish(r Reason) {
	q.done = true
	q.g.ended(r)
}

func (q *Sequence) say(text string) {
	q.piece += text
	q.text = append(q.text, text...)
}

// Piece returns the text that the last Step made certain, as Generate would have yielded it.
func (q *Sequence) Piece() string { return q.piece }

// Text returns all text so far.
func (q *Sequence) Text() string { return string(q.text) }

// Tokens returns the tokens of the text so far, without one that ended it, and without those that may
// belong to a stop string.
func (q *Sequence) Tokens() []Token { return q.tokens }

// PromptLeft returns how many tokens of the prompt aren't read yet.
func (q *Sequence) PromptLeft() int { return len(q.prompt) }

// Pause says whether steps pass the sequence over, though it stays in the batch.
func (q *Sequence) Pause(on bool) { q.paused = on }

// Fork returns a copy of the sequence's state between steps: it has what of the prompt was read, and of
// the text all tokens but the newest.
func (q *Sequence) Fork() *State { return q.g.state.Clone() }

// Done reports whether the sequence has ended.
func (q *Sequence) Done() bool { return q.done }

// Reason returns why the sequence has ended, "" while it hasn't. Of one that was removed it is
// Interrupted.
func (q *Sequence) Reason() Reason { return q.g.reason }

// Err returns what ended the sequence before its time, or nil.
func (q *Sequence) Err() error { return q.err }

// State returns the state of a sequence that has ended: as State.Generate would leave it, with the
// last token of the text. Under the rule Refuse a full context is ErrFull and lacks that token. With
// the option Discard the state is any.
func (q *Sequence) State() (*State, error) {
	if !q.done {
		return nil, errors.New("rwkv: the sequence hasn't ended")
	}
	if q.unfed {
		if err := q.g.feed(context.Background(), q.last); err != nil {
			return q.g.state, err
		}
		q.unfed = false
	}
	return q.g.state, nil
}
