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
//
// The official sampler counts the generated tokens alone, since the newest that was read; a token
// whose text is of "uncounted" characters adds nothing to n; and m is 1 for each that occurred.
//
// Which text comes follows from the history alone, in one order of operations: so a text that is
// saved and restored on its way is the same.
type penalty struct {
	repetition, presence, frequency float64
	logRepetition                   float64
	official                        bool
	uncounted                       func(id int32) bool // of the official sampler

	history *history
	earlier []int     // ids before those of the history
	decayed []float64 // decay^age, down to what is forgotten; nil without decay

	counts []float64 // [vocab], n of the ids in seen
	seen   []int32   // the ids that occurred
	marked []bool    // [vocab], of seen
	// Without decay counts stay from token to token; the history's first counted ids are in them.
	started bool
	counted int
}

// forgotten is the n from which a token can be taken for one that never occurred: its effect is
// far below a logit's rounding.
const forgotten = 0x1p-64

// newPenalty returns nil if the penalties of p are off. Ids that occurred before those of h are in
// earlier; uncounted may be nil.
func newPenalty(p *sampling, vocab int, h *history, earlier []int, uncounted func(id int32) bool) *penalty {
	if p.Repetition == 1 && p.Presence == 0 && p.Frequency == 0 {
		return nil
	}
	q := &penalty{
		repetition:    p.Repetition,
		presence:      p.Presence,
		frequency:     p.Frequency,
		logRepetition: math.Log(p.Repetition),
		official:      p.Sampler == Official,
		uncounted:     uncounted,
		history:       h,
		earlier:       earlier,
		counts:        make([]float64, vocab),
		seen:          make([]int32, 0, vocab),
		marked:        make([]bool, vocab),
	}
	if p.PenaltyDecay < 1 {
		for w := 1.0; w >= forgotten && len(q.decayed) < historyLen; w *= p.PenaltyDecay {
			q.decayed = append(q.decayed, w)
		}
	}
	return q
}

// mark notes that an id occurred, and adds to its count.
func (p *penalty) mark(id int32, n float64) {
	if !p.marked[id] {
		p.marked[id] = true
		p.seen = append(p.seen, id)
	}
	if p.uncounted == nil || !p.uncounted(id) {
		p.counts[id] += n
	}
}

// count counts the occurrences.
func (p *penalty) count() {
	h := p.history
	if p.decayed == nil && !p.official {
		// The history's newest ids that aren't counted yet; all of it at first.
		fresh := min(h.total()-p.counted, len(h.ids))
		if !p.started {
			p.started = true
			for _, id := range p.earlier {
				p.mark(int32(id), 1)
			}
			for id, n := range h.older {
				p.mark(id, float64(n))
			}
			fresh = len(h.ids)
		}
		for age := range fresh {
			p.mark(h.at(age), 1)
		}
		p.counted = h.total()
		return
	}
	for _, id := range p.seen {
		p.counts[id], p.marked[id] = 0, false
	}
	p.seen = p.seen[:0]
	n := len(h.ids)
	if p.official {
		n = min(n, h.made)
	}
	for age := range n {
		w := 1.0
		if p.decayed != nil {
			if age >= len(p.decayed) {
				if !p.official {
					return
				}
				w = 0 // the presence stays
			} else {
				w = p.decayed[age]
			}
		}
		p.mark(h.at(age), w)
	}
	for i := range p.earlier {
		age := n + i
		if p.official || age >= len(p.decayed) {
			return
		}
		p.mark(int32(p.earlier[len(p.earlier)-1-i]), p.decayed[age])
	}
}

// apply changes logits [vocab].
func (p *penalty) apply(logits []float32) {
	p.count()
	for _, id := range p.seen {
		n := p.counts[id]
		m := min(n, 1)
		if p.official {
			m = 1
		}
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
