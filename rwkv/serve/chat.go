package serve

import (
	"encoding/json"
	"net/http"
	"time"

	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
)

// tokenLogProb is a token with its probability.
type tokenLogProb struct {
	Token   string          `json:"token"`
	LogProb float64         `json:"logprob"`
	Bytes   []int           `json:"bytes"`
	Top     *[]tokenLogProb `json:"top_logprobs,omitempty"`
}

// logProb returns a token as the API tells it.
func (e *engine) logProb(p rwkv.LogProb) tokenLogProb {
	b := e.piece(p.ID)
	t := tokenLogProb{Token: string(b), LogProb: max(float64(p.LogProb), -9999), Bytes: make([]int, len(b))}
	for i, c := range b {
		t.Bytes[i] = int(c)
	}
	return t
}

// logProbs are those of a text.
type logProbs struct {
	Content []tokenLogProb  `json:"content"`
	Refusal json.RawMessage `json:"refusal"`
}

// add appends tokens.
func (l *logProbs) add(e *engine, tokens []rwkv.Token) {
	for _, t := range tokens {
		p, top := e.logProb(rwkv.LogProb{ID: t.ID, LogProb: t.LogProb}), []tokenLogProb{}
		for _, o := range t.Top {
			top = append(top, e.logProb(o))
		}
		p.Top = &top
		l.Content = append(l.Content, p)
	}
}

// chatMessage is an answer.
type chatMessage struct {
	Role      string  `json:"role"`
	Content   string  `json:"content"`
	Refusal   *string `json:"refusal"`
	Reasoning string  `json:"reasoning_content,omitempty"`
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      chatMessage `json:"message"`
	LogProbs     *logProbs   `json:"logprobs"`
	FinishReason string      `json:"finish_reason"`
}

// head is what all objects of an answer begin with.
type head struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Model   string `json:"model"`
	System  string `json:"system_fingerprint"`
}

type chatAnswer struct {
	head
	Choices []chatChoice `json:"choices"`
	Usage   *usage       `json:"usage"`
	State   *answerState `json:"state,omitempty"`
}

// delta is what a chunk of a stream adds to an answer.
type delta struct {
	Role      string  `json:"role,omitempty"`
	Content   *string `json:"content,omitempty"`
	Reasoning *string `json:"reasoning_content,omitempty"`
}

type chunkChoice struct {
	Index        int       `json:"index"`
	Delta        delta     `json:"delta"`
	LogProbs     *logProbs `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
}

type chatChunk struct {
	head
	Choices []chunkChoice   `json:"choices"`
	Usage   json.RawMessage `json:"usage,omitempty"`
	State   *answerState    `json:"state,omitempty"`
}

// chatWriter makes the answer to a chat.
type chatWriter struct {
	e       *engine
	w       http.ResponseWriter
	head    head
	stream  *sse // nil for an answer in one piece
	usage   bool // at a stream's end
	logs    bool
	thinks  bool
	answers []*chat.Answer // nil for texts that are told as they are
	spoke   []bool         // the thoughts have ended
	choices []chatChoice
	thought int // tokens
}

// chatRequest reads a chat's messages, and returns the engine that they are for.
func (s *Server) chatRequest(w http.ResponseWriter, r *http.Request) (*chatRequest, *engine, error) {
	q := &chatRequest{}
	if err := s.decode(w, r, q); err != nil {
		return nil, nil, err
	}
	e, err := s.engineOf(q.Model)
	if err != nil {
		return nil, nil, err
	}
	if err := q.check(); err != nil {
		return nil, nil, err
	}
	if len(q.Messages) == 0 {
		return nil, nil, bad("messages", "messages is empty")
	}
	return q, e, nil
}

// chat answers /v1/chat/completions.
func (s *Server) chat(w http.ResponseWriter, r *http.Request) error {
	q, e, err := s.chatRequest(w, r)
	if err != nil {
		return err
	}
	n, err := q.choices()
	if err != nil {
		return err
	}
	seed, err := q.seed()
	if err != nil {
		return err
	}
	max, top := q.MaxCompletionTokens, -1
	if max == nil {
		max = q.MaxTokens
	}
	if q.LogProbs {
		top = 0
		if q.TopLogProbs != nil {
			top = *q.TopLogProbs
		}
	}
	options, err := q.options(e, max, s.config.MaxNewTokens, e.template.Stops, top)
	if err != nil {
		return err
	}
	keep, err := s.states.open(r, e, q.State, n)
	if err != nil {
		return err
	}
	defer keep.close()
	c, err := q.conversation(e, keep.tail())
	if err != nil {
		return err
	}
	parts, err := e.encode("messages", c.parts)
	if err != nil {
		return err
	}
	if err := e.checkLength("messages", parts); err != nil {
		return err
	}
	if count(parts) == 0 && keep.empty() {
		return bad("messages", "the messages are empty")
	}
	keep.ends = e.ending()
	cw := &chatWriter{e: e, w: w, logs: q.LogProbs, thinks: c.think == chat.ThinkOn && e.template == chat.G1 && !c.goesOn,
		head: head{newID("chatcmpl-"), "chat.completion", time.Now().Unix(), e.name, e.system}}
	for i := range n {
		var a *chat.Answer
		if e.template.Trained && !c.goesOn {
			a = e.template.NewAnswer(c.think)
		}
		cw.answers, cw.spoke = append(cw.answers, a), append(cw.spoke, false)
		cw.choices = append(cw.choices, chatChoice{Index: i, Message: chatMessage{Role: "assistant"}})
		if q.LogProbs {
			cw.choices[i].LogProbs = &logProbs{Content: []tokenLogProb{}}
		}
	}
	if q.Stream {
		cw.stream = newSSE(w)
		cw.head.Object = "chat.completion.chunk"
		cw.usage = q.StreamOptions != nil && q.StreamOptions.IncludeUsage
	}
	return s.run(r, e, []*job{{owner: keep.owner, base: keep.base, parts: parts, n: n, seed: seed, options: options}}, keep, cw)
}

// chunk sends a piece of one of the answers.
func (c *chatWriter) chunk(choice chunkChoice) error {
	return c.send(chatChunk{head: c.head, Choices: []chunkChoice{choice}})
}

func (c *chatWriter) send(chunk chatChunk) error {
	if c.usage && chunk.Usage == nil {
		chunk.Usage = json.RawMessage("null")
	}
	b, err := json.Marshal(chunk)
	if err != nil {
		return err
	}
	return c.stream.send("data: " + string(b))
}

// begin tells the roles at the beginning of a stream.
func (c *chatWriter) begin() error {
	if c.stream.started {
		return nil
	}
	for i := range c.choices {
		empty := ""
		if err := c.chunk(chunkChoice{Index: i, Delta: delta{Role: "assistant", Content: &empty}}); err != nil {
			return err
		}
	}
	return nil
}

func (c *chatWriter) write(ev event) error {
	i := ev.index
	thoughts, text := "", ev.text
	if a := c.answers[i]; a != nil {
		thoughts, text = a.Push(ev.text)
		if ev.reason != "" {
			x, y := a.Flush()
			thoughts, text = thoughts+x, text+y
		}
	}
	if c.thinks && !c.spoke[i] {
		c.thought += len(ev.tokens)
		ev.tokens = nil
		c.spoke[i] = text != ""
	}
	choice := &c.choices[i]
	if c.stream == nil {
		choice.Message.Content += text
		choice.Message.Reasoning += thoughts
		if c.logs {
			choice.LogProbs.add(c.e, ev.tokens)
		}
		if ev.reason != "" {
			choice.FinishReason = finishReason(ev.reason)
		}
		return nil
	}
	if err := c.begin(); err != nil {
		return err
	}
	if thoughts != "" {
		if err := c.chunk(chunkChoice{Index: i, Delta: delta{Reasoning: &thoughts}}); err != nil {
			return err
		}
	}
	if text != "" || c.logs && len(ev.tokens) > 0 {
		piece := chunkChoice{Index: i, Delta: delta{Content: &text}}
		if c.logs {
			piece.LogProbs = &logProbs{Content: []tokenLogProb{}}
			piece.LogProbs.add(c.e, ev.tokens)
		}
		if err := c.chunk(piece); err != nil {
			return err
		}
	}
	choice.FinishReason = ""
	if ev.reason != "" {
		choice.FinishReason = finishReason(ev.reason)
		if len(c.choices) > 1 {
			return c.chunk(chunkChoice{Index: i, FinishReason: &choice.FinishReason})
		}
	}
	return nil
}

func (c *chatWriter) ping() error {
	if c.stream == nil {
		return nil
	}
	return c.stream.send(": ping")
}

func (c *chatWriter) finish(u *usage, st *answerState) error {
	u.CompletionDetails.Reasoning = c.thought
	if c.stream == nil {
		if st != nil && st.ID != "" {
			c.w.Header().Set("X-State-Id", st.ID)
		}
		return reply(c.w, chatAnswer{c.head, c.choices, u, st})
	}
	if err := c.begin(); err != nil {
		return err
	}
	if len(c.choices) == 1 { // the state is known only now
		err := c.send(chatChunk{head: c.head, State: st, Choices: []chunkChoice{{FinishReason: &c.choices[0].FinishReason}}})
		if err != nil {
			return err
		}
	}
	if c.usage {
		b, err := json.Marshal(u)
		if err != nil {
			return err
		}
		if err := c.send(chatChunk{head: c.head, Choices: []chunkChoice{}, Usage: b}); err != nil {
			return err
		}
	}
	return c.stream.send("data: [DONE]")
}

func (c *chatWriter) fail(err error) { failStream(c.stream, err) }

// failStream tells an error in a stream that has begun.
func failStream(stream *sse, err error) {
	if stream == nil || !stream.started {
		return // the error is the answer
	}
	e := errorOf(err)
	if b, err := json.Marshal(map[string]*Error{"error": &e}); err == nil {
		stream.send("data: " + string(b))
	}
}
