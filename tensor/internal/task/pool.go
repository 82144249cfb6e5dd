// Package task has what operations that run in pieces are made of: goroutines that share the pieces,
// matrices without headers, rows, and what is kept between calls so that nothing is allocated.
package task

import (
	"math"
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
	maxJobs   = 16 // jobs that workers can see at once; a caller beyond them works alone
	maxRanges = 64 // ranges of a job; more threads share them

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
	taken  atomic.Bool         // belongs to a caller
	left   atomic.Int64        // pieces not finished
	quota  atomic.Int32        // workers that may still join
	parts  atomic.Int32        // ranges in use
	task   Task                // written before the ranges, read only by who owns a piece
	failed atomic.Pointer[any] // what a piece panicked with
	wait   atomic.Bool         // the caller is parked
	done   chan struct{}
	_      [64]byte
	ranges [maxRanges]pieces
}

// pieces is a range of pieces not yet taken, from next to end: next<<32 | end. It is one word, and
// empty in a slot without a job, so that a late worker takes a piece of the present job or none.
type pieces struct {
	atomic.Uint64
	_ [56]byte // of a cache line
}

// first takes the range's first piece.
func (r *pieces) first() (piece int, ok bool) {
	for {
		s := r.Load()
		if s>>32 >= s&math.MaxUint32 {
			return 0, false
		}
		if r.CompareAndSwap(s, s+1<<32) {
			return int(s >> 32), true
		}
	}
}

// last takes the range's last piece.
func (r *pieces) last() (piece int, ok bool) {
	for {
		s := r.Load()
		if s>>32 >= s&math.MaxUint32 {
			return 0, false
		}
		if r.CompareAndSwap(s, s-1) {
			return int(s&math.MaxUint32) - 1, true
		}
	}
}

// len returns the number of pieces.
func (r *pieces) len() int {
	s := r.Load()
	return max(int(s&math.MaxUint32)-int(s>>32), 0)
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
	parts := min(threads, maxRanges)
	j.parts.Store(int32(parts))
	for i := range parts {
		j.ranges[i].Store(uint64(i*n/parts)<<32 | uint64((i+1)*n/parts))
	}
	p.published.Add(1)
	for range min(int(p.sleeping.Load()), threads-1) {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}

	for j.open() { // again only after a panic
		j.help(0)
	}
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
	failed := j.failed.Swap(nil)
	meter.end(began, threads)
	j.taken.Store(false)
	if failed != nil {
		panic(*failed)
	}
}

// help is work until a piece panics, which it notes.
func (j *job) help(own int) {
	defer j.note()
	began := meter.begin()
	j.work(own)
	meter.worked(began)
}

// note, deferred, recovers a piece's panic.
func (j *job) note() {
	if r := recover(); r != nil {
		value := r // of its own: r's would be allocated at every call
		j.failed.CompareAndSwap(nil, &value)
		j.finish()
	}
}

// finish counts a piece as done.
func (j *job) finish() {
	if j.left.Add(-1) == 0 && j.wait.Load() {
		select {
		case j.done <- struct{}{}:
		default: // a token is there already
		}
	}
}

// work runs pieces until none is left to take, those of a range of its own first.
func (j *job) work(own int) {
	for {
		piece, ok := j.ranges[own].first()
		if !ok {
			if piece, ok = j.steal(); !ok {
				return
			}
		}
		j.task.Run(piece)
		j.finish()
	}
}

// steal takes a piece of the longest range.
func (j *job) steal() (piece int, ok bool) {
	for {
		longest, most := 0, 0
		for i := range int(j.parts.Load()) {
			if n := j.ranges[i].len(); n > most {
				longest, most = i, n
			}
		}
		if most == 0 {
			return 0, false
		}
		if piece, ok = j.ranges[longest].last(); ok {
			return piece, true
		}
	}
}

// open reports whether there are pieces to take.
func (j *job) open() bool {
	for i := range int(j.parts.Load()) {
		if j.ranges[i].len() > 0 {
			return true
		}
	}
	return false
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
	for {
		seen := p.published.Load()
		for i := range p.jobs {
			j := &p.jobs[i]
			if j.open() && j.quota.Add(-1) >= 0 {
				j.help(id % int(max(j.parts.Load(), 1)))
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
