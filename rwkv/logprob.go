package rwkv

import (
	"math"
	"slices"
)

// Token is a generated token.
type Token struct {
	ID      int
	LogProb float32   // natural logarithm of its probability by the model's own softmax, before any option
	Top     []LogProb // the likeliest tokens in its place, the likeliest first: see TopLogProbs
}

// LogProb is a token and the natural logarithm of its probability by the model's own softmax.
type LogProb struct {
	ID      int
	LogProb float32
}

// logProbOf returns the log-probability of a token by the softmax of logits [vocab] without NaN, some
// of them above −Inf.
func logProbOf(logits []float32, id int) float32 {
	top := slices.Max(logits)
	if math.IsInf(float64(top), 1) {
		return certain(logits, id)
	}
	return float32(-crossEntropy(logits, id))
}

// topLogProbs returns the n likeliest tokens, of equal ones those with the lower id first.
func topLogProbs(logits []float32, n int) []LogProb {
	n = min(n, len(logits))
	if n == 0 {
		return nil
	}
	best := make([]LogProb, 0, n+1) // by logit, first
	for id, l := range logits {
		if len(best) == n && l <= best[n-1].LogProb {
			continue
		}
		at := len(best)
		for at > 0 && best[at-1].LogProb < l {
			at--
		}
		best = slices.Insert(best, at, LogProb{id, l})
		best = best[:min(len(best), n)]
	}
	top := best[0].LogProb
	sum := logSumExp(logits, top)
	for i := range best {
		if math.IsInf(float64(top), 1) {
			best[i].LogProb = certain(logits, best[i].ID)
		} else {
			best[i].LogProb = float32(float64(best[i].LogProb) - sum)
		}
	}
	return best
}
