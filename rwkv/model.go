package rwkv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"microrwkv/checkpoint"
	"microrwkv/nn"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// Model is a language model. It is read-only once loaded, and goroutines share it.
type Model struct {
	family    *family
	config    Config
	net       *stack
	tensors   []namedTensor // by name
	path      string        // of the file, "" without one
	warnings  []string
	precision ProductPrecision
	// ownTokenizer returns what the file itself has, nil if it has none; it is nil for most files.
	ownTokenizer func() (tokenizer.Tokenizer, error)
	file         *checkpoint.File // what the weights are views of; nil for weights in memory
	workspaces   chan *batch

	use    sync.RWMutex // held for reading by calls that read weights
	closed bool

	damage  atomic.Pointer[error] // what checks in the background found
	checked chan struct{}         // closed when they are done; nil without them

	fingerprintOnce sync.Once
	fingerprint     [32]byte
	fingerprintErr  error
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

// ErrClosed is returned by the calls of a model that Close has closed.
var ErrClosed = errors.New("rwkv: the model is closed")

// ErrFileChanged is returned when weights can't be read from their file any more: it was cut short
// while the model was in use, or its disk fails. Of a file that is written to, the model computes what
// it happens to read.
var ErrFileChanged = checkpoint.ErrFileChanged

// Close gives back the file that the weights are mapped from. It waits for calls that are running;
// later ones return ErrClosed. What Tensors returned must not be used then. A
// model in memory goes on: others may use it.
func (m *Model) Close() error {
	m.use.Lock()
	defer m.use.Unlock()
	if m.closed || m.file == nil {
		return nil
	}
	m.closed = true
	return m.file.Close()
}

// enter keeps the model from being closed until leave.
func (m *Model) enter() error {
	m.use.RLock()
	if m.closed {
		m.use.RUnlock()
		return ErrClosed
	}
	if err := m.found(); err != nil {
		m.use.RUnlock()
		return err
	}
	return nil
}

// found returns what checks in the background have found so far.
func (m *Model) found() error {
	if damage := m.damage.Load(); damage != nil {
		return *damage
	}
	return nil
}

// check runs checks in the background, until whose end the model isn't closed.
func (m *Model) check(checks func() error) {
	m.checked = make(chan struct{})
	m.use.RLock()
	go func() {
		defer close(m.checked)
		defer m.use.RUnlock()
		if err := checks(); err != nil {
			m.damage.Store(&err)
		}
	}()
}

// Checked waits until the weights are checked, if that goes on in the background (CheckInBackground), and
// returns what is wrong with them.
func (m *Model) Checked() error {
	if m.checked == nil {
		return nil
	}
	<-m.checked
	return m.found()
}

func (m *Model) leave() { m.use.RUnlock() }

// guard calls compute, which reads weights. If their file can't be read any more, that is an error.
func (m *Model) guard(compute func() error) error {
	if m.file == nil {
		return compute()
	}
	return m.file.Guard(compute)
}

// Streams reports whether a token costs the same however many came before it: true for all kinds
// but Reference, which computes the whole sequence again.
func (m *Model) Streams() bool { return m.net.streams }

// acquire returns a workspace for forward passes, its scratch empty. The model isn't closed until
// release.
func (m *Model) acquire() (*batch, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	var b *batch
	select {
	case b = <-m.workspaces:
	default:
		b = &batch{}
	}
	b.reset()
	return b, nil
}

// release keeps the workspace for the next forward passes.
func (m *Model) release(b *batch) {
	defer m.leave()
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
func (m *Model) ForwardBatch(seqs [][]int) (logits []*tensor.Tensor, err error) {
	for i, ids := range seqs {
		if err := m.checkSequence(ids); err != nil {
			return nil, fmt.Errorf("sequence %d: %w", i, err)
		}
	}
	b, err := m.acquire()
	if err != nil {
		return nil, err
	}
	defer m.release(b)
	for _, ids := range seqs {
		b.add(ids, 0, m.net.newState())
	}
	err = m.guard(func() error {
		logits = m.allLogits(b)
		return nil
	})
	return logits, err
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
