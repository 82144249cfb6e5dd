package cli

import (
	"flag"
	"fmt"
	"strings"

	"microrwkv/rwkv"
)

// SamplingFlags are the flags that say how tokens are picked.
type SamplingFlags struct {
	rwkv.Sampling
	MaxTokens int
	Stop      Strings
	ban       string
	seed      Seed
	fs        *flag.FlagSet
}

// Register adds the flags to fs. What they are set to already are their defaults.
func (s *SamplingFlags) Register(fs *flag.FlagSet) {
	s.fs = fs
	fs.IntVar(&s.MaxTokens, "max_num_tokens", s.MaxTokens, "tokens to generate")
	fs.StringVar(&s.Sampler, "sampler", rwkv.Standard, "order of the steps: standard, or official, that of the official RWKV package")
	fs.Float64Var(&s.Temperature, "temperature", s.Temperature, "below 1 makes likely tokens likelier; 0: greedy")
	fs.IntVar(&s.TopK, "top_k", s.TopK, "sample from the k likeliest tokens; 0: off, 1: greedy")
	fs.Float64Var(&s.TopP, "top_p", s.TopP, "sample from the fewest tokens whose probabilities add up to this; 1: off, 0: greedy")
	fs.Float64Var(&s.MinP, "min_p", s.MinP, "sample from tokens at least this much as likely as the likeliest; 0: off")
	fs.Float64Var(&s.Repetition, "repetition_penalty", s.Repetition, "divide the logits of tokens that occurred; 1: off")
	fs.Float64Var(&s.Presence, "presence_penalty", s.Presence, "subtract from the logits of tokens that occurred")
	fs.Float64Var(&s.Frequency, "frequency_penalty", s.Frequency, "subtract from a token's logit for each time it occurred")
	fs.Float64Var(&s.PenaltyDecay, "penalty_decay", s.PenaltyDecay, "multiply the counts behind the penalties by this with each token")
	fs.StringVar(&s.ban, "ban", "", "token `ids` that never come, separated by commas")
	fs.Var(&s.Stop, "stop", "stop before this `text`; may be given several times; \\n, \\t, \\\\ and Go's other escapes stand for what they mean")
	s.seed.Register(fs)
}

// SeedGiven reports whether the user chose the seed.
func (s *SamplingFlags) SeedGiven() bool { return Given(s.fs)["seed"] }

// Options returns the options that the flags ask for, the seed among them. An error names the flag.
func (s *SamplingFlags) Options() ([]rwkv.Option, error) {
	if s.MaxTokens < 0 {
		return nil, fmt.Errorf("--max_num_tokens %d: want 0 or more", s.MaxTokens)
	}
	s.Seed = uint64(s.seed)
	s.Ban = nil
	if s.ban != "" {
		ids, err := IDs(s.ban)
		if err != nil {
			return nil, fmt.Errorf("--ban: %w", err)
		}
		s.Ban = ids
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("--%w", err) // it begins with the name
	}
	opts := []rwkv.Option{rwkv.WithSampling(s.Sampling), rwkv.MaxTokens(s.MaxTokens)}
	for _, stop := range s.Stop {
		text, err := Unescape(stop)
		if err != nil {
			return nil, fmt.Errorf("--stop: %w", err)
		}
		if text == "" {
			return nil, fmt.Errorf("--stop: an empty stop string")
		}
		opts = append(opts, rwkv.StopStrings(text))
	}
	return opts, nil
}

// escapes are what Unescape replaces.
var escapes = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r", `\t`, "\t", `\0`, "\x00", `\"`, `"`, `\'`, `'`)

// Unescape returns text with \n, \r, \t, \0, \", \' and \\ replaced by what they stand for, as in most
// languages; \xHH, \uHHHH and \UHHHHHHHH are the character of that number. Any other backslash stays.
func Unescape(text string) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '\\')
		if i < 0 || i+1 == len(text) {
			b.WriteString(text)
			return b.String(), nil
		}
		b.WriteString(text[:i])
		text = text[i:]
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[text[1]]
		if digits == 0 {
			n := 2
			b.WriteString(escapes.Replace(text[:n]))
			text = text[n:]
			continue
		}
		if len(text) < 2+digits {
			return "", fmt.Errorf("%q: want %d hexadecimal digits", text, digits)
		}
		var r rune
		if _, err := fmt.Sscanf(text[2:2+digits], "%x", &r); err != nil {
			return "", fmt.Errorf("%q: want %d hexadecimal digits", text[:2+digits], digits)
		}
		b.WriteRune(r)
		text = text[2+digits:]
	}
}
