package task

import (
	"sync/atomic"
	"time"
)

// When another process wants a CPU, the system takes it from a thread in the middle of a piece, for some
// milliseconds, and all threads of the operation wait for that piece; the system leaves them where they are. So
// a thread that has waited for longer than a piece takes gives its own CPU to the stopped one (a directed yield):
// it moves that one to its CPU, and lets it run.

// runner is the thread that runs pieces of a range: 0 or its number for the system, and above that, once another
// thread has given it its CPU, the place where it goes when it has no pieces left.
type runner struct{ atomic.Uint64 }

const (
	runnerBits = 32
	runnerMask = 1<<runnerBits - 1

	// stays is the place of a thread that needn't go anywhere, others are the number of a CPU plus 1.
	stays = 1<<31 - 1
)

// enter notes that a thread begins to run pieces.
func (r *runner) enter(thread uint32) { r.Store(uint64(thread)) }

// leave notes that it has no more of them to run. If another thread lent it its CPU, it goes back.
func (r *runner) leave(thread uint32) {
	for v := r.Load(); thread != 0 && v&runnerMask == uint64(thread); v = r.Load() {
		if !r.CompareAndSwap(v, 0) {
			continue // it was given a CPU just now
		}
		if place := v >> runnerBits; place != 0 && place != stays {
			goTo(uint(place - 1))
		}
		return
	}
}

// fetch gives the calling thread's CPU, for which it has no pieces left, to a thread that is in the middle of one, not of
// range own. If lend, it gets it back at that piece's end and lets the other run until then, else it goes where that
// thread was. It reports whether there was such a thread.
func (s *shares) fetch(own int, lend bool) bool {
	for i := range int(s.parts.Load()) {
		r := &s.ranges[i].runner
		v := r.Load()
		if i == own || v == 0 || v>>runnerBits != 0 {
			continue
		}
		from, ok := bringHere(uint32(v), func(from uint) bool {
			place := uint64(stays)
			if lend {
				place = uint64(from + 1)
			}
			return r.CompareAndSwap(v, v|place<<runnerBits)
		})
		if ok && !lend {
			goTo(from)
		}
		return ok
	}
	return false
}

// Who waits for others is patient for twice as long as its own pieces took, within these limits: the first is longer
// than most waits; where pieces take so long as the second says, a stopped thread costs little beside them.
const (
	leastPatience = 100 * time.Microsecond
	mostPatience  = 2 * time.Millisecond
)
