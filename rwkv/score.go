package rwkv

import (
	"fmt"
	"math"

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
// if there are none or more than block_size.
func (m *Model) Score(ids, targets []int) (*Scores, error) {
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

	b := m.acquire()
	defer m.release(b)
	b.add(ids, 0, m.net.newState())
	if m.config.NumExperts > 0 {
		b.aux = make([][]float64, m.config.NumLayers)
		for i := range b.aux {
			b.aux[i] = make([]float64, 1)
		}
	}
	hidden := m.net.forward(b)
	s := &Scores{LastLogits: make([]float32, m.config.VocabSize)}
	for _, a := range b.aux {
		s.AuxLoss = append(s.AuxLoss, a[0])
	}
	var sum float64
	logits := b.scratch.New(min(scoreRows, len(ids)), m.config.VocabSize)
	for from := 0; from < len(ids); from += scoreRows {
		to := min(from+scoreRows, len(ids))
		part := logits.Rows(0, to-from)
		nn.Linear{Weight: m.net.head}.Forward(part, hidden.Rows(from, to))
		for i := from; i < to; i++ {
			if targets[i] != IgnoreTarget {
				sum += crossEntropy(part.Row(i-from), targets[i])
				s.Positions++
			}
		}
		if to == len(ids) {
			copy(s.LastLogits, part.Row(to-1-from))
		}
	}
	s.Loss = sum / float64(s.Positions)
	s.Perplexity = math.Exp(s.Loss)
	return s, nil
}

// crossEntropy returns −log softmax(logits)[target], in float64.
func crossEntropy(logits []float32, target int) float64 {
	m := float64(logits[0])
	for _, l := range logits {
		m = max(m, float64(l))
	}
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l) - m)
	}
	return m + math.Log(sum) - float64(logits[target])
}

// LastLogits returns the logits of the last position of each of several sequences, [V] each,
// computing no others. The conditions are Forward's.
func (m *Model) LastLogits(seqs ...[]int) ([]*tensor.Tensor, error) {
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
	if len(seqs) == 0 {
		return nil, nil
	}
	b.last = true
	all := tensor.New(len(seqs), m.config.VocabSize)
	nn.Linear{Weight: m.net.head}.Forward(all, m.net.forward(b))
	out := make([]*tensor.Tensor, len(seqs))
	for i := range out {
		out[i] = all.Rows(i, i+1).Reshape(m.config.VocabSize)
	}
	return out, nil
}
