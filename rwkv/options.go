package rwkv

import "fmt"

// Option sets how text is generated. Options that make no sense give an error when generation
// starts.
type Option func(*options)

type options struct {
	sampling
	maxTokens    int
	stopAtEnd    bool
	stopTokens   []int
	stopStrings  []string
	full         FullRule
	fullSet      bool
	onToken      func(Token)
	onEnd        func(Reason)
	topLogProbs  int
	noLogProbs   bool
	scorePrompt  bool
	promptTop    int
	onPrompt     func(done, total int)
	promptChunks []int
	seen         []int
	discard      bool
}

// defaultMaxTokens is how many tokens are generated unless MaxTokens says otherwise.
const defaultMaxTokens = 100

func newOptions(opts []Option) (*options, error) {
	o := &options{sampling: sampling{Sampling: DefaultSampling()}, maxTokens: defaultMaxTokens, stopAtEnd: true}
	for i, set := range opts {
		if set == nil {
			panic(fmt.Sprintf("rwkv: option %d is nil", i))
		}
		set(o)
	}
	if o.maxTokens < 0 {
		return nil, fmt.Errorf("rwkv: max tokens = %d, want 0 or more", o.maxTokens)
	}
	if err := checkStops(o.stopStrings); err != nil {
		return nil, fmt.Errorf("rwkv: %w", err)
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("rwkv: %w", err)
	}
	if o.topLogProbs < 0 {
		return nil, fmt.Errorf("rwkv: top log-probabilities = %d, want 0 or more", o.topLogProbs)
	}
	if o.promptTop < 0 {
		return nil, fmt.Errorf("rwkv: top log-probabilities of a prompt = %d, want 0 or more", o.promptTop)
	}
	for _, n := range o.promptChunks {
		if n < 1 {
			return nil, fmt.Errorf("rwkv: a chunk of %d tokens of a prompt, want 1 or more", n)
		}
	}
	return o, nil
}

// MaxTokens limits the tokens to generate; the default is 100.
func MaxTokens(n int) Option { return func(o *options) { o.maxTokens = n } }

// WithSampling sets all that a Sampling holds.
func WithSampling(s Sampling) Option { return func(o *options) { o.Sampling = s } }

// OfficialSampler picks tokens as the official package rwkv does, for settings that are meant for it:
// see Sampling.
func OfficialSampler() Option { return func(o *options) { o.Sampler = Official } }

// Temperature divides the logits: below 1 makes likely tokens likelier, and 0 is greedy. The default
// is 1.
func Temperature(t float64) Option { return func(o *options) { o.Temperature = t } }

// TopK samples from the k likeliest tokens, and from all that are as likely as the k-th. 1 is
// greedy: of equally likely tokens the one with the lowest id. 0 (the default) is off.
func TopK(k int) Option { return func(o *options) { o.TopK = k } }

// TopP samples from the fewest likeliest tokens whose probabilities add up to p (Holtzman et al.,
// arXiv:1904.09751); 1 (the default) is off, 0 is greedy.
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

// Seen counts ids as occurrences for the penalties, older than all that the State has read or written.
func Seen(ids ...int) Option {
	return func(o *options) { o.seen = append(o.seen, ids...) }
}

// LogitBias adds to the logits of tokens.
func LogitBias(bias map[int]float64) Option { return func(o *options) { o.LogitBias = bias } }

// Ban keeps tokens from being sampled.
func Ban(ids ...int) Option { return func(o *options) { o.Ban = append(o.Ban, ids...) } }

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

// OnToken calls f with each token of the text, before its text comes. That is as soon as it is
// sampled, unless its text may begin a stop string: then it is when it turns out not to.
func OnToken(f func(Token)) Option { return func(o *options) { o.onToken = f } }

// TopLogProbs gives each Token the n likeliest tokens in its place.
func TopLogProbs(n int) Option { return func(o *options) { o.topLogProbs = n } }

// NoLogProbs saves a Batch computing Token.LogProb, which is NaN then.
func NoLogProbs() Option { return func(o *options) { o.noLogProbs = true } }

// PromptLogProbs has a Batch tell how likely each token of the prompt is after those before it, with the
// top likeliest tokens in its place: see Sequence.PromptTokens. It costs the head's product for each token
// of the prompt, and is an error for kinds that don't stream, in which a position sees those after it.
func PromptLogProbs(top int) Option {
	return func(o *options) { o.scorePrompt, o.promptTop = true, top }
}

// PromptProgress calls f while a prompt is read, after each pass of the model, with how many of its
// tokens are done. In a Batch f may call the sequence's Fork.
func PromptProgress(f func(done, total int)) Option { return func(o *options) { o.onPrompt = f } }

// OnEnd calls f when the text ends, with why it does, after its last piece. It isn't called for a loop
// that is left early.
func OnEnd(f func(Reason)) Option { return func(o *options) { o.onEnd = f } }

// Discard says that the state won't be used after a State's Generate, which then saves computing
// the last token.
func Discard() Option { return func(o *options) { o.discard = true } }

// PromptChunks says in which pieces a Batch reads the prompt: so many tokens in each pass of the model,
// at most 256, and what is left in pieces of 256. Where a prompt is cut decides how its numbers are
// rounded, so that states made with the same cuts have the same bits. Of a prompt that is longer than
// block_size it says nothing.
func PromptChunks(tokens ...int) Option {
	return func(o *options) { o.promptChunks = tokens }
}
