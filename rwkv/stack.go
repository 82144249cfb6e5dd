package rwkv

import (
	"fmt"
	"slices"
	"sync"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// stack is the network of every kind, from ids to the hidden rows that the head turns into logits:
// embeddings, blocks of residual steps, a last norm.
type stack struct {
	emb     nn.Embedding   // [V, C]
	pos     nn.Embedding   // [block_size, C], added by position; empty where there are no positions
	in      nn.LayerNorm   // of the embedding; without a Gain there is none
	blocks  []block        // in order
	out     nn.LayerNorm   // of the hidden rows
	head    *tensor.Weight // [V, C]
	streams bool           // a token costs the same however many came before

	startOnce sync.Once
	start     *sequenceState // of an empty sequence, nil if it is zeros
}

// block is one block of a stack.
type block interface {
	// forward runs the block on x [R, C] in place and returns x. b.norm is room for the norms of x. The
	// last block of a kind whose State is its tokens may return only the wanted rows, if b.last is set.
	forward(b *batch, x *tensor.Tensor) *tensor.Tensor
	// newState returns the block's state for an empty sequence, with the parts that its layers have.
	newState() blockState
}

// blockState is what the layers of a block keep of a sequence. A block has the parts that its layers
// need; the others are zero.
type blockState struct {
	tmix             [2]nn.TimeMixState // of MicroRWKV's two calls; others have the first alone
	cmix             nn.ChannelMixState
	sliding, grouped nn.KVCache
}

// sequenceState is the states of a stack's blocks for one sequence.
type sequenceState struct {
	blocks []blockState
	layers []nn.State     // the parts of blocks that there are, in the order of a saved state
	start  *sequenceState // the states of an empty sequence if they aren't zeros; shared, never changed
}

// states returns the layers' states, none of a nil s.
func (s *sequenceState) states() []nn.State {
	if s == nil {
		return nil
	}
	return s.layers
}

// reset makes s the states of an empty sequence again, as newState returns them.
func (s *sequenceState) reset() {
	for i, l := range s.states() {
		nn.Reset(l)
		if s.start != nil {
			copyState(l, s.start.layers[i])
		}
	}
}

// newState returns the layers' states for one empty sequence, or nil if the kind can't be streamed:
// then each forward pass is a whole sequence.
func (n *stack) newState() *sequenceState {
	if !n.streams {
		return nil
	}
	n.startOnce.Do(func() {
		if s := n.emptyState(); !s.zero() {
			n.start = s
		}
	})
	s := n.emptyState()
	s.start = n.start
	return s
}

// zero reports whether there is nothing but zeros in the states.
func (s *sequenceState) zero() bool {
	for _, l := range s.layers {
		for p := range l.Parts {
			if slices.ContainsFunc(p, func(x float32) bool { return x != 0 }) {
				return false
			}
		}
	}
	return true
}

// emptyState makes new states of an empty sequence.
func (n *stack) emptyState() *sequenceState {
	s := &sequenceState{blocks: make([]blockState, len(n.blocks))}
	for i, m := range n.blocks {
		st := &s.blocks[i]
		*st = m.newState()
		for j := range st.tmix {
			if st.tmix[j].Shift != nil {
				s.layers = append(s.layers, &st.tmix[j])
			}
		}
		if st.cmix.Shift != nil {
			s.layers = append(s.layers, &st.cmix)
		}
		for _, c := range [...]*nn.KVCache{&st.sliding, &st.grouped} {
			if c.K != nil {
				s.layers = append(s.layers, c)
			}
		}
	}
	return s
}

// forward returns the normalized hidden rows of a batch: [R, C], or [sequences, C] if only the last
// row of each sequence is wanted. They live in the batch's scratch.
func (n *stack) forward(b *batch) *tensor.Tensor {
	x := n.embed(b)
	b.norm = b.scratch.New(x.Shape()...)
	for i, m := range n.blocks {
		b.block = i
		x = m.forward(b, x)
		b.show(b.name(""), x)
	}
	if b.last && x.Dim(0) == len(b.ids) {
		x = b.lastRows(x)
	}
	n.out.Forward(x, x)
	b.show("ln_f", x)
	return x
}

// embed returns the embedded ids, [R, C].
func (n *stack) embed(b *batch) *tensor.Tensor {
	x := b.scratch.New(len(b.ids), n.emb.Weight.Dim(1))
	n.emb.Forward(x, b.ids)
	if n.in.Gain != nil {
		n.in.Forward(x, x)
	}
	if n.pos.Weight != nil {
		defer b.scratch.Release(b.scratch.Mark())
		pos := b.scratch.New(x.Shape()...)
		for i := range b.spans.Len() {
			for r := b.spans[i]; r < b.spans[i+1]; r++ {
				n.pos.Weight.RowTo(pos.Row(r), b.starts[i]+r-b.spans[i])
			}
		}
		tensor.Add(x, x, pos)
	}
	b.show("embed", x)
	return x
}

// batch is the work of one forward pass: rows of several sequences, one after another.
type batch struct {
	ids     []int
	spans   nn.Spans
	starts  []int            // position of each sequence's first row
	states  []*sequenceState // of each sequence; empty for kinds that can't be streamed
	members []*State         // that the sequences belong to, in AppendBatch
	last    bool             // only the last row of each sequence is wanted
	aux     [][]float64      // if not nil, per block the auxiliary loss of each sequence
	scratch tensor.Scratch
	trace   func(name string, x *tensor.Tensor) // shows every layer's output, in tests

	block      int            // that runs
	norm       *tensor.Tensor // [R, C], see block.forward
	firstValue *tensor.Tensor // [R, C], RWKV-7's v of the first block
	embedded   *tensor.Tensor // [R, C], the normalized embeddings, of RWKV-7a
}

// context returns what a layer works with; add is for the residual step.
func (b *batch) context(add bool) nn.Context {
	return nn.Context{Spans: b.spans, Add: add, Scratch: &b.scratch}
}

// tmix returns the states of call 0 or 1 of the running block's time mix, by sequence.
func (b *batch) tmix(call int) func(q int) *nn.TimeMixState {
	i := b.block
	return func(q int) *nn.TimeMixState { return &b.states[q].blocks[i].tmix[call] }
}

// cmix returns the states of the running block's channel mix, by sequence.
func (b *batch) cmix() func(q int) *nn.ChannelMixState {
	i := b.block
	return func(q int) *nn.ChannelMixState { return &b.states[q].blocks[i].cmix }
}

// reset empties the batch and its scratch.
func (b *batch) reset() {
	b.ids, b.spans, b.starts = b.ids[:0], append(b.spans[:0], 0), b.starts[:0]
	clear(b.states)
	clear(b.members)
	b.states, b.members = b.states[:0], b.members[:0]
	b.last, b.aux, b.trace = false, nil, nil
	b.norm, b.firstValue, b.embedded = nil, nil, nil
	b.scratch.Release(tensor.Mark{})
}

// add appends a sequence to a batch: ids at positions start, start+1, …
func (b *batch) add(ids []int, start int, st *sequenceState) {
	b.ids = append(b.ids, ids...)
	b.spans = append(b.spans, len(b.ids))
	b.starts = append(b.starts, start)
	if st != nil {
		b.states = append(b.states, st)
	}
}

// lastRows copies the last row of each sequence from x [R, C] to a new [sequences, C].
func (b *batch) lastRows(x *tensor.Tensor) *tensor.Tensor {
	n := b.spans.Len()
	last := b.scratch.New(n, x.Dim(1))
	for i := range n {
		copy(last.Row(i), x.Row(b.spans[i+1]-1))
	}
	return last
}

// residual adds the output of a layer to x: f writes it to its argument, or adds it there.
func (b *batch) residual(layer string, x *tensor.Tensor, f func(dst *tensor.Tensor, add bool)) {
	if b.trace == nil {
		f(x, true)
		return
	}
	defer b.scratch.Release(b.scratch.Mark())
	y := b.scratch.New(x.Shape()...)
	f(y, false)
	b.trace(b.name(layer), y)
	tensor.Add(x, x, y)
}

// show calls trace, if there is one.
func (b *batch) show(name string, x *tensor.Tensor) {
	if b.trace != nil {
		b.trace(name, x)
	}
}

// name returns the name of a layer of the running block for trace, or of the block's output.
func (b *batch) name(layer string) string {
	switch {
	case b.trace == nil:
		return ""
	case layer == "":
		return fmt.Sprintf("h.%d", b.block)
	}
	return fmt.Sprintf("h.%d.%s", b.block, layer)
}
