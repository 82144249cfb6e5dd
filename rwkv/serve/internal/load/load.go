// Package load asks a server of OpenAI's API as many clients at once do, and measures how it answers.
package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says what is asked: streams of /v1/completions.
type Config struct {
	URL, Key, Model string
	Clients         int           // that ask at the same time, one request after the other each
	Duration        time.Duration // in which requests begin; each client asks once at least
	ShortWords      int           // prompts have 20 words to this many more
	LongWords       int           // but some have so many:
	LongEvery       int           // one in so many, by chance; 0: none
	MaxTokens       int
	Seed            uint64
	HTTP            *http.Client // nil: one with a connection for each client
}

// Result is what came of it. Times are in milliseconds.
type Result struct {
	Requests         int       `json:"requests"`
	Errors           int       `json:"errors"`
	FirstError       string    `json:"first_error,omitempty"`
	Seconds          float64   `json:"seconds"`
	PromptTokens     int       `json:"prompt_tokens"`
	CompletionTokens int       `json:"completion_tokens"`
	PerSecond        float64   `json:"completion_tokens_per_second"`
	First            Quantiles `json:"ms_to_first_token"`
	Between          Quantiles `json:"ms_between_tokens"`
}

// Quantiles are of a number of times.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func quantiles(seconds []float64) (q Quantiles) {
	if len(seconds) == 0 {
		return q
	}
	slices.Sort(seconds)
	at := func(p float64) float64 { return 1000 * seconds[int(p*float64(len(seconds)-1))] }
	return Quantiles{at(.5), at(.9), at(.99), at(1)}
}

// words are a token each for most vocabularies.
var words = strings.Fields("the of and to in a is that for it was on are as with his they at be this from have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just where most know get through back much before go good new write our used me man too any day same right look think also around another came come work three word must because does part even place well such here take why things help put years different away again off went old number great tell men say small every found still between name should home big give air line set own under read last never us left end along while might next sound below saw something thought both few those always looked show large often together asked house")

// Prompt returns n words by chance.
func Prompt(rng *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[rng.IntN(len(words))])
	}
	return b.String()
}

// measured is what one request came to.
type measured struct {
	first              float64
	between            []float64
	prompt, completion int
}

// Run asks until the time is over and all answers have come.
func Run(ctx context.Context, c Config) Result {
	if c.HTTP == nil {
		c.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.Clients}}
		defer c.HTTP.CloseIdleConnections()
	}
	var r Result
	var first, between []float64
	var mu sync.Mutex
	var all sync.WaitGroup
	begin := time.Now()
	for i := range c.Clients {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(c.Seed, uint64(i)))
			for once := true; ctx.Err() == nil && (once || time.Since(begin) < c.Duration); once = false {
				n := 20 + rng.IntN(c.ShortWords+1)
				if c.LongEvery > 0 && rng.IntN(c.LongEvery) == 0 {
					n = c.LongWords
				}
				m, err := ask(ctx, &c, Prompt(rng, n))
				mu.Lock()
				r.Requests++
				if err != nil {
					if r.Errors++; r.Errors == 1 {
						r.FirstError = err.Error()
					}
				} else {
					r.PromptTokens += m.prompt
					r.CompletionTokens += m.completion
					first, between = append(first, m.first), append(between, m.between...)
				}
				mu.Unlock()
				if err != nil { // not as fast as they come
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	all.Wait()
	r.Seconds = time.Since(begin).Seconds()
	r.PerSecond = float64(r.CompletionTokens) / r.Seconds
	r.First, r.Between = quantiles(first), quantiles(between)
	return r
}

// chunk is what is wanted of an event.
type chunk struct {
	Choices []struct {
		Text         string  `json:"text"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	} `json:"usage"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// ask asks once and reads the stream.
func ask(ctx context.Context, c *Config, prompt string) (m measured, err error) {
	body, err := json.Marshal(map[string]any{"model": c.Model, "prompt": prompt, "max_tokens": c.MaxTokens, "ignore_eos": true, "temperature": 1,
		"stream": true, "stream_options": map[string]any{"include_usage": true}})
	if err != nil {
		return m, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return m, err
	}
	q.Header.Set("Content-Type", "application/json")
	if c.Key != "" {
		q.Header.Set("Authorization", "Bearer "+c.Key)
	}
	begin := time.Now()
	r, err := c.HTTP.Do(q)
	if err != nil {
		return m, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(r.Body, 500))
		return m, fmt.Errorf("status %d: %s", r.StatusCode, b)
	}
	last, ended := begin, false
	lines := bufio.NewReaderSize(r.Body, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		now := time.Now()
		switch {
		case err != nil && err != io.EOF:
			return m, err
		case err == io.EOF && !ended:
			return m, fmt.Errorf("the stream was cut short after %d pieces", len(m.between))
		case err == io.EOF:
			return m, nil
		case !ok:
			continue
		}
		if bytes.HasPrefix(data, []byte("[DONE]")) {
			ended = true
			continue
		}
		var e chunk
		if err := json.Unmarshal(data, &e); err != nil {
			return m, err
		}
		if e.Error != nil {
			return m, fmt.Errorf("in the stream: %s", e.Error.Message)
		}
		if e.Usage != nil {
			m.prompt, m.completion = e.Usage.Prompt, e.Usage.Completion
		}
		// a piece with the end alone says nothing of a token's time
		if len(e.Choices) > 0 && (e.Choices[0].FinishReason == nil || e.Choices[0].Text != "") {
			if m.first == 0 {
				m.first = now.Sub(begin).Seconds()
			} else {
				m.between = append(m.between, now.Sub(last).Seconds())
			}
			last = now
		}
	}
}
