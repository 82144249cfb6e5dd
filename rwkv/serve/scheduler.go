package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"microrwkv/rwkv"
)

// scheduler runs the requests of a model in one batch, which one goroutine owns. A step makes a token
// of each running text and reads as much of prompts as fits into the step's budget.
type scheduler struct {
	e      *engine
	wake   chan struct{} // has room for one
	ended  chan struct{}
	mu     sync.Mutex // of the next
	queue  queue
	load   int            // texts that were taken and haven't ended
	owners map[string]int // jobs of each owner that haven't
	pace   time.Duration  // a job takes, about

	// Of the goroutine alone:
	batch   *rwkv.Batch
	running []*task
	stalled []*task                   // whose clients are waited for
	cache   *lru[prefix, *rwkv.State] // after beginnings of prompts; they never change
	reading map[prefix]*job           // the prompts that are read
	decode  float64                   // seconds of a step without prompts, about
	rate    float64                   // seconds of a prompt's token in a step, about
}

// turn is how many tokens a text makes, or of a prompt are read, before those that wait go on.
const turn = 64

func newScheduler(e *engine) *scheduler {
	return &scheduler{e: e, wake: make(chan struct{}, 1), ended: make(chan struct{}), owners: map[string]int{},
		batch: e.model.NewBatch(), cache: newLRU[prefix, *rwkv.State](e.server.config.StateRAM / 2), reading: map[prefix]*job{}}
}

// signal lets the goroutine look again.
func (s *scheduler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// submit takes jobs, all or none.
func (s *scheduler) submit(jobs ...*job) error {
	c := &s.e.server.config
	texts := 0
	for _, j := range jobs {
		texts += j.n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := jobs[0].owner
	full := s.load > 0 && s.load+texts > c.MaxBatch+c.MaxQueue
	if full || s.owners[owner] > 0 && s.owners[owner]+len(jobs) > c.PerKey {
		message := "the queue is full"
		if !full {
			message = "the key has too many requests at a time"
		}
		return &Error{Status: 429, Code: "queue_full", Message: message, RetryAfter: s.queued()}
	}
	s.load += texts
	s.owners[owner] += len(jobs)
	for _, j := range jobs {
		j.begin, j.left = time.Now(), j.n
		j.out.drained = s.signal
		context.AfterFunc(j.ctx, s.signal)
		s.queue.push(&task{job: j, prompt: true})
	}
	s.signal()
	return nil
}

// wait returns after how many seconds to come again, by the work that is queued.
func (s *scheduler) wait() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued()
}

func (s *scheduler) queued() int {
	wait := 1 + int(s.pace.Seconds()*float64(s.load)/float64(s.e.server.config.MaxBatch))
	return min(wait, 60)
}

// loop runs until the server stops.
func (s *scheduler) loop() {
	defer close(s.ended)
	for s.e.server.ctx.Err() == nil {
		s.tidy()
		s.admit()
		s.gauge()
		if len(s.running) == 0 {
			select {
			case <-s.wake:
			case <-s.e.server.ctx.Done():
			}
			continue
		}
		s.step()
	}
}

// gauge tells how much there is to do.
func (s *scheduler) gauge() {
	s.mu.Lock()
	waiting := s.queue.len
	s.mu.Unlock()
	s.e.server.metrics.queue.WithLabelValues(s.e.name).Set(float64(waiting))
	s.e.server.metrics.running.WithLabelValues(s.e.name).Set(float64(len(s.running)))
}

// tidy lets go what nobody waits for any more, and makes room for those that wait.
func (s *scheduler) tidy() {
	gone := func(t *task) bool { return t.job.ctx.Err() != nil }
	s.mu.Lock()
	removed := s.queue.remove(gone)
	waiting := s.queue.len
	s.mu.Unlock()
	for _, list := range []*[]*task{&s.running, &s.stalled} {
		*list = slices.DeleteFunc(*list, func(t *task) bool {
			if gone(t) {
				removed = append(removed, t)
				return true
			}
			return false
		})
	}
	for _, t := range removed {
		if t.seq != nil {
			s.batch.Remove(t.seq)
		}
		s.end(t.job, true)
	}
	s.stalled = slices.DeleteFunc(s.stalled, func(t *task) bool {
		if t.job.out.full() {
			return false
		}
		s.put(t)
		return true
	})
	s.running = slices.DeleteFunc(s.running, func(t *task) bool {
		slow := t.job.out.full()
		late := waiting > 0 && t.turn >= turn
		if !slow && !late {
			return false
		}
		t.seq.Pause(true)
		if slow {
			s.stalled = append(s.stalled, t)
			return true
		}
		waiting--
		s.put(t)
		return true
	})
}

// put lets a task wait.
func (s *scheduler) put(t *task) {
	s.mu.Lock()
	s.queue.push(t)
	s.mu.Unlock()
}

// end counts a text of the job as ended, or all that are left.
func (s *scheduler) end(j *job, all bool) {
	if j.ended {
		return
	}
	n := 1
	if all {
		n = j.left
		why := "client"
		switch cause := context.Cause(j.ctx); {
		case errors.Is(cause, errTimeout):
			why = "timeout"
		case errors.Is(cause, errDraining):
			why = "drain"
		case cause == nil:
			why = "error"
		}
		s.e.server.metrics.cancelled.WithLabelValues(why).Inc()
	}
	j.left -= n
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load -= n
	if j.left == 0 {
		j.ended = true
		s.wasRead(j)
		if s.owners[j.owner]--; s.owners[j.owner] == 0 {
			delete(s.owners, j.owner)
		}
		s.pace = (s.pace*7 + time.Since(j.begin)) / 8
	}
}

// admit fills the free places of the batch.
func (s *scheduler) admit() {
	for len(s.running) < s.e.server.config.MaxBatch {
		s.mu.Lock()
		t := s.queue.pop(func(t *task) bool {
			// the same prompt is read once
			return !t.prompt || t.seq != nil || t.job.base != nil || t.job.scores || s.reading[s.keyOf(t.job)] == nil
		})
		s.mu.Unlock()
		if t == nil {
			return
		}
		t.turn = 0
		if t.seq != nil {
			t.seq.Pause(false)
			s.running = append(s.running, t)
			continue
		}
		if err := s.read(t); err != nil {
			s.fail(t.job, err)
		}
	}
}

// wasRead lets others with the same prompt go on.
func (s *scheduler) wasRead(j *job) {
	if s.reading[j.key] == j {
		delete(s.reading, j.key)
	}
}

// keyOf returns the prefix that is a job's whole prompt.
func (s *scheduler) keyOf(j *job) prefix {
	if j.key == (prefix{}) && len(j.parts) > 0 {
		all := prefixes(j.owner, j.parts)
		j.key = all[len(all)-1]
	}
	return j.key
}

// read begins to read a prompt, after what the cache has of it.
func (s *scheduler) read(t *task) error {
	j := t.job
	state, parts := j.base, j.parts
	size := s.e.model.Config().BlockSize
	if !s.e.model.Streams() && len(parts) > 1 {
		parts = [][]int{slices.Concat(parts...)} // each piece would compute all again
	}
	t.marks = map[int]prefix{}
	if cut := size > 0 && count(parts) > size; state == nil && !cut {
		all := prefixes(j.owner, parts)
		n := len(parts)
		for n > 0 && (j.scores || s.cache.get(all[n-1]) == nil) { // only what is read can be scored
			n--
		}
		if n > 0 {
			state = s.cache.get(all[n-1]).Clone()
			j.cached = count(parts[:n])
			s.e.server.metrics.hits.Inc()
		}
		for i := n; i < len(parts); i++ {
			t.marks[count(parts[i+1:])] = all[i]
		}
		parts = parts[n:]
	}
	s.e.server.metrics.prompt.WithLabelValues("true").Add(float64(j.cached))
	s.e.server.metrics.prompt.WithLabelValues("false").Add(float64(count(parts)))
	if state == nil {
		state = s.e.model.NewState()
	}
	if len(parts) == 0 {
		return s.write(j, state, nil)
	}
	options := []rwkv.Option{rwkv.MaxTokens(0)}
	if s.e.model.Streams() {
		options = append(options, rwkv.PromptChunks(chunks(parts)...))
	}
	if j.scores {
		options = append(options, rwkv.PromptLogProbs(j.top))
	}
	if len(t.marks) > 0 {
		options = append(options, rwkv.PromptProgress(func(done, total int) {
			if p, ok := t.marks[total-done]; ok {
				state := t.seq.Fork()
				s.cache.put(p, state, int64(state.Size()))
			}
		}))
	}
	var err error
	if t.seq, err = s.batch.AddState(state, slices.Concat(parts...), nil, options...); err != nil {
		return err
	}
	if j.base == nil && !j.scores {
		s.reading[s.keyOf(j)] = j
	}
	s.running = append(s.running, t)
	return nil
}

// write begins a job's texts after its prompt, whose tokens are told if they were scored.
func (s *scheduler) write(j *job, state *rwkv.State, scored []rwkv.Token) error {
	for i := range j.n {
		own := state
		if i < j.n-1 {
			own = state.Clone()
		}
		options := append(slices.Clip(j.options), rwkv.Seed(j.seed+uint64(i)))
		seq, err := s.batch.AddState(own, nil, s.e.tok, options...)
		if err != nil {
			return err
		}
		t := &task{job: j, index: j.index + i, seq: seq, last: j.begin}
		if len(scored) > 0 {
			j.out.push(event{index: t.index, prompt: scored})
		}
		switch {
		case seq.Done(): // no token is wanted
			s.tell(t)
		case i == 0: // in the prompt's place
			s.running = append(s.running, t)
		default:
			seq.Pause(true)
			s.put(t)
		}
	}
	return nil
}

// fail ends a job with an error.
func (s *scheduler) fail(j *job, err error) {
	if j.ended {
		return
	}
	j.out.push(event{err: err})
	gone := func(t *task) bool {
		if t.job != j {
			return false
		}
		if t.seq != nil {
			s.batch.Remove(t.seq)
		}
		return true
	}
	s.mu.Lock()
	s.queue.remove(gone)
	s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, gone)
	s.stalled = slices.DeleteFunc(s.stalled, gone)
	s.end(j, true)
}

// step makes a step of the batch.
func (s *scheduler) step() {
	m := s.e.server.metrics
	budget := s.e.server.config.StepBudget.Seconds()
	writing := 0
	for _, t := range s.running {
		if t.prompt {
			t.left = t.seq.PromptLeft()
		} else {
			writing++
		}
	}
	if writing > 0 {
		budget -= s.decode
	}
	tokens := 1
	if s.rate > 0 {
		tokens = max(1, int(budget/s.rate))
	}
	s.batch.SetPromptBudget(tokens)
	begin := time.Now()
	if err := s.batch.StepContext(s.e.server.ctx); err != nil {
		s.broken(err)
		return
	}
	seconds := time.Since(begin).Seconds()
	m.batch.Observe(float64(len(s.running)))
	m.step.Observe(seconds)
	read := 0
	for _, t := range s.running {
		if t.prompt {
			n := t.left - t.seq.PromptLeft()
			t.turn += n
			read += n
		}
	}
	switch {
	case read > 0:
		rest := seconds
		if writing > 0 {
			rest = max(seconds-s.decode, seconds/8)
		}
		s.rate = average(s.rate, rest/float64(read))
	case writing > 0:
		s.decode = average(s.decode, seconds)
	}
	now := s.running
	s.running = nil
	for _, t := range now {
		if s.advance(t) {
			s.running = append(s.running, t)
		}
	}
}

// average moves an average towards x.
func average(old, x float64) float64 {
	if old == 0 {
		return x
	}
	return old + (x-old)/8
}

// advance notes what a step did for a task, and reports whether it goes on.
func (s *scheduler) advance(t *task) bool {
	if !t.prompt {
		s.tell(t)
		return !t.seq.Done()
	}
	if err := t.seq.Err(); err != nil {
		s.fail(t.job, err)
		return false
	}
	if !t.seq.Done() {
		return true
	}
	s.wasRead(t.job)
	state, err := t.seq.State()
	if err == nil {
		err = s.write(t.job, state, t.seq.PromptTokens())
	}
	if err != nil {
		s.fail(t.job, err)
	}
	return false
}

// tell gives the client what is new of a text.
func (s *scheduler) tell(t *task) {
	e := event{index: t.index, text: t.seq.Piece(), tokens: slices.Clone(t.seq.Tokens()[t.told:])}
	if n := len(e.tokens); n > 0 {
		m, now := s.e.server.metrics, time.Now()
		if t.told == 0 {
			m.first.Observe(now.Sub(t.last).Seconds())
		} else {
			m.token.Observe(now.Sub(t.last).Seconds())
		}
		m.generated.Add(float64(n))
		t.last = now
		t.told += n
		t.turn += n
	}
	if t.seq.Done() {
		e.reason, e.err, e.seq = t.seq.Reason(), t.seq.Err(), t.seq
	}
	if e.text != "" || len(e.tokens) > 0 || t.seq.Done() {
		t.job.out.push(e)
	}
	if t.seq.Done() {
		s.end(t.job, false)
	}
}

// broken ends all that has begun, after an error of the model.
func (s *scheduler) broken(err error) {
	if s.e.server.ctx.Err() != nil {
		return
	}
	err = fmt.Errorf("a step: %w", err)
	s.e.server.config.Log.Error("a step failed", "model", s.e.name, "error", err.Error())
	s.mu.Lock()
	begun := s.queue.remove(func(t *task) bool { return t.seq != nil })
	s.mu.Unlock()
	begun = append(append(begun, s.running...), s.stalled...)
	s.running, s.stalled = nil, nil
	for _, t := range begun {
		s.fail(t.job, err)
	}
	s.batch = s.e.model.NewBatch()
	clear(s.reading)
}
