package rwkv

import (
	"math"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// promptScores are how likely a prompt's tokens were.
type promptScores struct {
	top    int
	tokens []Token // of what was read, NaN where nothing was known before
	from   int     // of tokens, where those of the present Append begin

	// Of the present pass:
	logits *tensor.Tensor // [≤ scoreRows, V]
	at     []Token        // those that the rows of logits are for
}

// expect notes tokens that are read next, the first of them scored by the logits that there are.
func (p *promptScores) expect(s *State, ids []int) {
	p.from = len(p.tokens)
	for _, id := range ids {
		p.tokens = append(p.tokens, Token{ID: id, LogProb: float32(math.NaN())})
	}
	if s.pos > 0 && len(ids) > 0 {
		p.score(&p.tokens[p.from], s.logits)
	}
}

// Run scores a token by its row of logits.
func (p *promptScores) Run(i int) { p.score(&p.at[i], p.logits.Row(i)) }

func (p *promptScores) score(t *Token, logits []float32) {
	t.LogProb, t.Top = logProbOf(logits, t.ID), topLogProbs(logits, p.top)
}

// add scores those of the state's newest n tokens that belong to the present Append. It is called before
// the state's logits change; hidden [n, C] are the rows after these tokens.
func (p *promptScores) add(s *State, head *tensor.Weight, hidden *tensor.Tensor, scratch *tensor.Scratch) {
	n := hidden.Dim(0)
	// The n tokens' place in p.tokens. Those before p.from are only computed again.
	place := len(p.tokens) - (len(s.feed) - s.fed) - n
	if place > p.from {
		p.score(&p.tokens[place], s.logits)
	}
	first := max(0, p.from-place)
	if first >= n-1 {
		return
	}
	defer scratch.Release(scratch.Mark())
	all := scratch.New(min(scoreRows, n-1-first), head.Dim(0))
	for from := first; from < n-1; from += scoreRows {
		to := min(from+scoreRows, n-1)
		p.logits = all.Rows(0, to-from)
		nn.Linear{Weight: head}.Forward(p.logits, hidden.Rows(from, to))
		p.at = p.tokens[place+from+1 : place+to+1]
		tensor.Parallel(to-from, p)
	}
	p.logits, p.at = nil, nil
}
