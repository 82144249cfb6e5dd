package rwkv

import "fmt"

// Option sets how text is generated. Options that make no sense give an error when generation
// starts.
type Option func(*options)

type options struct {
	sampling
	maxTokens   int
	stopAtEnd   bool
	stopTokens  []int
	stopStrings []string
	full        FullRule
	fullSet     bool
	onToken     func(Token)
	seen        []int
	discard     bool
}

// defaultMaxTokens is how many tokens are generated unless MaxTokens says otherwise.
const defaultMaxTokens = 100

func newOptions(opts []Option) (*options, error) {
	o := &options{sampling: sampling{Temperature: 1, TopP: 1, Repetition: 1, PenaltyDecay: 1}, maxTokens: defaultMaxTokens, stopAtEnd: true}
	for _, set := range opts {
		set(o)
	}
	if o.maxTokens < 0 {
		return nil, fmt.Errorf("rwkv: max tokens = %d, want 0 or more", o.maxTokens)
	}
	if err := checkStops(o.stopStrings); err != nil {
		return nil, fmt.Errorf("rwkv: %w", err)
	}
	if err := o.sampling.validate(); err != nil {
		return nil, fmt.Errorf("rwkv: %w", err)
	}
	return o, nil
}

// MaxTokens limits the tokens to generate; the default is 100.
func MaxTokens(n int) Option { return func(o *options) { o.maxTokens = n } }

// Temperature divides the logits: below 1 makes likely tokens likelier. It must be above 0; the
// default is 1.
func Temperature(t float64) Option { return func(o *options) { o.Temperature = t } }

// TopK samples from the k likeliest tokens, and from all that are as likely as the k-th. 1 is
// greedy, 0 (the default) is off.
func TopK(k int) Option { return func(o *options) { o.TopK = k } }

// TopP samples from the fewest likeliest tokens whose probabilities add up to p (Holtzman et al.,
// arXiv:1904.09751); 1 (the default) is off.
func TopP(p float64) Option { return func(o *options) { o.TopP = p } }

// MinP samples from tokens at least p times as likely as the likeliest (Nguyen et al.,
// arXiv:2407.01082); 0 (the default) is off.
func MinP(p float64) Option { return func(o *options) { o.MinP = p } }

// Seed makes what is sampled repeatable: the same seed, model, prompt and options give the same
// text, on any machine as far as the logits are the same. Each place of a sequence has a random
// number of its own, so that the text is also the same if a State is saved and restored on the way.
// The default is 0.
func Seed(seed uint64) Option { return func(o *options) { o.Seed = seed } }

// RepetitionPenalty divides the logits of tokens that occurred by p if they are above 0, else
// multiplies them by p (Keskar et al., arXiv:1909.05858); 1 (the default) is off.
func RepetitionPenalty(p float64) Option { return func(o *options) { o.Repetition = p } }

// PresencePenalty is subtracted from the logits of tokens that occurred; 0 (the default) is off.
func PresencePenalty(p float64) Option { return func(o *options) { o.Presence = p } }

// FrequencyPenalty is subtracted from the logits of tokens for each time that they occurred; 0
// (the default) is off.
func FrequencyPenalty(p float64) Option { return func(o *options) { o.Frequency = p } }

// PenaltyDecay multiplies the counts behind the penalties with each token, so that old tokens are
// forgotten; 1 (the default) keeps them.
func PenaltyDecay(d float64) Option { return func(o *options) { o.PenaltyDecay = d } }

// Seen counts ids as occurrences for the penalties, older than the tokens of the prompt. A State
// remembers its newest block_size tokens for that; a kind without a block_size remembers none, and
// has to be told what it read or wrote before this generation.
func Seen(ids ...int) Option {
	return func(o *options) { o.seen = append(o.seen, ids...) }
}

// Bias calls f before each token is sampled, with the logits to change in place: −Inf forbids a
// token. The logits are f's only for that call.
func Bias(f func(logits []float32)) Option { return func(o *options) { o.Bias = f } }

// StopAtEnd says whether the tokenizer's end-of-text token ends the text; it does by default.
func StopAtEnd(on bool) Option { return func(o *options) { o.stopAtEnd = on } }

// StopTokens ends the text at any of these tokens, which isn't part of it.
func StopTokens(ids ...int) Option {
	return func(o *options) { o.stopTokens = append(o.stopTokens, ids...) }
}

// StopStrings ends the text before the first of these strings, wherever the tokens' borders are.
// Text that may be the beginning of one is held back until it is known.
func StopStrings(s ...string) Option {
	return func(o *options) { o.stopStrings = append(o.stopStrings, s...) }
}

// WhenFull says what happens at block_size. Without it the kinds Reference and X051a, which
// published programs exist for, follow Recompute as those do, and Causal follows KeepHalf.
func WhenFull(r FullRule) Option { return func(o *options) { o.full, o.fullSet = r, true } }

// OnToken calls f with each token as it is sampled, before its text comes.
func OnToken(f func(Token)) Option { return func(o *options) { o.onToken = f } }

// Discard says that the state won't be used after a State's Generate, which then saves computing
// the last token.
func Discard() Option { return func(o *options) { o.discard = true } }
