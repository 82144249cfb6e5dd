package task

import (
	"sync/atomic"
	"time"
)

// Usage is how the threads' time passed while it was measured.
type Usage struct {
	Starts   int64         // operations that went to several threads
	Inside   time.Duration // from their starts to their ends, as their callers saw it
	Capacity time.Duration // the same, times the threads of each
	Working  time.Duration // that threads ran pieces, and looked for them
}

// Waiting is the time that threads of operations had nothing to do: before they came, after their last
// piece, or because the system ran something else.
func (u Usage) Waiting() time.Duration { return max(u.Capacity-u.Working, 0) }

// meters are the sums of Usage, counted while on.
type meters struct {
	on                                atomic.Bool
	starts, inside, capacity, working atomic.Int64
}

var meter meters

// Measure runs f and returns how the threads' time passed meanwhile. Otherwise nothing is counted, which
// costs a start two reads of a word that nobody writes. One Measure runs at a time.
func Measure(f func()) Usage {
	m := &meter
	for _, c := range []*atomic.Int64{&m.starts, &m.inside, &m.capacity, &m.working} {
		c.Store(0)
	}
	m.on.Store(true)
	defer m.on.Store(false)
	f()
	return Usage{m.starts.Load(), time.Duration(m.inside.Load()), time.Duration(m.capacity.Load()), time.Duration(m.working.Load())}
}

// begin returns the time, the zero one if nothing is measured.
func (m *meters) begin() time.Time {
	if m.on.Load() {
		return time.Now()
	}
	return time.Time{}
}

// end counts an operation of some threads.
func (m *meters) end(began time.Time, threads int) {
	if !began.IsZero() {
		d := int64(time.Since(began))
		m.starts.Add(1)
		m.inside.Add(d)
		m.capacity.Add(d * int64(threads))
	}
}

// worked counts a thread's part of one.
func (m *meters) worked(took time.Duration) {
	if m.on.Load() {
		m.working.Add(int64(took))
	}
}

// waited takes back what worked counts of a time in which a thread had nothing to do.
func (m *meters) waited(began time.Time) {
	if !began.IsZero() {
		m.working.Add(-int64(time.Since(began)))
	}
}
