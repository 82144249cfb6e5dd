package rwkv

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// Model is a language model. It is read-only once loaded, and goroutines share it.
type Model struct {
	family     *family
	config     Config
	net        *stack
	tensors    []namedTensor // by name
	path       string        // of the file, "" without one
	warnings   []string
	file       io.Closer // what the weights are views of; nil for weights in memory
	workspaces chan *batch

	fingerprintOnce sync.Once
	fingerprint     [32]byte
}

type namedTensor struct {
	name string // the head of a tied pair goes by the embedding's
	*tensor.Weight
}

// loadModel builds a model of the family from a source, which errors call file.
func loadModel(file string, src source, f *family, c Config) (*Model, error) {
	p := &params{src: src}
	net := f.describe(c, p)
	if err := p.load(file); err != nil {
		return nil, err
	}
	return newModel(f, c, net, p), nil
}

// newModel returns a model whose parameters are set.
func newModel(f *family, c Config, net *stack, p *params) *Model {
	m := &Model{family: f, config: c, net: net, workspaces: make(chan *batch, 16)}
	for _, q := range p.list {
		if q.stored != nil {
			m.tensors = append(m.tensors, namedTensor{q.name, q.stored})
		}
	}
	slices.SortFunc(m.tensors, func(a, b namedTensor) int { return strings.Compare(a.name, b.name) })
	return m
}

// Config returns the model's shape.
func (m *Model) Config() Config { return m.config }

// Warnings returns what was found odd while the model was opened, and how it was understood: a
// config.json that contradicts the tensors.
func (m *Model) Warnings() []string { return m.warnings }

// Close gives back the file that the weights are mapped from. The model must not be used then.
func (m *Model) Close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// Streams reports whether a token costs the same however many came before it: true for all kinds
// but Reference, which computes the whole sequence again.
func (m *Model) Streams() bool { return m.net.streams }

// acquire returns a workspace for one forward pass, its scratch empty.
func (m *Model) acquire() *batch {
	var b *batch
	select {
	case b = <-m.workspaces:
	default:
		b = &batch{}
	}
	b.reset()
	return b
}

// release keeps the workspace for the next forward pass.
func (m *Model) release(b *batch) {
	b.reset()
	select {
	case m.workspaces <- b:
	default:
	}
}

// ErrEmpty is returned for a sequence without tokens.
var ErrEmpty = errors.New("rwkv: empty sequence")

// CheckIDs returns an error for the first id that isn't in the vocabulary.
func (m *Model) CheckIDs(ids []int) error {
	for i, id := range ids {
		if id < 0 || id >= m.config.VocabSize {
			return fmt.Errorf("rwkv: token %d at position %d: want 0 to %d", id, i, m.config.VocabSize-1)
		}
	}
	return nil
}

// checkSequence checks a whole sequence for Forward and Score.
func (m *Model) checkSequence(ids []int) error {
	if len(ids) == 0 {
		return ErrEmpty
	}
	if n := m.config.BlockSize; n > 0 && len(ids) > n {
		return fmt.Errorf("rwkv: %d tokens: the model has %d positions (block_size)", len(ids), n)
	}
	return m.CheckIDs(ids)
}

// Forward returns the logits of every position of a sequence, [T, V], computed from its start.
// It is an error if ids is empty, has more than block_size tokens, or one outside the vocabulary.
func (m *Model) Forward(ids []int) (*tensor.Tensor, error) {
	out, err := m.ForwardBatch([][]int{ids})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// ForwardBatch is Forward for several sequences, of any lengths, each computed as if it were
// alone; together they read each weight once.
func (m *Model) ForwardBatch(seqs [][]int) ([]*tensor.Tensor, error) {
	for i, ids := range seqs {
		if err := m.checkSequence(ids); err != nil {
			return nil, fmt.Errorf("sequence %d: %w", i, err)
		}
	}
	b := m.acquire()
	defer m.release(b)
	for _, ids := range seqs {
		b.add(ids, 0, m.net.newState())
	}
	return m.allLogits(b), nil
}

// allLogits runs the batch and returns the logits of each sequence.
func (m *Model) allLogits(b *batch) []*tensor.Tensor {
	out := make([]*tensor.Tensor, b.spans.Len())
	if len(out) == 0 {
		return out
	}
	all := tensor.New(len(b.ids), m.config.VocabSize)
	nn.Linear{Weight: m.net.head}.Forward(all, m.net.forward(b))
	for i := range out {
		out[i] = all.Rows(b.spans[i], b.spans[i+1])
	}
	return out
}

// NumParameters returns the number of weights, the tied head counted once.
func (m *Model) NumParameters() int {
	n := 0
	for _, t := range m.tensors {
		n += t.Len()
	}
	return n
}
