package rwkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// FullRule says what a State does when its context has block_size tokens and another comes.
type FullRule uint8

const (
	// KeepHalf forgets all but the newest block_size/2 tokens, computes those again from position
	// 0 and goes on: one prefill in block_size/2 tokens.
	KeepHalf FullRule = iota
	// Recompute computes the newest block_size tokens again from position 0, for each further
	// token: what the published programs do. It is the only rule of kind Reference, which computes
	// all positions for each token anyway.
	Recompute
	// Refuse returns ErrFull.
	Refuse
)

// ErrFull is returned under the rule Refuse when a context has no room for more tokens.
var ErrFull = errors.New("rwkv: the context is full (block_size)")

// State is all that changes while a model reads or writes one sequence. It belongs to one
// goroutine at a time; many States share a Model. For kinds that stream, its size and the cost of
// a token don't depend on how many came before; a State of kind Reference is its tokens.
type State struct {
	model  *Model
	layers *sequenceState // nil if the kind doesn't stream
	ids    []int          // the context, from position 0; not kept without a block_size
	pos    int            // tokens in the context
	total  int            // tokens since the start, those that the context lost included
	full   FullRule
	logits []float32 // [V], after the newest token
	hidden []float32 // [C], that the logits are made of
	feed   []int     // tokens of the present Append, after those to compute again
	fed    int       // of feed that went through the layers
	seen   history
	// sampled says that the ids of the next Append were generated.
	sampled  bool
	progress func(done, total int) // of the next Append, if not nil
	scores   *promptScores         // of what is appended, if not nil
	busy     atomic.Bool           // a call uses the state
}

// NewState returns the state of an empty sequence.
func (m *Model) NewState() *State {
	s := &State{model: m, layers: m.net.newState(), logits: make([]float32, m.config.VocabSize), hidden: make([]float32, m.config.EmbedDim)}
	if s.layers == nil {
		s.full = Recompute
	}
	if n := m.config.BlockSize; n > 0 {
		s.ids = make([]int, 0, n)
	}
	return s
}

// SetFullRule says what happens when the context is full. States begin with KeepHalf, those of kind
// Reference with Recompute; for Reference KeepHalf is an error.
func (s *State) SetFullRule(r FullRule) error {
	if err := s.model.checkRule(r); err != nil {
		return err
	}
	s.full = r
	return nil
}

// checkRule returns an error if a rule isn't for the model's kind.
func (m *Model) checkRule(r FullRule) error {
	if r > Refuse || (!m.Streams() && r == KeepHalf) {
		return fmt.Errorf("rwkv: rule %d for full contexts isn't for kind %s", r, m.config.Kind)
	}
	return nil
}

// Model returns the state's model.
func (s *State) Model() *Model { return s.model }

// Len returns the number of tokens appended so far.
func (s *State) Len() int { return s.total }

// ContextLen returns how many of the newest tokens the state remembers in full: for kinds with
// a block_size at most that many.
func (s *State) ContextLen() int { return s.pos }

// Logits returns the logits [V] after the newest token, all zero for an empty sequence. They are
// the state's own and change with the next Append.
func (s *State) Logits() []float32 { return s.logits }

// Hidden returns the normalized last hidden row [C] after the newest token, of which the head makes
// the logits: an embedding of the sequence. It is all zero for an empty one, the state's own, and
// changes with the next Append.
func (s *State) Hidden() []float32 { return s.hidden }

// Reset makes s the state of an empty sequence.
func (s *State) Reset() {
	s.use()
	defer s.done()
	s.restart()
	s.total = 0
	s.seen.reset()
	clear(s.logits)
	clear(s.hidden)
}

// use says that a call uses the state from now on, until done.
func (s *State) use() {
	if !s.busy.CompareAndSwap(false, true) {
		panic("rwkv: two calls use one State at the same time: clone it, or let one wait for the other")
	}
}

func (s *State) done() { s.busy.Store(false) }

// restart empties the context.
func (s *State) restart() {
	s.layers.reset()
	s.ids, s.pos = s.ids[:0], 0
}

// Clone returns an independent copy, to branch a sequence or to roll it back to.
func (s *State) Clone() *State {
	c := s.model.NewState()
	c.CopyFrom(s)
	return c
}

// CopyFrom makes s a copy of o, a State of the same model, in the memory that s has.
func (s *State) CopyFrom(o *State) {
	if s.model != o.model {
		panic("rwkv: CopyFrom a State of another model")
	}
	s.use()
	defer s.done()
	o.use()
	defer o.done()
	s.copyFrom(o)
}

func (s *State) copyFrom(o *State) {
	s.full, s.pos, s.total = o.full, o.pos, o.total
	s.ids = append(s.ids[:0], o.ids...)
	s.seen.copyFrom(&o.seen)
	copy(s.logits, o.logits)
	copy(s.hidden, o.hidden)
	for i, from := range o.layers.states() {
		copyState(s.layers.layers[i], from)
	}
}

func copyState(to, from nn.State) {
	if err := to.SetRows(from.Rows()); err != nil {
		panic("rwkv: " + err.Error()) // states of one layer hold the same
	}
	parts := slices.Collect(to.Parts)
	i := 0
	for p := range from.Parts {
		copy(parts[i], p)
		i++
	}
}

// Append feeds tokens and returns the logits [V] after the last of them, as Logits does. It is
// an error if a token is outside the vocabulary or, under the rule Refuse, if there is no room for
// all of them; the state is unchanged then. Appending no tokens returns the present logits.
//
// However a sequence is cut into calls of Append, the logits are the same but for rounding.
func (s *State) Append(ids []int) ([]float32, error) {
	return s.AppendContext(context.Background(), ids)
}

// AppendContext is Append that ends with ctx, which is looked at before each 256 tokens. The state
// has read the first of the ids then: Len tells how many.
func (s *State) AppendContext(ctx context.Context, ids []int) ([]float32, error) {
	if err := s.append(ctx, ids); err != nil {
		return nil, err
	}
	return s.logits, nil
}

func (s *State) append(ctx context.Context, ids []int) error {
	one, tokens := [1]*State{s}, [1][]int{ids}
	return s.model.AppendBatchContext(ctx, one[:], tokens[:])
}

const (
	// prefillChunk is the tokens of a sequence that go through the layers in one pass. It doesn't
	// depend on what else is in the batch, so that a sequence's bits don't either.
	prefillChunk = 256
	// maxRows bounds the rows of a pass, and so the scratch.
	maxRows = 1024
)

// AppendBatch appends tokens ids[i] to states[i], for all i together: each weight is read once for
// all of them. Every state ends with exactly the bits that Append alone would give. The states
// must be of this model and different from each other; the errors are Append's, and no state has
// changed then.
func (m *Model) AppendBatch(states []*State, ids [][]int) error {
	return m.AppendBatchContext(context.Background(), states, ids)
}

// AppendBatchContext is AppendBatch as AppendContext is Append.
func (m *Model) AppendBatchContext(ctx context.Context, states []*State, ids [][]int) error {
	if len(states) != len(ids) {
		return fmt.Errorf("rwkv: %d states for %d sequences", len(states), len(ids))
	}
	for i, s := range states {
		if s.model != m {
			return fmt.Errorf("rwkv: state %d is of another model", i)
		}
		for _, o := range states[:i] {
			if o == s {
				return fmt.Errorf("rwkv: state %d is twice in the batch", i)
			}
		}
		if err := m.CheckIDs(ids[i]); err != nil {
			return err
		}
		if err := s.room(len(ids[i])); err != nil {
			return err
		}
	}
	b, err := m.acquire()
	if err != nil {
		return err
	}
	for _, s := range states {
		s.use()
	}
	for i, s := range states {
		if s.scores != nil {
			s.scores.expect(s, ids[i])
		}
		s.plan(ids[i])
	}
	err = m.passes(ctx, b, states)
	for i, s := range states {
		// What ctx kept from being read is at the end of ids.
		read := ids[i][:len(ids[i])-min(len(s.feed)-s.fed, len(ids[i]))]
		s.total += len(read)
		for _, id := range read {
			s.seen.add(id, s.sampled)
		}
		s.sampled = false
		s.done()
	}
	m.release(b)
	return err
}

// passes runs passes until the states have read what they are to read.
func (m *Model) passes(ctx context.Context, b *batch, states []*State) error {
	return m.guard(func() error {
		for slices.ContainsFunc(states, (*State).hungry) {
			if err := ctx.Err(); err != nil {
				return err
			}
			m.pass(b, states)
			for _, s := range b.members {
				if s.progress != nil {
					s.progress(s.fed, len(s.feed))
				}
			}
		}
		return nil
	})
}

// hungry reports whether the state has tokens to read.
func (s *State) hungry() bool { return s.fed < len(s.feed) }

// room returns an error if the state's rule leaves no room for n tokens more.
func (s *State) room(n int) error {
	if size := s.model.config.BlockSize; s.full == Refuse && size > 0 && s.pos+n > size {
		return fmt.Errorf("%w: %d tokens and %d more of %d", ErrFull, s.pos, n, size)
	}
	return nil
}

// plan sets feed to the tokens that have to go through the layers for ids, empties the context
// first if it would overflow.
func (s *State) plan(ids []int) {
	s.feed, s.fed = append(s.feed[:0], ids...), 0
	n := s.model.config.BlockSize
	if n == 0 || len(ids) == 0 {
		return
	}
	if over := s.pos + len(ids) - n; over > 0 {
		drop := over
		if s.full == KeepHalf {
			// Each time that the context is full, it loses its older half. Only what the last
			// time leaves has to be computed.
			lose := n - n/2
			drop = (over + lose - 1) / lose * lose
		}
		if drop < s.pos {
			s.feed = append(append(s.feed[:0], s.ids[drop:s.pos]...), ids...)
		} else {
			s.feed = append(s.feed[:0], ids[drop-s.pos:]...)
		}
		s.restart()
	} else if s.layers == nil { // the whole sequence again
		s.feed = append(append(s.feed[:0], s.ids...), ids...)
		s.restart()
	}
}

// pass runs the next chunk of as many states as have one and fit into a pass. There must be one.
func (m *Model) pass(b *batch, states []*State) {
	b.reset()
	b.last = true
	for _, s := range states {
		n := len(s.feed) - s.fed
		if s.layers != nil {
			n = min(n, prefillChunk)
		}
		if n == 0 {
			continue
		}
		chunk := s.feed[s.fed:][:n]
		b.add(chunk, s.pos, s.layers)
		b.members = append(b.members, s)
		if m.config.BlockSize > 0 {
			s.ids = append(s.ids, chunk...)
		}
		s.pos += n
		s.fed += n
		b.last = b.last && s.scores == nil
		if len(b.ids) >= maxRows {
			break
		}
	}
	hidden := m.net.forward(b)
	if !b.last {
		for i, s := range b.members {
			if s.scores != nil {
				s.scores.add(s, m.net.head, hidden.Rows(b.spans[i], b.spans[i+1]), &b.scratch)
			}
		}
		hidden = b.lastRows(hidden)
	}
	logits := b.scratch.New(hidden.Dim(0), m.config.VocabSize)
	tensor.Linear(tensor.Product{Dst: logits, X: hidden, W: m.net.head})
	for i, s := range b.members {
		copy(s.logits, logits.Row(i))
		copy(s.hidden, hidden.Row(i))
	}
}

// Finite reports whether no number of the state is NaN or infinite, as one may be that comes from
// elsewhere.
func (s *State) Finite() bool {
	ok := finite(s.logits) && finite(s.hidden)
	for _, l := range s.layers.states() {
		l.Parts(func(p []float32) bool {
			ok = ok && finite(p)
			return ok
		})
	}
	return ok
}

// finite reports whether all numbers of x are.
func finite(x []float32) bool {
	for _, v := range x {
		if v-v != 0 {
			return false
		}
	}
	return true
}
