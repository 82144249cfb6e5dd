package rwkv

import (
	"fmt"
	"math"
	"slices"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// IgnoreTarget is the target of a position that doesn't count in a loss.
const IgnoreTarget = -1

// Scores is what Score says of a sequence.
type Scores struct {
	Loss       float64   // mean cross-entropy in nats over the positions that count; NaN if none does
	Perplexity float64   // exp(Loss)
	Positions  int       // positions that count
	AuxLoss    []float64 // per block the auxiliary loss of the mixture of experts; empty for kinds without
	LastLogits []float32 // [V], of the last position
}

// scoreRows is how many positions' logits are kept at a time.
const scoreRows = 64

// Score returns the cross-entropy of targets given ids, both of T tokens: targets[t] is the token
// that should follow ids[t], or IgnoreTarget. Nil targets are the next tokens, with the last
// position ignored. It is an error if the lengths differ, if a token is outside the vocabulary, or
// if there are none or more than block_size. The memory for a kind that streams doesn't grow with T, but
// for the mixture of experts.
func (m *Model) Score(ids, targets []int) (s *Scores, err error) {
	if err := m.checkSequence(ids); err != nil {
		return nil, err
	}
	if targets == nil {
		targets = append(append(make([]int, 0, len(ids)), ids[1:]...), IgnoreTarget)
	}
	if len(targets) != len(ids) {
		return nil, fmt.Errorf("rwkv: %d targets for %d tokens", len(targets), len(ids))
	}
	for i, id := range targets {
		if id != IgnoreTarget && (id < 0 || id >= m.config.VocabSize) {
			return nil, fmt.Errorf("rwkv: target %d at position %d: want 0 to %d, or %d to ignore it", id, i, m.config.VocabSize-1, IgnoreTarget)
		}
	}

	b, err := m.acquire()
	if err != nil {
		return nil, err
	}
	defer m.release(b)
	c := &scorer{Scores: Scores{LastLogits: make([]float32, m.config.VocabSize)}, model: m, targets: targets}
	if err := m.guard(func() error { c.passes(b, ids); return nil }); err != nil {
		return nil, err
	}
	c.Loss = c.sum / float64(c.Positions)
	c.Perplexity = math.Exp(c.Loss)
	return &c.Scores, nil
}

// scorer adds up the losses of a sequence.
type scorer struct {
	Scores
	model   *Model
	targets []int
	sum     float64
}

// passes runs the sequence, in parts where the kind allows that.
func (c *scorer) passes(b *batch, ids []int) {
	m := c.model
	if m.Streams() && m.config.NumExperts == 0 {
		st := m.net.newState()
		for from := 0; from < len(ids); from += prefillChunk {
			b.reset()
			b.add(ids[from:min(from+prefillChunk, len(ids))], from, st)
			c.pass(b, from)
		}
		return
	}
	b.add(ids, 0, m.net.newState()) // an auxiliary loss is of a whole sequence
	if m.config.NumExperts > 0 {
		b.aux = make([][]float64, m.config.NumLayers)
		for i := range b.aux {
			b.aux[i] = make([]float64, 1)
		}
	}
	c.pass(b, 0)
	for _, a := range b.aux {
		c.AuxLoss = append(c.AuxLoss, a[0])
	}
}

// pass runs the batch, which has the positions of the sequence from from on.
func (c *scorer) pass(b *batch, from int) {
	hidden := c.model.net.forward(b)
	n := hidden.Dim(0)
	logits := b.scratch.New(min(scoreRows, n), c.model.config.VocabSize)
	for at := 0; at < n; at += scoreRows {
		to := min(at+scoreRows, n)
		part := logits.Rows(0, to-at)
		nn.Linear{Weight: c.model.net.head}.Forward(part, hidden.Rows(at, to))
		for i := at; i < to; i++ {
			if t := c.targets[from+i]; t != IgnoreTarget {
				c.sum += crossEntropy(part.Row(i-at), t)
				c.Positions++
			}
		}
		if from+to == len(c.targets) {
			copy(c.LastLogits, part.Row(to-1-at))
		}
	}
}

// crossEntropy returns −log softmax(logits)[target], in float64.
func crossEntropy(logits []float32, target int) float64 {
	return logSumExp(logits, slices.Max(logits)) - float64(logits[target])
}

// logSumExp returns log Σ exp(l) of logits, top being the largest, in float64.
func logSumExp(logits []float32, top float32) float64 {
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l) - float64(top))
	}
	return float64(top) + math.Log(sum)
}

// LastLogits returns the logits of the last position of each of several sequences, [V] each,
// computing no others. The conditions are Forward's.
func (m *Model) LastLogits(seqs ...[]int) (logits []*tensor.Tensor, err error) {
	err = m.lastRows(seqs, func(hidden *tensor.Tensor) {
		all := tensor.New(len(seqs), m.config.VocabSize)
		nn.Linear{Weight: m.net.head}.Forward(all, hidden)
		for i := range seqs {
			logits = append(logits, all.Rows(i, i+1).Reshape(m.config.VocabSize))
		}
	})
	return logits, err
}

// Hidden returns the normalized last hidden row [C] after ids, of which the head makes the logits: an
// embedding of the sequence. The conditions are Forward's.
func (m *Model) Hidden(ids []int) (row []float32, err error) {
	err = m.lastRows([][]int{ids}, func(hidden *tensor.Tensor) { row = slices.Clone(hidden.Row(0)) })
	return row, err
}

// lastRows calls f with the last hidden row of each sequence, [sequences, C].
func (m *Model) lastRows(seqs [][]int, f func(hidden *tensor.Tensor)) (err error) {
	for i, ids := range seqs {
		if err := m.checkSequence(ids); err != nil {
			return fmt.Errorf("sequence %d: %w", i, err)
		}
	}
	if len(seqs) == 0 {
		return nil
	}
	b, err := m.acquire()
	if err != nil {
		return err
	}
	defer m.release(b)
	for _, ids := range seqs {
		b.add(ids, 0, m.net.newState())
	}
	b.last = true
	return m.guard(func() error {
		f(m.net.forward(b))
		return nil
	})
}
