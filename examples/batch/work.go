package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"sync"

	"microrwkv/rwkv/serve"
)

// shard is a flag: part i of n.
type shard struct{ i, n int }

func (s *shard) String() string { return "" }

func (s *shard) Set(v string) error {
	var rest string
	if n, _ := fmt.Sscanf(v, "%d/%d%s", &s.i, &s.n, &rest); n != 2 || s.n < 1 || s.i < 0 || s.i >= s.n {
		return errors.New("want i/n with i from 0 to n-1")
	}
	return nil
}

// request is where a line of the input is.
type request struct {
	id       string
	from     int64
	len, row int
}

// maxLine is how long a line may be.
const maxLine = 64 << 20

// index finds the requests of a shard. All lines must have ids, another each.
func index(in io.Reader, s shard) (list []request, err error) {
	r := bufio.NewReaderSize(in, 1<<20)
	ids := map[string]int{}
	at := int64(0)
	for row, n := 1, 0; ; row++ {
		line, err := r.ReadBytes('\n')
		if len(line) > maxLine {
			return nil, fmt.Errorf("line %d has more than %d bytes", row, maxLine)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			var q struct {
				ID string `json:"custom_id"`
			}
			if err := json.Unmarshal(line, &q); err != nil {
				return nil, fmt.Errorf("line %d: %w", row, err)
			}
			if q.ID == "" {
				return nil, fmt.Errorf("line %d: no custom_id", row)
			}
			if other, ok := ids[q.ID]; ok {
				return nil, fmt.Errorf("line %d: custom_id %q is line %d's", row, q.ID, other)
			}
			ids[q.ID] = row
			if s.n == 0 || n%s.n == s.i {
				list = append(list, request{q.ID, at, len(line), row})
			}
			n++
		}
		at += int64(len(line))
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// openResults opens the file of results, and returns the ids of those it has. A last line that a stop cut
// short is cut off.
func openResults(path string) (f *os.File, done map[string]bool, err error) {
	if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = fmt.Errorf("%s: %w", path, err)
		}
	}()
	done = map[string]bool{}
	r := bufio.NewReaderSize(f, 1<<20)
	whole := int64(0)
	for row := 1; ; row++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		var q struct {
			ID string `json:"custom_id"`
		}
		if err := json.Unmarshal(line, &q); err != nil || q.ID == "" {
			return nil, nil, fmt.Errorf("line %d isn't a result", row)
		}
		done[q.ID] = true
		whole += int64(len(line))
	}
	if err = f.Truncate(whole); err == nil {
		_, err = f.Seek(whole, io.SeekStart)
	}
	return f, done, err
}

// work is what is to be done.
type work struct {
	server *serve.Server
	in     io.ReaderAt
	out    io.Writer
	name   string
	todo   []request
	atOnce int
	mu     sync.Mutex // of the next
	failed int
}

// result is a line of the output.
type result struct {
	ID       string          `json:"id"`
	CustomID string          `json:"custom_id"`
	Response *response       `json:"response"`
	Error    json.RawMessage `json:"error"`
}

type response struct {
	Status    int             `json:"status_code"`
	RequestID string          `json:"request_id"`
	Body      json.RawMessage `json:"body"`
}

// run answers all that is to do, until ctx ends or the output can't be written.
func (w *work) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan request)
	var workers sync.WaitGroup
	for range max(1, min(w.atOnce, len(w.todo))) {
		workers.Go(func() {
			for r := range next {
				if err := w.answer(ctx, r); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for _, r := range w.todo {
		select {
		case next <- r:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// answer answers a request and writes the result, as one line at once.
func (w *work) answer(ctx context.Context, r request) error {
	line := make([]byte, r.len)
	if _, err := w.in.ReadAt(line, r.from); err != nil && err != io.EOF {
		return err
	}
	a := w.ask(ctx, r, line)
	if ctx.Err() != nil {
		return ctx.Err() // it will be answered the next time
	}
	b, err := json.Marshal(result{ID: "batch_req_" + a.RequestID, CustomID: r.id, Response: a, Error: json.RawMessage("null")})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.Status != http.StatusOK {
		w.failed++
	}
	_, err = w.out.Write(append(b, '\n'))
	return err
}

// ask has the server answer a request.
func (w *work) ask(ctx context.Context, r request, line []byte) *response {
	var q struct {
		Method, URL string
		Body        map[string]json.RawMessage
	}
	bad := func(format string, args ...any) *response {
		b, _ := json.Marshal(map[string]any{"error": map[string]any{"message": fmt.Sprintf(format, args...), "type": "invalid_request_error"}})
		return &response{http.StatusBadRequest, fmt.Sprint(r.row), b}
	}
	if err := json.Unmarshal(line, &q); err != nil {
		return bad("%v", err)
	}
	switch q.URL {
	case "/v1/chat/completions", "/v1/completions", "/v1/score":
	default:
		return bad("url %q: want /v1/chat/completions, /v1/completions or /v1/score", q.URL)
	}
	if q.Body == nil || q.Method != http.MethodPost {
		return bad("want method POST and a body")
	}
	var name string
	if json.Unmarshal(q.Body["model"], &name); w.name != "" && name != w.name {
		return bad("model %q: want %q", name, w.name)
	}
	q.Body["model"], q.Body["stream"] = json.RawMessage(`"model"`), json.RawMessage("false")
	if s := string(q.Body["seed"]); s == "" || s == "null" { // the same file again gives the same results
		h := fnv.New64a()
		io.WriteString(h, r.id)
		q.Body["seed"] = json.RawMessage(fmt.Sprint(h.Sum64()))
	}
	b, err := json.Marshal(q.Body)
	if err != nil {
		return bad("%v", err)
	}
	hr, err := http.NewRequestWithContext(ctx, q.Method, q.URL, bytes.NewReader(b))
	if err != nil {
		return bad("%v", err)
	}
	hr.Header.Set("Content-Type", "application/json")
	a := &recorder{header: http.Header{}}
	w.server.ServeHTTP(a, hr)
	return &response{a.code, a.header.Get("X-Request-Id"), bytes.TrimSpace(a.body.Bytes())}
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(code int) { r.code = code }

func (r *recorder) Write(b []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	return r.body.Write(b)
}
