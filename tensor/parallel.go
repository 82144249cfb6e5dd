package tensor

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"microrwkv/tensor/internal/kernel"
)

// Task is work that splits into independent pieces. Run is called once for each piece, from
// several goroutines at once.
type Task interface {
	Run(piece int)
}

// maxThreads is what SetThreads asked for; 0 follows GOMAXPROCS.
var maxThreads atomic.Int32

// Threads returns the number of goroutines that an operation may use.
func Threads() int {
	if n := int(maxThreads.Load()); n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

// SetThreads limits the goroutines that one operation uses, the caller's own included; n ≤ 0
// follows GOMAXPROCS, as is the default. Results don't depend on it.
func SetThreads(n int) { maxThreads.Store(int32(max(n, 0))) }

// Parallel runs t.Run(0) … t.Run(n−1) on up to Threads goroutines, this one among them, and
// returns when all are done. Pieces are handed out in order, one at a time. It may be called from
// many goroutines at once, and from within a piece: a caller works on its own pieces and never
// waits for a free worker. It doesn't allocate. A panic of a piece on another goroutine ends
// the program, as any unrecovered panic does.
func Parallel(n int, t Task) {
	if n <= 1 || Threads() == 1 {
		for i := range n {
			t.Run(i)
		}
		return
	}
	workers.run(n, t)
}

const (
	maxJobs = 16 // jobs that workers can see at once; a caller beyond them works alone

	// spinTime bounds busy waiting before a goroutine parks: longer than the serial steps between
	// the operations of a layer, for waking a parked thread takes some tens of microseconds, and far
	// shorter than a token.
	spinTime = 200 * time.Microsecond
)

// pool is the persistent goroutines that help callers of Parallel.
type pool struct {
	jobs      [maxJobs]job
	published atomic.Uint32 // counts jobs, so that idle workers see a new one
	started   atomic.Int32
	sleeping  atomic.Int32
	wake      chan struct{}
	mu        sync.Mutex // starts workers
}

var workers = pool{wake: make(chan struct{}, 1024)}

// job is a slot for one call of Parallel.
type job struct {
	taken atomic.Bool   // belongs to a caller
	state atomic.Uint64 // pieces<<32 | next piece: one word, so that a late worker can't mix two jobs
	left  atomic.Int64  // pieces not finished
	quota atomic.Int32  // workers that may still join
	task  Task          // written before state, read only by who owns a piece
	wait  atomic.Bool   // the caller is parked
	done  chan struct{}
	_     [64]byte
}

func (p *pool) run(n int, t Task) {
	threads := min(n, Threads())
	if int(p.started.Load()) < threads-1 {
		p.start(threads - 1)
	}
	var j *job
	for i := range p.jobs {
		if !p.jobs[i].taken.Load() && p.jobs[i].taken.CompareAndSwap(false, true) {
			j = &p.jobs[i]
			break
		}
	}
	if j == nil {
		for i := range n {
			t.Run(i)
		}
		return
	}
	j.task = t
	j.left.Store(int64(n))
	j.quota.Store(int32(threads - 1))
	j.state.Store(uint64(n) << 32)
	p.published.Add(1)
	for range min(int(p.sleeping.Load()), threads-1) {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}

	j.work()
	for spin := (spinner{}); j.left.Load() > 0; {
		if spin.again() {
			continue
		}
		j.wait.Store(true)
		if j.left.Load() > 0 {
			<-j.done // may be a token of the slot's job before: then look again
		}
	}
	j.wait.Store(false)
	j.task = nil
	j.taken.Store(false)
}

// work runs pieces until none is left to take.
func (j *job) work() {
	for {
		s := j.state.Load()
		if uint32(s) >= uint32(s>>32) {
			return
		}
		s = j.state.Add(1) - 1
		if uint32(s) >= uint32(s>>32) {
			return
		}
		j.task.Run(int(uint32(s)))
		if j.left.Add(-1) == 0 && j.wait.Load() {
			select {
			case j.done <- struct{}{}:
			default: // a token is there already
			}
		}
	}
}

func (p *pool) start(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.jobs {
		if p.jobs[i].done == nil {
			p.jobs[i].done = make(chan struct{}, 1)
		}
	}
	for int(p.started.Load()) < n {
		p.started.Add(1)
		go p.worker()
	}
}

func (p *pool) worker() {
	for {
		seen := p.published.Load()
		for i := range p.jobs {
			j := &p.jobs[i]
			s := j.state.Load()
			if uint32(s) < uint32(s>>32) && j.quota.Add(-1) >= 0 {
				j.work()
			}
		}
		for spin := (spinner{}); p.published.Load() == seen; {
			if spin.again() {
				continue
			}
			p.sleeping.Add(1)
			if p.published.Load() == seen {
				<-p.wake
			}
			p.sleeping.Add(-1)
			break
		}
	}
}

// spinner bounds one time of busy waiting. The zero value is ready.
type spinner struct {
	turns int
	until time.Time
}

// again waits for a moment; it reports false, at once, when the time is over. Now and then it gives
// the processor away, so that goroutines that have work aren't starved when there are more of
// them than processors.
func (s *spinner) again() bool {
	if s.turns%8 == 0 {
		now := time.Now()
		if s.turns == 0 {
			s.until = now.Add(spinTime)
		} else if now.After(s.until) {
			return false
		}
		if s.turns%64 == 0 {
			runtime.Gosched()
		}
	}
	s.turns++
	kernel.Pause()
	return true
}
