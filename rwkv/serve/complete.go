package serve

import (
	"encoding/json"
	"net/http"
	"time"
	"unicode/utf8"

	"microrwkv/rwkv"
)

// completionRequest is the body of /v1/completions.
type completionRequest struct {
	parameters
	Prompt   prompts `json:"prompt"`
	Echo     bool    `json:"echo"`
	LogProbs *int    `json:"logprobs"`
	BestOf   *int    `json:"best_of"`
	Suffix   *string `json:"suffix"`
}

// prompts is a text, ids, or a list of one of them.
type prompts []any // string or []int

func (p *prompts) UnmarshalJSON(b []byte) error {
	var text *string
	var ids []int
	var list []json.RawMessage
	switch {
	case json.Unmarshal(b, &text) == nil:
		if text != nil {
			*p = prompts{*text}
		}
		return nil
	case json.Unmarshal(b, &ids) == nil:
		*p = prompts{ids}
		return nil
	case json.Unmarshal(b, &list) != nil || len(list) > maxPrompts:
		return bad("prompt", "prompt: want a string, ids, or a list of at most %d of them", maxPrompts)
	}
	for _, one := range list {
		var text string
		var ids []int
		switch {
		case json.Unmarshal(one, &text) == nil:
			*p = append(*p, text)
		case json.Unmarshal(one, &ids) == nil:
			*p = append(*p, ids)
		default:
			return bad("prompt", "prompt: want a string, ids, or a list of them")
		}
	}
	return nil
}

// oldLogProbs are log-probabilities as /v1/completions has them.
type oldLogProbs struct {
	Tokens   []string             `json:"tokens"`
	LogProbs []*float64           `json:"token_logprobs"` // nil of the first token of a sequence
	Top      []map[string]float64 `json:"top_logprobs"`
	Offsets  []int                `json:"text_offset"`
}

type completionChoice struct {
	Index        int          `json:"index"`
	Text         string       `json:"text"`
	LogProbs     *oldLogProbs `json:"logprobs"`
	FinishReason *string      `json:"finish_reason"`
}

type completionAnswer struct {
	head
	Choices []completionChoice `json:"choices"`
	Usage   json.RawMessage    `json:"usage,omitempty"`
	State   *answerState       `json:"state,omitempty"`
}

// completionWriter makes the answer to a completion.
type completionWriter struct {
	e       *engine
	w       http.ResponseWriter
	head    head
	stream  *sse
	usage   bool
	logs    int // of other tokens; -1: none at all
	choices []completionChoice
	offsets []int // characters of each text's tokens so far
}

// complete answers /v1/completions.
func (s *Server) complete(w http.ResponseWriter, r *http.Request) error {
	var q completionRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	e, err := s.engineOf(q.Model)
	if err != nil {
		return err
	}
	n, err := q.choices()
	if err != nil {
		return err
	}
	if q.Suffix != nil && *q.Suffix != "" {
		return unsupported("suffix")
	}
	if q.BestOf != nil && *q.BestOf > n {
		return unsupported("best_of")
	}
	seed, err := q.seed()
	if err != nil {
		return err
	}
	logs := -1
	if q.LogProbs != nil {
		if logs = *q.LogProbs; logs < 0 || logs > maxOldLogProbs {
			return bad("logprobs", "logprobs = %d, want 0 to %d", logs, maxOldLogProbs)
		}
		if q.Echo && !e.model.Streams() {
			return bad("logprobs", "logprobs of an echoed prompt aren't there for kind %s, in which a position sees those after it: ask /v1/score", e.model.Config().Kind)
		}
	}
	options, err := q.options(e, q.MaxTokens, defaultComplete, nil, logs)
	if err != nil {
		return err
	}
	if len(q.Prompt) == 0 {
		q.Prompt = prompts{""}
	}
	keep, err := s.states.open(r, e, q.State, n*len(q.Prompt))
	if err != nil {
		return err
	}
	defer keep.close()
	cw := &completionWriter{e: e, w: w, logs: logs, head: head{newID("cmpl-"), "text_completion", time.Now().Unix(), e.name, e.system}}
	var jobs []*job
	for i, p := range q.Prompt {
		var parts [][]int
		switch p := p.(type) {
		case string:
			if parts, err = e.encode("prompt", []string{p}); err != nil {
				return err
			}
		case []int:
			if err := e.model.CheckIDs(p); err != nil {
				return bad("prompt", "%v", err)
			}
			parts = [][]int{p}
		}
		if err := e.checkLength("prompt", parts); err != nil {
			return err
		}
		if count(parts) == 0 {
			if parts = nil; keep.empty() {
				return errNoPrompt
			}
		}
		base := keep.base
		if i > 0 && base != nil {
			base = base.Clone()
		}
		j := &job{owner: keep.owner, base: base, parts: parts, n: n, index: i * n, seed: seed, options: options}
		if j.scores = q.Echo && logs >= 0; j.scores {
			j.top = logs
		}
		jobs = append(jobs, j)
		for range n {
			c := completionChoice{Index: len(cw.choices)}
			if q.Echo {
				c.Text = echo(e, parts)
			}
			if logs >= 0 {
				c.LogProbs = newOldLogProbs()
			}
			cw.choices, cw.offsets = append(cw.choices, c), append(cw.offsets, 0) // an echo's tokens come first
		}
	}
	if q.Stream {
		cw.stream = newSSE(w)
		cw.usage = q.StreamOptions != nil && q.StreamOptions.IncludeUsage
	}
	return s.run(r, e, jobs, keep, cw)
}

// echo returns the text of ids.
func echo(e *engine, parts [][]int) string {
	text := ""
	for _, p := range parts {
		text += e.tok.Decode(p)
	}
	return text
}

func (c *completionWriter) send(a completionAnswer) error {
	if c.usage && a.Usage == nil {
		a.Usage = json.RawMessage("null")
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return c.stream.send("data: " + string(b))
}

func newOldLogProbs() *oldLogProbs {
	return &oldLogProbs{Tokens: []string{}, LogProbs: []*float64{}, Offsets: []int{}}
}

// add appends tokens to log-probabilities.
func (c *completionWriter) add(to *oldLogProbs, index int, tokens []rwkv.Token) {
	for _, t := range tokens {
		piece := string(c.e.piece(t.ID))
		to.Tokens = append(to.Tokens, piece)
		known := t.LogProb == t.LogProb
		var p *float64
		if known {
			least := max(float64(t.LogProb), -9999)
			p = &least
		}
		to.LogProbs = append(to.LogProbs, p)
		to.Offsets = append(to.Offsets, c.offsets[index])
		c.offsets[index] += utf8.RuneCountInString(piece)
		if c.logs > 0 {
			var top map[string]float64
			if known {
				top = map[string]float64{}
			}
			for _, o := range t.Top {
				top[string(c.e.piece(o.ID))] = max(float64(o.LogProb), -9999)
			}
			to.Top = append(to.Top, top)
		}
	}
}

func (c *completionWriter) write(ev event) error {
	choice := &c.choices[ev.index]
	if ev.reason != "" {
		reason := finishReason(ev.reason)
		choice.FinishReason = &reason
	}
	if c.stream == nil {
		choice.Text += ev.text
		if c.logs >= 0 {
			c.add(choice.LogProbs, ev.index, ev.prompt)
			c.add(choice.LogProbs, ev.index, ev.tokens)
		}
		return nil
	}
	text := choice.Text + ev.text // the echo comes with the first piece
	choice.Text = ""
	piece := completionChoice{Index: ev.index, Text: text}
	if c.logs >= 0 {
		piece.LogProbs = newOldLogProbs()
		c.add(piece.LogProbs, ev.index, ev.prompt)
		c.add(piece.LogProbs, ev.index, ev.tokens)
	}
	if len(c.choices) > 1 {
		piece.FinishReason = choice.FinishReason
	}
	return c.send(completionAnswer{head: c.head, Choices: []completionChoice{piece}})
}

func (c *completionWriter) ping() error {
	if c.stream == nil {
		return nil
	}
	return c.stream.send(": ping")
}

func (c *completionWriter) finish(u *usage, st *answerState) error {
	cost, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if c.stream == nil {
		if st != nil && st.ID != "" {
			c.w.Header().Set("X-State-Id", st.ID)
		}
		return reply(c.w, completionAnswer{c.head, c.choices, cost, st})
	}
	if len(c.choices) == 1 {
		last := completionChoice{FinishReason: c.choices[0].FinishReason}
		if err := c.send(completionAnswer{head: c.head, Choices: []completionChoice{last}, State: st}); err != nil {
			return err
		}
	}
	if c.usage {
		if err := c.send(completionAnswer{head: c.head, Choices: []completionChoice{}, Usage: cost}); err != nil {
			return err
		}
	}
	return c.stream.send("data: [DONE]")
}

func (c *completionWriter) fail(err error) { failStream(c.stream, err) }
