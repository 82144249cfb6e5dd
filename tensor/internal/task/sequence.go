package task

import (
	"runtime"
	"sync/atomic"
	"time"

	"microrwkv/tensor/internal/freelist"
)

// Step is an operation of a Sequence. End gives back what it holds, when the sequence is done.
type Step interface {
	Task
	End()
}

// maxSteps is how many operations a Sequence takes.
const maxSteps = 12

// Sequence is operations one after the other, each of which may read all that those before it wrote. The
// threads are called once for all of them, and from one to the next they only wait for each other: a start
// saved is a call of every thread saved.
type Sequence struct {
	steps  [maxSteps]step
	n      int
	work   int
	failed atomic.Bool // a piece panicked
}

// step is an operation and the pieces of it that aren't taken.
type step struct {
	task   Step
	n      int
	_      [64]byte
	left   atomic.Int64 // pieces not finished
	_      [56]byte     // of a cache line
	shares shares
}

var sequences = freelist.New[Sequence]()

// NewSequence returns an empty sequence; Run gives it back.
func NewSequence() *Sequence { return sequences.Get() }

// Full reports whether no further operation fits.
func (s *Sequence) Full() bool { return s.n == maxSteps }

// Add adds an operation of n pieces and as many multiplications as work says, see Spread.
func (s *Sequence) Add(n, work int, t Step) {
	s.steps[s.n].task, s.steps[s.n].n = t, n
	s.work += work
	s.n++
}

// Run runs the operations and their Ends, and gives the sequence back. A panic of a piece goes on here.
func (s *Sequence) Run() {
	defer s.end()
	threads := min(Threads(), maxRanges)
	if threads == 1 || s.work < MinSpread {
		for i := range s.n {
			for p := range s.steps[i].n {
				s.steps[i].task.Run(p)
			}
		}
		return
	}
	if s.n == 1 {
		Parallel(s.steps[0].n, s.steps[0].task)
		return
	}
	for i := range s.n {
		st := &s.steps[i]
		st.left.Store(int64(st.n))
		st.shares.cut(st.n, threads)
	}
	Parallel(threads, (*participants)(s))
}

func (s *Sequence) end() {
	for i := range s.n {
		st := &s.steps[i]
		st.task.End()
		st.task = nil
		for s.failed.Load() { // drop what is left
			if _, ok := st.shares.take(0); !ok {
				break
			}
		}
	}
	s.n, s.work = 0, 0
	s.failed.Store(false)
	sequences.Put(s)
}

// participants is a Sequence as a task with a piece for each thread. One that comes late, or never, costs
// nothing but its help: the others take its pieces.
type participants Sequence

// Run takes pieces of all operations, those of range own first.
func (s *participants) Run(own int) {
	ok := false
	defer func() {
		if !ok {
			s.failed.Store(true) // others mustn't wait for the piece that panicked
		}
	}()
	thread := threadID()
	for i := range s.n {
		st := &s.steps[i]
		if !s.wait(st, own, st.run(own, thread)) {
			break
		}
	}
	ok = true
}

// run runs pieces of the step until none is left to take. It returns how long pieces take, 0 if that isn't known.
func (st *step) run(own int, thread uint32) time.Duration {
	done := int64(0)
	r := &st.shares.ranges[own].runner
	r.enter(thread)
	defer r.leave(thread)
	began := time.Now()
	for {
		piece, ok := st.shares.take(own)
		if !ok {
			break
		}
		st.task.Run(piece)
		done++
	}
	if done == 0 {
		return 0
	}
	st.left.Add(-done)
	return time.Since(began) / time.Duration(done)
}

// wait waits for the step's end; it reports false if that won't come.
func (s *participants) wait(st *step, own int, piece time.Duration) bool {
	if st.left.Load() == 0 {
		return true
	}
	began := meter.begin()
	defer meter.waited(began)
	for spin := (spinner{shares: &st.shares, own: own, lend: own == 0, piece: piece}); st.left.Load() > 0; {
		if s.failed.Load() {
			return false
		}
		if !spin.again() { // a thread was stopped in the middle of a piece: it may need this one's CPU
			runtime.Gosched()
			time.Sleep(10 * time.Microsecond)
		}
	}
	return true
}
