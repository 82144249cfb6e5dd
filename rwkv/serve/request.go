package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
)

// What OpenAI's API allows at most.
const (
	maxChoices      = 8
	maxStops        = 16
	maxTopLogProbs  = 20
	maxOldLogProbs  = 5
	maxPrompts      = 64
	defaultComplete = 16 // max_tokens of completions
)

// texts is a string or a list of strings.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	if b[0] != '[' {
		var s *string
		if err := json.Unmarshal(b, &s); err != nil || s == nil {
			return err
		}
		*t = texts{*s}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// parameters are what chats and completions have in common.
type parameters struct {
	Model             string             `json:"model"`
	Temperature       *float64           `json:"temperature"`
	TopP              *float64           `json:"top_p"`
	TopK              *int               `json:"top_k"`
	MinP              *float64           `json:"min_p"`
	RepetitionPenalty *float64           `json:"repetition_penalty"`
	PresencePenalty   *float64           `json:"presence_penalty"`
	FrequencyPenalty  *float64           `json:"frequency_penalty"`
	PenaltyDecay      *float64           `json:"penalty_decay"`
	Sampler           *string            `json:"sampler"`
	LogitBias         map[string]float64 `json:"logit_bias"`
	Seed              *json.Number       `json:"seed"`
	N                 *int               `json:"n"`
	Stop              texts              `json:"stop"`
	StopTokenIDs      []int              `json:"stop_token_ids"`
	IgnoreEOS         bool               `json:"ignore_eos"`
	MaxTokens         *int               `json:"max_tokens"`
	Stream            bool               `json:"stream"`
	StreamOptions     *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	State   *stateRequest   `json:"state"`
	Regex   json.RawMessage `json:"regex"`
	Grammar json.RawMessage `json:"grammar"`
}

// given reports whether a field of JSON is there and not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// choices returns how many texts are wanted of each prompt.
func (p *parameters) choices() (int, error) {
	if p.N == nil {
		return 1, nil
	}
	if *p.N < 1 || *p.N > maxChoices {
		return 0, bad("n", "n = %d, want 1 to %d", *p.N, maxChoices)
	}
	return *p.N, nil
}

// seed returns the seed, another one each time if none is asked for.
func (p *parameters) seed() (uint64, error) {
	if p.Seed == nil {
		return rand.Uint64(), nil
	}
	if u, err := strconv.ParseUint(p.Seed.String(), 10, 64); err == nil {
		return u, nil
	}
	i, err := strconv.ParseInt(p.Seed.String(), 10, 64)
	if err != nil {
		return 0, bad("seed", "seed = %s, want an integer", p.Seed)
	}
	return uint64(i), nil
}

// options returns how the texts are to be made, but for the seed; topLogProbs is -1 if nobody wants to know
// how likely they are.
func (p *parameters) options(e *engine, maxTokens *int, byDefault int, stops []string, topLogProbs int) ([]rwkv.Option, error) {
	c := &e.server.config
	if given(p.Regex) {
		return nil, unsupported("regex")
	}
	if given(p.Grammar) {
		return nil, unsupported("grammar")
	}
	s := *c.Sampling
	for _, f := range []struct {
		name string
		from *float64
		to   *float64
		max  float64
	}{
		{"temperature", p.Temperature, &s.Temperature, 100},
		{"top_p", p.TopP, &s.TopP, 1},
		{"min_p", p.MinP, &s.MinP, 1},
		{"repetition_penalty", p.RepetitionPenalty, &s.Repetition, 100},
		{"presence_penalty", p.PresencePenalty, &s.Presence, 100},
		{"frequency_penalty", p.FrequencyPenalty, &s.Frequency, 100},
		{"penalty_decay", p.PenaltyDecay, &s.PenaltyDecay, 1},
	} {
		if f.from == nil {
			continue
		}
		*f.to = *f.from
		if math.Abs(*f.from) > f.max {
			return nil, bad(f.name, "%s = %v is too large", f.name, *f.from)
		}
		if err := s.Validate(); err != nil {
			return nil, bad(f.name, "%v", err)
		}
	}
	if p.TopK != nil {
		s.TopK = *p.TopK
	}
	if p.Sampler != nil {
		s.Sampler = *p.Sampler
	}
	if len(p.LogitBias) > 0 {
		s.LogitBias = map[int]float64{}
		for id, b := range p.LogitBias {
			n, err := strconv.Atoi(id)
			if err != nil || n < 0 || n >= e.model.Config().VocabSize || b < -100 || b > 100 {
				return nil, bad("logit_bias", "logit_bias %q: %v: want a token's id and -100 to 100", id, b)
			}
			s.LogitBias[n] = b
		}
	}
	max := byDefault
	if maxTokens != nil {
		max = *maxTokens
	}
	if max < 0 || max > c.MaxNewTokens {
		return nil, bad("max_tokens", "max_tokens = %d, want 0 to %d", max, c.MaxNewTokens)
	}
	if len(p.Stop) > maxStops {
		return nil, bad("stop", "%d stop strings, at most %d are allowed", len(p.Stop), maxStops)
	}
	for _, stop := range p.Stop {
		if stop == "" || len(stop) > 1000 {
			return nil, bad("stop", "a stop string has %d bytes, want 1 to 1000", len(stop))
		}
	}
	if len(p.StopTokenIDs) > 0 && e.model.CheckIDs(p.StopTokenIDs) != nil {
		return nil, bad("stop_token_ids", "stop_token_ids: not all are tokens")
	}
	likely := rwkv.NoLogProbs()
	if topLogProbs >= 0 {
		likely = rwkv.TopLogProbs(topLogProbs)
	}
	options := []rwkv.Option{rwkv.WithSampling(s), rwkv.MaxTokens(max), likely,
		rwkv.StopAtEnd(!p.IgnoreEOS), rwkv.StopTokens(p.StopTokenIDs...), rwkv.StopStrings(append(stops[:len(stops):len(stops)], p.Stop...)...)}
	if err := e.model.CheckOptions(options...); err != nil {
		return nil, bad("", "%s", strings.TrimPrefix(err.Error(), "rwkv: "))
	}
	return options, nil
}

// content is a message's text: a string, a list of parts that are text, or null.
type content string

func (c *content) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if b[0] != '[' {
		var s *string
		if err := json.Unmarshal(b, &s); err != nil {
			return bad("messages", "content: want a string or a list of parts")
		}
		if s != nil {
			*c = content(*s)
		}
		return nil
	}
	var parts []struct{ Type, Text, Refusal string }
	if err := json.Unmarshal(b, &parts); err != nil {
		return bad("messages", "content: want a string or a list of parts")
	}
	var all []string
	for _, p := range parts {
		switch p.Type {
		case "text":
			all = append(all, p.Text)
		case "refusal":
			all = append(all, p.Refusal)
		default:
			return bad("messages", "a part of type %q isn't supported here, only text is", p.Type)
		}
	}
	*c = content(strings.Join(all, "\n"))
	return nil
}

// message is one of a conversation.
type message struct {
	Role      string  `json:"role"`
	Content   content `json:"content"`
	ToolCalls []struct {
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// chatRequest is the body of /v1/chat/completions.
type chatRequest struct {
	parameters
	Messages            []message       `json:"messages"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	LogProbs            bool            `json:"logprobs"`
	TopLogProbs         *int            `json:"top_logprobs"`
	ReasoningEffort     *string         `json:"reasoning_effort"`
	ResponseFormat      json.RawMessage `json:"response_format"`
	Tools               json.RawMessage `json:"tools"`
	Functions           json.RawMessage `json:"functions"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	Audio               json.RawMessage `json:"audio"`
}

// check returns an error for what can't be honoured.
func (r *chatRequest) check() error {
	if given(r.ResponseFormat) {
		var f struct{ Type string }
		if json.Unmarshal(r.ResponseFormat, &f) != nil || f.Type != "text" {
			return unsupported("response_format")
		}
	}
	if given(r.Tools) && string(r.Tools) != "[]" && string(r.ToolChoice) != `"none"` {
		return unsupported("tools")
	}
	if c := string(r.ToolChoice); given(r.ToolChoice) && c != `"none"` && c != `"auto"` {
		return unsupported("tool_choice")
	}
	if given(r.Functions) {
		return unsupported("functions")
	}
	if given(r.Audio) {
		return unsupported("audio")
	}
	if r.TopLogProbs != nil {
		if n := *r.TopLogProbs; n < 0 || n > maxTopLogProbs || n > 0 && !r.LogProbs {
			return bad("top_logprobs", "top_logprobs = %d, want 0 to %d, with logprobs", n, maxTopLogProbs)
		}
	}
	return nil
}

// conversation is what a chat asks for, as text.
type conversation struct {
	parts  []string
	think  chat.Think
	goesOn bool // the answer continues the last message
}

// conversation returns the text that asks for an answer; tail is what comes before it, after a state.
func (r *chatRequest) conversation(e *engine, tail string) (*conversation, error) {
	o := chat.Options{Think: e.server.config.Think}
	if r.ReasoningEffort != nil {
		var err error
		if o.Think, o.Footer, err = chat.Effort(*r.ReasoningEffort); err != nil {
			return nil, bad("reasoning_effort", "%v", err)
		}
	}
	var messages []chat.Message
	for i, m := range r.Messages {
		to := chat.Message{Role: m.Role, Content: string(m.Content)}
		for _, c := range m.ToolCalls {
			if !json.Valid([]byte(c.Function.Arguments)) {
				return nil, bad(fmt.Sprintf("messages.%d.tool_calls", i), "the arguments of %q aren't JSON", c.Function.Name)
			}
			to.Calls = append(to.Calls, chat.Call{Name: c.Function.Name, Arguments: json.RawMessage(c.Function.Arguments)})
		}
		messages = append(messages, to)
	}
	parts, err := e.template.Prompt(messages, o)
	if err != nil {
		return nil, bad("messages", "%v", err)
	}
	last := r.Messages[len(r.Messages)-1]
	c := &conversation{parts: parts, think: o.Think, goesOn: last.Role == chat.Assistant && len(last.ToolCalls) == 0}
	if tail != "" {
		c.parts = append([]string{tail}, parts...)
	}
	return c, nil
}
