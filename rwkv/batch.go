package rwkv

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// Batch generates several sequences together: each step reads every weight once for all of them.
// Sequences join and leave between steps, and each gets exactly the tokens that it would get
// alone. A Batch belongs to one goroutine.
type Batch struct {
	model   *Model
	budget  int
	clock   int // counts the turns that prompts have taken
	active  []*Sequence
	waiting []*Sequence // whose prompts a pass may read, in turn
	fed     []*Sequence // in the present pass, with their states and what each is fed
	states  []*State
	feed    [][]int
	draws   draws
}

// Sequence is one text of a Batch.
type Sequence struct {
	g      *generation
	prompt []int // of it, what isn't read yet
	size   int   // tokens of the prompt
	chunks []int // tokens of the next passes that read it, see PromptChunks
	scores *promptScores
	turn   int   // when it joined or read last, by the batch's clock
	draws  bool  // a token in the present pass
	drawn  Token // that it was, or why none could be
	drew   error
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

// SetPromptBudget has one Step read about so many tokens of prompts, for all sequences together, so that
// those that write aren't kept waiting longer: prompts take turns, a chunk each, until less than half of
// the next chunk fits, but at least one chunk is read. The next Step goes on where this one ended, so that
// a long prompt keeps no other waiting. 0, the default: a Step reads one chunk of each.
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
	q.size = len(q.prompt)
	q.turn = b.tick()
	if g.scorePrompt {
		if s.layers == nil {
			return nil, fmt.Errorf("rwkv: log-probabilities of a prompt for kind %s, in which a position sees those after it", b.model.config.Kind)
		}
		q.scores = &promptScores{top: g.promptTop}
		q.scores.expect(s, prompt[:len(prompt)-len(q.prompt)])
		s.scores = q.scores
	}
	told := g.onToken
	g.onToken = func(t Token) {
		q.tokens = append(q.tokens, t)
		if told != nil {
			told(t)
		}
	}
	g.sampler.SkipLogProb = g.noLogProbs
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

// Step reads the next chunk, 256 tokens unless PromptChunks says otherwise, of the prompts of sequences
// that have some left, or as many as SetPromptBudget says, makes one token of every other sequence and of
// those that have read theirs, and lets leave those that are done. An error of a single sequence ends that
// one alone: see Sequence.Err. An error of Step is of the model: nothing is known of the sequences' states
// then.
func (b *Batch) Step() error { return b.StepContext(context.Background()) }

// StepContext is Step that ends with ctx between passes of the model, with ctx's error.
func (b *Batch) StepContext(ctx context.Context) error {
	for _, q := range b.active {
		q.piece = ""
	}
	left := b.budget
	for first := true; ; first = false {
		b.fed, b.states, b.feed = b.fed[:0], b.states[:0], b.feed[:0]
		if first {
			b.gatherWriting()
		}
		read := b.gatherPrompts(left, first)
		if !first && read == 0 {
			break
		}
		if err := b.pass(ctx); err != nil {
			return err
		}
		if left -= read; left <= 0 {
			break
		}
	}
	b.active = slices.DeleteFunc(b.active, func(q *Sequence) bool { return q.done })
	return nil
}

// tick returns the time of the next turn.
func (b *Batch) tick() int {
	b.clock++
	return b.clock
}

// gatherWriting lets the sequences that write take part in the next pass.
func (b *Batch) gatherWriting() {
	for _, q := range b.active {
		if q.paused || len(q.prompt) > 0 {
			continue
		}
		var feed []int
		if q.unfed {
			q.g.next[0] = q.last.ID
			feed = q.g.next[:]
		}
		b.gather(q, feed)
	}
}

// gatherPrompts lets prompts take part in the next pass, in turn, and returns how many tokens are read.
func (b *Batch) gatherPrompts(left int, first bool) (read int) {
	b.waiting = b.waiting[:0]
	for _, q := range b.active {
		if !q.paused && !q.done && len(q.prompt) > 0 {
			b.waiting = append(b.waiting, q)
		}
	}
	slices.SortFunc(b.waiting, func(a, b *Sequence) int { return a.turn - b.turn })
	for i, q := range b.waiting {
		n := q.chunk()
		if b.budget > 0 && 2*(left-read) < n && !(first && i == 0) {
			break
		}
		if b.gather(q, q.prompt[:n]) {
			q.turn = b.tick()
			read += n
		}
	}
	return read
}

// gather lets a sequence take part in the next pass, unless it has no room for what it is fed: that ends
// it.
func (b *Batch) gather(q *Sequence, feed []int) bool {
	if err := q.g.state.room(len(feed)); err != nil {
		q.fail(err)
		return false
	}
	q.g.state.sampled = q.unfed && len(q.prompt) == 0
	b.fed, b.states, b.feed = append(b.fed, q), append(b.states, q.g.state), append(b.feed, feed)
	return true
}

// pass runs the model for those that were gathered.
func (b *Batch) pass(ctx context.Context) error {
	if err := b.model.AppendBatchContext(ctx, b.states, b.feed); err != nil {
		return err
	}
	b.draws = b.draws[:0]
	free := false // of functions that aren't ours to call from several goroutines
	for i, q := range b.fed {
		if n := len(b.feed[i]); len(q.prompt) > 0 {
			q.read(n)
		} else {
			q.unfed = false
		}
		if q.draws = len(q.prompt) == 0 && q.g.made < q.g.maxTokens; q.draws {
			b.draws = append(b.draws, q)
			free = free || q.g.sampler.Bias != nil
		}
	}
	if free {
		for i := range b.draws {
			b.draws.Run(i)
		}
	} else {
		tensor.Parallel(len(b.draws), &b.draws)
	}
	for _, q := range b.fed {
		if len(q.prompt) == 0 {
			q.step()
		}
	}
	return nil
}

// draws are the sequences of a pass that a token is sampled for, each by itself.
type draws []*Sequence

// Run samples a token.
func (d *draws) Run(i int) {
	q := (*d)[i]
	q.drawn, q.drew = q.g.sample()
}

// read notes that the state has the next n tokens of the prompt.
func (q *Sequence) read(n int) {
	q.prompt = q.prompt[n:]
	if len(q.chunks) > 0 {
		if q.chunks[0] -= n; q.chunks[0] == 0 {
			q.chunks = q.chunks[1:]
		}
	}
	if len(q.prompt) == 0 {
		q.g.state.scores = nil
	}
	if q.g.onPrompt != nil {
		q.g.onPrompt(q.size-len(q.prompt), q.size)
	}
}

// chunk returns how many tokens of the prompt the next pass reads.
func (q *Sequence) chunk() int {
	if q.g.state.layers == nil { // it reads all again with each
		return len(q.prompt)
	}
	n := min(len(q.prompt), prefillChunk)
	if len(q.chunks) > 0 {
		n = min(n, q.chunks[0])
	}
	return n
}

// step goes on with the token that was sampled after the state's logits.
func (q *Sequence) step() {
	g := q.g
	if !q.draws {
		q.finish(Length)
		return
	}
	t, err := q.drawn, q.drew
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
	q.g.state.scores = nil
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

// PromptTokens returns, with the option PromptLogProbs, the prompt's tokens that were read, with how likely
// each was after those before it. That is NaN for the first of a sequence, and for those that the context
// has no room for.
func (q *Sequence) PromptTokens() []Token {
	if q.scores == nil {
		return nil
	}
	return q.scores.tokens
}

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
