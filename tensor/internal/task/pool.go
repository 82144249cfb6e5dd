// Package task has what operations that run in pieces are made of: goroutines that share the pieces,
// matrices without headers, rows, and what is kept between calls so that nothing is allocated.
package task

import (
	"runtime"
	"runtime/debug"
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

// maxThreads is what SetThreads asked for; 0 is the default.
var maxThreads atomic.Int32

// Threads returns the number of goroutines that an operation may use: what SetThreads asked for, else
// GOMAXPROCS, but not more than the process has CPUs, for goroutines that wait for each other lose by
// taking turns, nor than it has cores where the system tells (Linux), for the CPUs of a core share what
// operations are limited by.
func Threads() int {
	if n := int(maxThreads.Load()); n > 0 {
		return n
	}
	return min(runtime.GOMAXPROCS(0), usefulCPUs())
}

// usefulCPUs is how many threads can be of use at once.
var usefulCPUs = sync.OnceValue(func() int {
	if n := cores(); n > 0 {
		return min(n, runtime.NumCPU())
	}
	return runtime.NumCPU()
})

// SetThreads sets the goroutines that one operation uses, the caller's own included; n ≤ 0 is the
// default of Threads. Results don't depend on it.
func SetThreads(n int) { maxThreads.Store(int32(max(n, 0))) }

// Parallel runs t.Run(0) … t.Run(n−1) on up to Threads goroutines, this one among them, and
// returns when all are done. Each goroutine has a range of the pieces, which it does in order: the
// first range is this goroutine's, so that operations that cut their rows or columns alike find
// them in the same cache again. Who is done with its own takes pieces from the end of another's.
// Parallel may be called from many goroutines at once, and from within a piece: a caller works on its
// own pieces and never waits for a free worker. It doesn't allocate. If pieces panic, on whichever
// goroutine, Parallel panics with the value of one of them when all are done; reading memory that can't
// be read is such a panic if the caller's goroutine has set debug.SetPanicOnFault.
func Parallel(n int, t Task) {
	if n <= 1 || Threads() == 1 {
		for i := range n {
			t.Run(i)
		}
		return
	}
	workers.run(n, t)
}

// MinSpread is the multiplications, or what takes as long, that are worth a second goroutine: a few
// microseconds, some times what it takes to call one that spins.
const MinSpread = 1 << 16

// Spread is Parallel for pieces of which all together are so many multiplications.
func Spread(n, work int, t Task) {
	if work >= MinSpread {
		Parallel(n, t)
		return
	}
	for i := range n {
		t.Run(i)
	}
}

const (
	maxJobs = 16 // jobs that workers can see at once; a caller beyond them works alone

	// spinTime bounds busy waiting before a goroutine parks: longer than the serial steps between
	// the operations of a layer, for waking a parked thread takes some tens of microseconds, and far
	// shorter than a token.
	spinTime = 200 * time.Microsecond

	// yieldTime is how long a goroutine waits, busy, before others that may be ready get its processor:
	// longer than most waits.
	yieldTime = 10 * time.Microsecond
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
	taken  atomic.Bool         // belongs to a caller
	left   atomic.Int64        // pieces not finished
	quota  atomic.Int32        // workers that may still join
	task   Task                // written before the shares, read only by who owns a piece
	failed atomic.Pointer[any] // what a piece panicked with
	wait   atomic.Bool         // the caller is parked
	done   chan struct{}
	_      [64]byte
	shares shares
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
	began := meter.begin()
	j.task = t
	j.left.Store(int64(n))
	j.quota.Store(int32(threads - 1))
	j.shares.cut(n, min(threads, maxRanges))
	p.published.Add(1)
	for range min(int(p.sleeping.Load()), threads-1) {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}

	spin := spinner{shares: &j.shares, lend: true}
	for j.shares.open() { // again only after a panic
		spin.piece = j.help(0, threadID())
	}
	for j.left.Load() > 0 {
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
	failed := j.failed.Swap(nil)
	meter.end(began, threads)
	j.taken.Store(false)
	if failed != nil {
		panic(*failed)
	}
}

// help is work until a piece panics, which it notes. It returns how long pieces take, 0 if that isn't known.
func (j *job) help(own int, thread uint32) time.Duration {
	var done int64
	defer j.note(&done, own, thread)
	j.shares.ranges[own].runner.enter(thread)
	began := time.Now()
	j.work(own, &done)
	took := time.Since(began)
	meter.worked(took)
	if done == 0 {
		return 0
	}
	if _, ok := j.task.(*participants); ok { // all that others have to do is to leave
		return 0
	}
	return took / time.Duration(done)
}

// note, deferred, recovers a piece's panic and counts the pieces that are done.
func (j *job) note(done *int64, own int, thread uint32) {
	defer j.shares.ranges[own].runner.leave(thread)
	if r := recover(); r != nil {
		value := r // of its own: r's would be allocated at every call
		j.failed.CompareAndSwap(nil, &value)
		*done++
	}
	if *done > 0 && j.left.Add(-*done) == 0 && j.wait.Load() {
		select {
		case j.done <- struct{}{}:
		default: // a token is there already
		}
	}
}

// work runs pieces until none is left to take, those of a range of its own first. It counts them in done, and
// not in left at each, which all threads write.
func (j *job) work(own int, done *int64) {
	for {
		piece, ok := j.shares.take(own)
		if !ok {
			return
		}
		j.task.Run(piece)
		*done++
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
		go p.worker(int(p.started.Add(1)))
	}
}

// worker is the goroutine of number id, from 1.
func (p *pool) worker(id int) {
	debug.SetPanicOnFault(true)
	thread := threadID()
	for {
		seen := p.published.Load()
		var spin spinner
		for i := range p.jobs {
			j := &p.jobs[i]
			if j.shares.open() && j.quota.Add(-1) >= 0 {
				own := j.shares.own(id)
				spin = spinner{shares: &j.shares, own: own, piece: j.help(own, thread)}
			}
		}
		for p.published.Load() == seen {
			if spin.again() {
				continue
			}
			p.sleeping.Add(1)
			if p.published.Load() == seen {
				<-p.wake
			}
			p.sleeping.Add(-1)
			spin.yielded = true
			break
		}
		if spin.yielded { // a goroutine may go on in another thread
			thread = threadID()
		}
	}
}

// spinner bounds one time of busy waiting. The zero value is ready.
type spinner struct {
	turns                   int
	until, yield, impatient time.Time
	yielded                 bool // the processor, at least once

	// Of one that waits for other threads, which run pieces of shares, not of range own: see fetch. shares is nil where
	// it isn't known who is waited for.
	shares     *shares
	own        int
	piece      time.Duration // how long one takes
	patience   time.Duration // how long it waits for one, set when it begins to
	lend, lent bool
}

// again waits for a moment; it reports false, at once, when the time is over. Now and then it gives
// the processor away, so that goroutines that have work aren't starved when there are more of
// them than processors: rarely, for that takes a lock that all processors share.
func (s *spinner) again() bool {
	if s.turns%8 == 0 {
		now := time.Now()
		switch {
		case s.turns == 0:
			if s.patience = max(leastPatience, 2*s.piece); s.patience > mostPatience {
				s.shares, s.patience = nil, 0
			}
			s.until, s.yield, s.impatient = now.Add(max(spinTime, 2*s.patience)), now.Add(yieldTime), now.Add(s.patience)
		case s.shares != nil && now.After(s.impatient):
			s.impatient = now.Add(s.patience)
			s.lent = s.shares.fetch(s.own, s.lend) && s.lend
		case now.After(s.until):
			return false
		case now.After(s.yield):
			runtime.Gosched()
			s.yield, s.yielded = now.Add(yieldTime), true
		}
	}
	s.turns++
	if s.lent {
		yieldCPU()
	} else {
		kernel.Pause()
	}
	return true
}
