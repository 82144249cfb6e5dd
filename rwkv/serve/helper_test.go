package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"microrwkv/rwkv"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
	"microrwkv/tokenizer/world"
)

// tiny is a model of noise with the World vocabulary.
var tiny = sync.OnceValue(func() Model {
	m, err := rwkv.Random(rwkv.Config{Kind: rwkv.RWKV7, NumLayers: 1, NumHeads: 1, EmbedDim: 64, VocabSize: 65536}, tensor.BF16, 1)
	if err != nil {
		panic(err)
	}
	tok, err := world.Tokenizer()
	if err != nil {
		panic(err)
	}
	return Model{Name: "tiny", Model: m, Tokenizer: tok}
})

// site is a server with an address.
type site struct {
	t      testing.TB
	server *Server
	http   *http.Server
	url    string
	key    string
}

// newSite starts a server.
func newSite(t testing.TB, c Config, models ...Model) *site {
	t.Helper()
	if len(models) == 0 {
		models = []Model{tiny()}
	}
	s, err := New(models, c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := NewHTTPServer(s)
	go h.Serve(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		h.Close()
	})
	key := ""
	if len(c.Keys) > 0 {
		key = c.Keys[0].Key
	}
	return &site{t, s, h, "http://" + l.Addr().String(), key}
}

// as is the site as another key sees it.
func (s *site) as(key string) *site {
	other := *s
	other.key = key
	return &other
}

type object = map[string]any

// answer is what a request got.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// do asks, with a body of JSON, octets ([]byte) or none (nil); headers are pairs.
func (s *site) do(ctx context.Context, method, path string, body any, headers ...string) (*http.Response, error) {
	var r io.Reader
	octets, raw := body.([]byte)
	switch {
	case raw:
		r = bytes.NewReader(octets)
	case body != nil:
		b, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, method, s.url+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	if body != nil && !raw {
		q.Header.Set("Content-Type", "application/json")
	}
	if s.key != "" {
		q.Header.Set("Authorization", "Bearer "+s.key)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			q.Host = headers[i+1]
		}
	}
	return http.DefaultClient.Do(q)
}

func (s *site) ask(method, path string, body any, headers ...string) answer {
	s.t.Helper()
	r, err := s.do(s.t.Context(), method, path, body, headers...)
	if err != nil {
		s.t.Error(err)
		return answer{}
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	return answer{r.StatusCode, r.Header, b}
}

// json returns the answer, which must be 200 and JSON.
func (a answer) json(t *testing.T) object {
	t.Helper()
	o := object{}
	if err := json.Unmarshal(a.body, &o); err != nil || a.code != http.StatusOK {
		t.Fatalf("status %d, %v: %.300s", a.code, err, a.body)
	}
	return o
}

// at returns what is at a path in JSON: names and numbers.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(object)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// refused checks that an answer is an error in OpenAI's form.
func (a answer) refused(t *testing.T, code int, name string) {
	t.Helper()
	o := object{}
	if err := json.Unmarshal(a.body, &o); err != nil {
		t.Errorf("status %d, want %d: %v: %.200s", a.code, code, err, a.body)
		return
	}
	e, _ := o["error"].(object)
	got, _ := e["code"].(string)
	if a.code != code || got != name || e["message"] == "" || e["type"] == "" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("status %d, code %q, want %d, %q: %s", a.code, got, code, name, a.body)
	}
	if retry := a.header.Get("Retry-After") != ""; retry != (code == 409 || code == 429 || code == 503) {
		t.Errorf("status %d: Retry-After %q", code, a.header.Get("Retry-After"))
	}
}

// events returns the data of a stream, and whether it ended as streams do.
func events(t testing.TB, r io.Reader) (list []object, done bool) {
	t.Helper()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			return list, true
		}
		o := object{}
		if err := json.Unmarshal([]byte(data), &o); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		list = append(list, o)
	}
	return list, false
}

// lines returns how many events a stream has, at the least cost.
func lines(r io.Reader) (n int) {
	var b [16 << 10]byte
	for {
		m, err := r.Read(b[:])
		n += bytes.Count(b[:m], []byte("data: "))
		if err != nil {
			return n
		}
	}
}

// stream asks for a stream and returns its events.
func (s *site) stream(path string, body object) []object {
	s.t.Helper()
	body["stream"] = true
	a := s.ask("POST", path, body)
	if a.code != 200 || a.header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("status %d: %s", a.code, a.body)
	}
	list, done := events(s.t, bytes.NewReader(a.body))
	if !done {
		s.t.Fatalf("the stream isn't done: %s", a.body)
	}
	return list
}

// user returns a conversation of one message.
func user(text string) []any { return []any{object{"role": "user", "content": text}} }

// ids returns n token ids.
func ids(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = 300 + i*31%20000
	}
	return list
}

// until waits for something that comes sooner or later.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("this never happens: ", what)
		}
	}
}

// load returns how many texts the first model has that haven't ended.
func (s *site) load() int {
	sch := s.server.engines[0].scheduler
	sch.mu.Lock()
	defer sch.mu.Unlock()
	return sch.load
}

// running returns how many sequences are in the batch.
func (s *site) running() int {
	return int(testutil.ToFloat64(s.server.metrics.running.WithLabelValues(s.server.engines[0].name)))
}

// alone returns the log-probabilities that ids have after a prompt that is read in parts, and the ids.
func alone(t *testing.T, parts [][]int, n int, seed uint64, options ...rwkv.Option) (text string, logs []float32) {
	t.Helper()
	m := tiny()
	s := m.Model.NewState()
	for _, p := range parts {
		for len(p) > 0 {
			n := min(len(p), 64)
			if _, err := s.Append(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
	}
	options = append(options, rwkv.MaxTokens(n), rwkv.Seed(seed), rwkv.OnToken(func(t rwkv.Token) { logs = append(logs, t.LogProb) }))
	for piece, err := range s.Generate(t.Context(), m.Tokenizer, options...) {
		if err != nil {
			t.Fatal(err)
		}
		text += piece
	}
	return text, logs
}

// encoded returns the ids of texts.
func encoded(t *testing.T, tok tokenizer.Tokenizer, parts ...string) (list [][]int) {
	t.Helper()
	for _, p := range parts {
		ids, err := tok.Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, ids)
	}
	return list
}

// logsOf returns the log-probabilities of a chat's answer.
func logsOf(o object) (logs []float32) {
	list, _ := at(o, "choices", 0, "logprobs", "content").([]any)
	for _, l := range list {
		logs = append(logs, float32(at(l, "logprob").(float64)))
	}
	return logs
}

func same(a, b []float32) bool { return len(a) > 0 && fmt.Sprint(a) == fmt.Sprint(b) }
