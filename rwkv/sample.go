package rwkv

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Names of the ways to pick a token, for Sampling.Sampler.
const (
	Standard = "standard"
	Official = "official"
)

// Sampling says how a token is picked from logits; it is what the options set, in a form that JSON
// can carry. There are two orders of steps. Standard, also "", is that of most programs:
//
//  1. LogitBias, Ban and the option Bias change the logits.
//  2. The penalties change the logits of tokens that occurred in the prompt or the text.
//  3. The logits are divided by Temperature.
//  4. TopK > 0 keeps the tokens whose logits are at least the k-th largest: more than k if there
//     are ties there.
//  5. Softmax makes probabilities of what is left.
//  6. TopP < 1 keeps the fewest tokens whose probabilities add up to TopP or more: likelier ones
//     first, of equal ones those with the lower id first, and at least one.
//  7. MinP > 0 drops tokens less than MinP times as likely as the likeliest.
//  8. One token is drawn from what is left, in proportion to the probabilities.
//
// Official is that of the official package rwkv (PIPELINE.generate, version 0.8):
//
//  1. As above.
//  2. Presence is subtracted from the logits of tokens that were generated, and Frequency times the
//     number of times that they were. Only that number decays, by PenaltyDecay a token, and spaces,
//     tabs and digits don't add to it. What was read doesn't count, and anything that is read after
//     generated tokens, a chat's next message, ends their counting.
//  3. Softmax makes probabilities.
//  4. TopP < 1 keeps the fewest likeliest tokens whose probabilities add up to TopP or more, and all
//     that are as likely as the last of them.
//  5. TopK > 0 keeps the k likeliest of them, of equal ones those with the lower id first.
//  6. The probabilities are raised to the power 1/Temperature.
//  7. As 8 above. MinP and Repetition aren't part of it.
//
// In both, Temperature 0, TopP 0 and TopK 1 are greedy: the likeliest token after steps 1 and 2, of
// equal ones the one with the lowest id, whatever the seed.
//
// A logit of −Inf masks its token. A logit of +Inf makes its token certain: all tokens without it
// are masked, and those with it are equally likely.
type Sampling struct {
	Sampler      string          `json:"sampler,omitempty"`
	Temperature  float64         `json:"temperature"`        // finite, 0 (greedy) or more
	TopK         int             `json:"top_k"`              // 0 is off
	TopP         float64         `json:"top_p"`              // in [0, 1]; 1 is off
	MinP         float64         `json:"min_p"`              // in [0, 1); 0 is off
	Repetition   float64         `json:"repetition_penalty"` // finite, above 0; 1 is off
	Presence     float64         `json:"presence_penalty"`   // finite; 0 is off
	Frequency    float64         `json:"frequency_penalty"`  // finite; 0 is off
	PenaltyDecay float64         `json:"penalty_decay"`      // in (0, 1]; 1 is off
	Seed         uint64          `json:"seed"`
	LogitBias    map[int]float64 `json:"logit_bias,omitempty"` // added to the logits of these ids; not NaN
	Ban          []int           `json:"ban,omitempty"`        // ids that never come
}

// DefaultSampling returns the values without any option: all tokens may come, as likely as the model
// says.
func DefaultSampling() Sampling {
	return Sampling{Temperature: 1, TopP: 1, Repetition: 1, PenaltyDecay: 1}
}

// Validate returns an error that names the first value outside its range.
func (p *Sampling) Validate() error {
	finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
	switch {
	case p.Sampler != "" && p.Sampler != Standard && p.Sampler != Official:
		return fmt.Errorf("sampler = %q, want %s or %s", p.Sampler, Standard, Official)
	case !(p.Temperature >= 0 && finite(p.Temperature)):
		return fmt.Errorf("temperature = %v, want a finite number, 0 (greedy) or more", p.Temperature)
	case p.TopK < 0:
		return fmt.Errorf("top_k = %d, want 0 (off) or more", p.TopK)
	case !(p.TopP >= 0 && p.TopP <= 1):
		return fmt.Errorf("top_p = %v, want a number from 0 (greedy) to 1 (off)", p.TopP)
	case !(p.MinP >= 0 && p.MinP < 1):
		return fmt.Errorf("min_p = %v, want a number from 0 (off), below 1", p.MinP)
	case !(p.Repetition > 0 && finite(p.Repetition)):
		return fmt.Errorf("repetition penalty = %v, want a finite number above 0 (1 is off)", p.Repetition)
	case !finite(p.Presence):
		return fmt.Errorf("presence penalty = %v, want a finite number (0 is off)", p.Presence)
	case !finite(p.Frequency):
		return fmt.Errorf("frequency penalty = %v, want a finite number (0 is off)", p.Frequency)
	case !(p.PenaltyDecay > 0 && p.PenaltyDecay <= 1):
		return fmt.Errorf("penalty decay = %v, want a number above 0, at most 1 (off)", p.PenaltyDecay)
	case p.Sampler == Official && (p.MinP != 0 || p.Repetition != 1):
		return errors.New("the official sampler has no min_p and no repetition penalty")
	}
	for id, b := range p.LogitBias {
		if math.IsNaN(b) {
			return fmt.Errorf("logit bias of token %d = NaN", id)
		}
	}
	return nil
}

// checkIDs returns an error for the first id of LogitBias or Ban outside a vocabulary.
func (p *Sampling) checkIDs(vocab int) error {
	for _, id := range p.Ban {
		if id < 0 || id >= vocab {
			return fmt.Errorf("rwkv: banned token %d: want 0 to %d", id, vocab-1)
		}
	}
	for id := range p.LogitBias {
		if id < 0 || id >= vocab {
			return fmt.Errorf("rwkv: logit bias of token %d: want 0 to %d", id, vocab-1)
		}
	}
	return nil
}

// greedy reports whether the likeliest token is picked.
func (p *Sampling) greedy() bool { return p.Temperature == 0 || p.TopP == 0 || p.TopK == 1 }

// sampling is a Sampling and what JSON can't carry.
type sampling struct {
	Sampling

	// Bias, if not nil, changes the logits in place. They are a copy, its own only for the call.
	Bias func(logits []float32)

	// SkipLogProb saves computing the log-probabilities of what is sampled: they are NaN.
	SkipLogProb bool
}

// errMasked is the error of logits that are all −Inf.
var errMasked = errors.New("no token to sample: every logit is -Inf")

// sampler picks the tokens of one sequence. It computes in float64, in an order of operations that
// is the same everywhere: equal logits and seeds give equal tokens on every machine. (Only a min-p or
// a repetition penalty that decays need math.Log or math.Exp, whose last bit may differ; it hardly
// ever outlives the rounding to float32.) Each token takes one random number and O(vocab) time, and
// allocates nothing.
type sampler struct {
	sampling
	likeliest bool    // is picked
	invT      float64 // 1/Temperature
	cutT      float64 // the temperature that top-p sees
	logMinP   float64
	rng       *rand.PCG
	drawn     int      // random numbers
	penalty   *penalty // nil if off

	changed []float32 // [vocab], logits after bias and penalties
	ids     []int32   // candidates' storage, [≤ vocab]
	logits  []float32 //   and their logits
	values  []float32 // [≤ vocab], for selecting
	sums    []float64 // total weight of each block of candidates
	bins    [selectBins]float64
	block   [weightBlock]float64
}

// candidates is what may be sampled: tokens in the order of their ids, with their logits. Nil ids
// are 0, 1, 2, ….
type candidates struct {
	ids    []int32
	logits []float32
}

// newSampler returns a sampler for logits [vocab] with these penalties, nil if they are off. p must be
// valid for them.
func newSampler(p sampling, vocab int, pen *penalty) *sampler {
	likeliest := p.greedy()
	if likeliest {
		p.Temperature = 1 // whatever it is: only the likeliest is left
	}
	s := &sampler{
		likeliest: likeliest,
		sampling:  p,
		invT:      1 / p.Temperature,
		cutT:      p.Temperature,
		logMinP:   math.Log(p.MinP),
		rng:       rand.NewPCG(p.Seed, 0),
		penalty:   pen,
		sums:      make([]float64, 0, (vocab+weightBlock-1)/weightBlock),
	}
	if p.Sampler == Official {
		s.cutT = 1
	}
	if s.penalty != nil || p.Bias != nil || len(p.LogitBias) > 0 || len(p.Ban) > 0 {
		s.changed = make([]float32, vocab)
	}
	if p.TopK > 0 || p.TopP < 1 || p.MinP > 0 {
		s.ids = make([]int32, 0, vocab)
		s.logits = make([]float32, 0, vocab)
		s.values = make([]float32, 0, vocab)
	}
	return s
}

// next picks a token from logits [vocab], which it leaves as they are. logProb is the natural
// logarithm of the token's probability by the model alone: by the softmax of the logits before
// bias, penalties, temperature and cuts; a token that only a bias makes possible has −Inf. It is an
// error if a logit is NaN or if none is above −Inf, before or after bias and penalties: nothing is
// picked then and no random number taken.
func (s *sampler) next(logits []float32) (id int, logProb float32, err error) {
	top, err := highest(logits)
	if err != nil {
		return 0, 0, err
	}
	c := candidates{logits: logits}
	cTop := top
	if s.changed != nil {
		copy(s.changed, logits)
		s.bias(s.changed)
		if s.penalty != nil {
			s.penalty.apply(s.changed)
		}
		c.logits = s.changed
		if cTop, err = highest(c.logits); err != nil {
			return 0, 0, fmt.Errorf("after bias and penalties: %w", err)
		}
	}

	// The weights of all tokens serve twice if nothing changes them.
	var total float64
	plain := false
	if !s.SkipLogProb && !math.IsInf(top, 1) {
		total = s.weigh(logits, top, 1)
		plain = s.changed == nil && s.Temperature == 1
	}
	logTotal := top + math.Log(total)

	if s.likeliest {
		id = slices.Index(c.logits, float32(cTop))
	} else {
		c, cTop = s.cut(c, cTop)
		if !plain || c.ids != nil {
			total = s.weigh(c.logits, cTop, s.invT)
		}
		id = s.pick(c.logits, cTop, s.uniform()*total)
		if c.ids != nil {
			id = int(c.ids[id])
		}
	}

	switch {
	case s.SkipLogProb:
		logProb = float32(math.NaN())
	case !math.IsInf(top, 1):
		logProb = float32(float64(logits[id]) - logTotal)
	default:
		logProb = certain(logits, id)
	}
	return id, logProb, nil
}

// cut returns the candidates that may be picked, and their largest logit; before it is top. Nothing
// of c changes: those left are in the sampler's storage, unless they are all.
func (s *sampler) cut(c candidates, top float64) (candidates, float64) {
	if math.IsInf(top, 1) {
		c = s.keep(c, float32(top), len(c.logits))
		clear(c.logits) // any finite number, the same for all
		top = 0
	}
	official := s.Sampler == Official
	if !official {
		c = s.cutK(c, len(c.logits))
	}
	if s.TopP < 1 {
		t, ties := s.topP(c.logits, top)
		if official {
			ties = len(c.logits)
		}
		c = s.keep(c, t, ties)
	}
	if official {
		c = s.cutK(c, 0)
	}
	if s.MinP > 0 {
		c = s.keep(c, s.minP(top), len(c.logits))
	}
	return c, top
}

// cutK keeps the TopK candidates with the largest logits, and of others as likely as the last of them
// at most ties.
func (s *sampler) cutK(c candidates, ties int) candidates {
	if s.TopK == 0 || s.TopK >= len(c.logits) {
		return c
	}
	t := s.topK(c.logits)
	if ties == 0 {
		ties = s.TopK
		for _, l := range c.logits {
			if l > t {
				ties--
			}
		}
	}
	return s.keep(c, t, ties)
}

// bias changes logits by what LogitBias, Ban and Bias ask for.
func (s *sampler) bias(logits []float32) {
	for id, b := range s.LogitBias {
		logits[id] = float32(float64(logits[id]) + b)
	}
	if s.Bias != nil {
		s.Bias(logits)
	}
	for _, id := range s.Ban {
		logits[id] = float32(math.Inf(-1))
	}
}

// uniform returns a random number in [0, 1), a multiple of 2^-53.
func (s *sampler) uniform() float64 {
	s.drawn++
	return float64(s.rng.Uint64()>>11) * 0x1p-53
}

// skipTo makes the seed's n-th random number, counted from 0, the next one. None comes twice: n
// must not be below the number of those drawn.
func (s *sampler) skipTo(n int) {
	if n > s.drawn {
		skip(s.rng, uint64(n-s.drawn))
		s.drawn = n
	}
}

// highest returns the largest logit, and an error if one is NaN or all are −Inf.
func highest(logits []float32) (float64, error) {
	top := float32(math.Inf(-1))
	for i, l := range logits {
		if !(l <= top) {
			if l != l {
				return 0, fmt.Errorf("the logit of token %d is NaN", i)
			}
			top = l
		}
	}
	if math.IsInf(float64(top), -1) {
		return 0, errMasked
	}
	return float64(top), nil
}

// certain returns the log-probability of a token among logits of which some are +Inf.
func certain(logits []float32, id int) float32 {
	if !math.IsInf(float64(logits[id]), 1) {
		return float32(math.Inf(-1))
	}
	n := 0
	for _, l := range logits {
		if math.IsInf(float64(l), 1) {
			n++
		}
	}
	return float32(-math.Log(float64(n)))
}
