package rwkv

import "math"

// penalty makes tokens that occurred less likely. With n the occurrences of a token in the
// sequence, where one of age a, 0 for the newest token, counts as decay^a, and m = min(n, 1):
//
//	logit ← logit / repetition^m if it is above 0, else logit · repetition^m
//	logit ← logit − frequency·n − presence·m
//
// Without decay m is 1, and this is the repetition penalty of CTRL (Keskar et al.,
// arXiv:1909.05858) and the presence and frequency penalties that hosted models are known for.
// With decay all three fade as a token's occurrences get old.
type penalty struct {
	repetition, presence, frequency, decay float64
	logRepetition                          float64

	// An occurrence is counted as unit, which grows by 1/decay a token instead of all counts
	// shrinking by decay.
	unit   float64
	counts []float64 // [vocab]
	seen   []int32   // the ids with counts above 0
}

// forgotten is the n from which a token can be taken for one that never occurred: its effect is
// far below a logit's rounding.
const forgotten = 0x1p-64

// newPenalty returns nil if the penalties of p are off.
func newPenalty(p *sampling, vocab int) *penalty {
	if p.Repetition == 1 && p.Presence == 0 && p.Frequency == 0 {
		return nil
	}
	return &penalty{
		repetition:    p.Repetition,
		presence:      p.Presence,
		frequency:     p.Frequency,
		decay:         max(p.PenaltyDecay, forgotten*forgotten), // keeps unit finite
		logRepetition: math.Log(p.Repetition),
		unit:          1,
		counts:        make([]float64, vocab),
		seen:          make([]int32, 0, vocab),
	}
}

// observe counts the sequence's next token.
func (p *penalty) observe(id int) {
	p.unit /= p.decay
	if p.counts[id] == 0 {
		p.seen = append(p.seen, int32(id))
	}
	p.counts[id] += p.unit
	if p.unit > 1/forgotten {
		p.rescale()
	}
}

// rescale makes unit 1 again, and forgets tokens.
func (p *penalty) rescale() {
	seen := p.seen[:0]
	for _, id := range p.seen {
		if p.counts[id] /= p.unit; p.counts[id] < forgotten {
			p.counts[id] = 0
			continue
		}
		seen = append(seen, id)
	}
	p.seen, p.unit = seen, 1
}

// apply changes logits [vocab].
func (p *penalty) apply(logits []float32) {
	for _, id := range p.seen {
		n := p.counts[id] / p.unit
		m := min(n, 1)
		l := float64(logits[id])
		if p.repetition != 1 {
			f := p.repetition
			if m < 1 {
				f = math.Exp(float64(m * p.logRepetition))
			}
			if l > 0 {
				l /= f
			} else {
				l *= f
			}
		}
		logits[id] = float32(l - float64(p.frequency*n) - float64(p.presence*m))
	}
}
