package rwkv

import (
	"fmt"
	"math"
)

// Comparison is how far a model's predictions are from another's.
type Comparison struct {
	KL        float64 // mean Kullback-Leibler divergence from the other's distributions to the model's, nats a token
	Top1      float64 // part of the positions where both have the same likeliest token
	Loss      float64 // mean cross-entropy of the next token, of the model
	OtherLoss float64 // and of the other
	Positions int     // that have a next token
}

// comparePass is how many tokens are compared at a time, each time from an empty state.
const comparePass = 256

// Compare compares the model with another one of as many ids, the one that it was quantized from, on a
// sequence. It is cut into pieces of at most 256 tokens, or of block_size, which are computed each by
// itself.
func (m *Model) Compare(other *Model, ids []int) (Comparison, error) {
	if m.config.VocabSize != other.config.VocabSize {
		return Comparison{}, fmt.Errorf("rwkv: models of %d and %d ids can't be compared", m.config.VocabSize, other.config.VocabSize)
	}
	pass := comparePass
	for _, c := range []Config{m.config, other.config} {
		if c.BlockSize > 0 {
			pass = min(pass, c.BlockSize)
		}
	}
	var c Comparison
	same := 0
	for ; len(ids) > 1; ids = ids[min(pass, len(ids)):] {
		part := ids[:min(pass, len(ids))]
		a, err := m.Forward(part)
		if err != nil {
			return Comparison{}, err
		}
		b, err := other.Forward(part)
		if err != nil {
			return Comparison{}, err
		}
		for i, next := range part[1:] {
			kl, agree := divergence(b.Row(i), a.Row(i))
			c.KL += kl
			if agree {
				same++
			}
			c.Loss += crossEntropy(a.Row(i), next)
			c.OtherLoss += crossEntropy(b.Row(i), next)
			c.Positions++
		}
	}
	if c.Positions == 0 {
		return Comparison{}, fmt.Errorf("rwkv: nothing to compare: want at least 2 tokens")
	}
	n := float64(c.Positions)
	c.KL, c.Loss, c.OtherLoss, c.Top1 = c.KL/n, c.Loss/n, c.OtherLoss/n, float64(same)/n
	return c, nil
}

// divergence returns Σ p·log(p/q) of the distributions that logits a and b stand for, in float64, and
// whether the largest logit is the same one.
func divergence(a, b []float32) (kl float64, agree bool) {
	topA, topB := 0, 0
	for i := range a {
		if a[i] > a[topA] {
			topA = i
		}
		if b[i] > b[topB] {
			topB = i
		}
	}
	sumA, sumB := logSumExp(a, a[topA]), logSumExp(b, b[topB])
	for i := range a {
		p := float64(a[i]) - sumA
		kl += math.Exp(p) * (p - (float64(b[i]) - sumB))
	}
	return kl, topA == topB
}
