package rwkv

import (
	"fmt"
	"maps"
	"slices"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// A family is what one file of this package provides for one or more kinds: how their checkpoints
// are told apart, which tensors they have and how the layers are put together. To add a kind,
// write such a file and what layers are new in package nn, and list it in families.
type family struct {
	// kinds are the family's, each with what generation does at block_size unless it is told.
	kinds map[Kind]FullRule
	// vocabulary names the tokenizer that models of these kinds are usually trained with.
	vocabulary string
	// match returns the kind of a checkpoint with these tensors and this top-level variant, ""
	// if it isn't of the family, and an error if it nearly is.
	match func(src source, variant string) (Kind, error)
	// configure derives the Config from the tensors' shapes. What can't be derived stays zero, and
	// the error names the tensors that should have told it.
	configure func(src source, c *Config) error
	// readArgs takes from a checkpoint's model_args what shapes can't tell, and checks the rest against
	// them. Nil is for files that have none.
	readArgs func(a *modelArgs, c *Config)
	// fill clears what a Config has and the kind doesn't, and sets what follows from other values
	// where it is zero.
	fill func(c *Config)
	// validate reports the values that make no model, beside those that make none of any kind.
	validate func(c *Config) error
	// specs lists the tensors of a model, for making random ones.
	specs func(c Config) []tensorSpec
	// build takes the tensors from l, which collects what is wrong with them.
	build func(c Config, l *loader) network
}

var families = []*family{&microRWKV, &nanoRWKV, &goose}

// Kinds lists the kinds that this package runs.
func Kinds() []Kind {
	var kinds []Kind
	for _, f := range families {
		kinds = slices.AppendSeq(kinds, maps.Keys(f.kinds))
	}
	slices.Sort(kinds)
	return kinds
}

// Vocabulary names the tokenizer that models of the kind are usually trained with: "gpt2" or "world".
func (k Kind) Vocabulary() string {
	f, err := familyOf(k)
	if err != nil {
		return ""
	}
	return f.vocabulary
}

// familyOf returns the family of a kind.
func familyOf(k Kind) (*family, error) {
	for _, f := range families {
		if _, ok := f.kinds[k]; ok {
			return f, nil
		}
	}
	return nil, fmt.Errorf("rwkv: unknown kind %q: want one of %v", k, Kinds())
}

// network is the layers of a model from ids to the hidden rows that the head turns into logits.
type network interface {
	// forward returns the normalized hidden rows of a batch: [R, C], or [sequences, C] if only
	// the last row of each sequence is wanted. They live in the batch's scratch.
	forward(b *batch) *tensor.Tensor
	// head returns the weight that makes logits of hidden rows: [V, C].
	head() *tensor.Tensor
	// newState returns the layers' states for one empty sequence, or nil if the kind can't be
	// streamed: then each forward pass is a whole sequence.
	newState() layerStates
}

// layerStates is the states of a network's layers for one sequence.
type layerStates interface {
	// each yields every layer's state, always in the same order.
	each(yield func(nn.State) bool)
}

// batch is the work of one forward pass: rows of several sequences, one after another.
type batch struct {
	ids     []int
	spans   nn.Spans
	starts  []int         // position of each sequence's first row
	states  []layerStates // of each sequence; empty for kinds that can't be streamed
	members []*State      // that the sequences belong to, in AppendBatch
	last    bool          // only the last row of each sequence is wanted
	aux     [][]float64   // if not nil, per block the auxiliary loss of each sequence
	scratch tensor.Scratch
	trace   func(name string, x *tensor.Tensor) // shows every layer's output, in tests
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
func (b *batch) residual(name string, x *tensor.Tensor, f func(dst *tensor.Tensor, add bool)) {
	if b.trace == nil {
		f(x, true)
		return
	}
	defer b.scratch.Release(b.scratch.Mark())
	y := b.scratch.New(x.Shape()...)
	f(y, false)
	b.trace(name, y)
	tensor.Add(x, x, y)
}

// show calls trace, if there is one.
func (b *batch) show(name string, x *tensor.Tensor) {
	if b.trace != nil {
		b.trace(name, x)
	}
}
