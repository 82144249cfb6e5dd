package rwkv

import (
	"fmt"
	"maps"
	"slices"
)

// A family is what one file of this package provides for one or more kinds: how their checkpoints
// are told apart, which tensors they have and how the layers are put together. To add a kind,
// write such a file and what layers are new in package nn, and list it in families.
type family struct {
	// kinds are the family's, each with what generation does at block_size unless it is told.
	kinds map[Kind]FullRule
	// vocabularies names the tokenizers that models of these kinds are trained with, the usual one first.
	vocabularies []string
	// match returns the kind of a checkpoint with these tensors and this top-level variant, ""
	// if it isn't of the family, and an error if it nearly is.
	match func(src source, variant string) (Kind, error)
	// configure derives the Config from the tensors' shapes. What can't be derived stays zero, and
	// the error names the tensors that should have told it.
	configure func(src source, c *Config) error
	// readArgs takes from a checkpoint's model_args what shapes can't tell, and checks the rest against
	// them. Nil is for files that have none.
	readArgs func(a *modelArgs, c *Config)
	// fill returns the parts of a Config that the kind has, with what follows from other values set
	// where it is zero.
	fill func(c Config) Config
	// validate reports the values that make no model, beside those that make none of any kind.
	validate func(c *Config) error
	// writeArgs returns what a checkpoint has beside the weights, for readArgs. Nil is for files that
	// have nothing.
	writeArgs func(c Config) map[string]any
	// describe puts the layers together and describes each of their parameters to p, which sets them
	// then.
	describe func(c Config, p *params) *stack
	// initial is the table of initial weights for training, nil for kinds that aren't trained or only from a
	// checkpoint on; fresh gives the shapes that a new model has where its Config doesn't tell them, nil for
	// none. A kind is trained if its blocks are of type trainBlock.
	initial []initialRule
	fresh   func(c Config) freshSource
}

var families = []*family{&microRWKV, &nanoRWKV, &dove, &eagle, &finch, &goose}

// Kinds lists the kinds that this package runs.
func Kinds() []Kind {
	var kinds []Kind
	for _, f := range families {
		kinds = slices.AppendSeq(kinds, maps.Keys(f.kinds))
	}
	slices.Sort(kinds)
	return kinds
}

// Vocabulary names the tokenizer that models of the kind are usually trained with: "gpt2", "neox" or "world".
func (k Kind) Vocabulary() string {
	f, err := familyOf(k)
	if err != nil {
		return ""
	}
	return f.vocabularies[0]
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
