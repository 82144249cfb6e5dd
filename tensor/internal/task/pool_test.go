package task

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// onThreads lets operations use n threads, also where there are fewer CPUs, until restored.
func onThreads(n int) (restore func()) {
	before := runtime.GOMAXPROCS(n)
	SetThreads(n)
	return func() {
		runtime.GOMAXPROCS(before)
		SetThreads(0)
	}
}

// countTask counts how often each piece ran.
type countTask struct {
	ran   []atomic.Int32
	inner int // pieces of a nested call
}

func (c *countTask) Run(i int) {
	c.ran[i].Add(1)
	if c.inner > 0 {
		nested := &countTask{ran: make([]atomic.Int32, c.inner)}
		Parallel(c.inner, nested)
		for i := range nested.ran {
			if nested.ran[i].Load() != 1 {
				panic("nested piece not run once")
			}
		}
	}
}

func check(t *testing.T, n, inner int) {
	t.Helper()
	c := &countTask{ran: make([]atomic.Int32, n), inner: inner}
	Parallel(n, c)
	for i := range c.ran {
		if got := c.ran[i].Load(); got != 1 {
			t.Errorf("n=%d: piece %d ran %d times", n, i, got)
		}
	}
}

func TestParallelRunsEachPieceOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		defer onThreads(threads)()
		for n := range 70 {
			check(t, n, 0)
		}
		check(t, 5, 7)
	}
}

// More callers than job slots, some nesting, for long enough that slots are reused and both
// callers and workers park.
func TestParallelConcurrentCallers(t *testing.T) {
	defer onThreads(4)()
	var wg sync.WaitGroup
	for g := range 2 * maxJobs {
		wg.Go(func() {
			for i := range 300 {
				check(t, 1+(g*7+i)%40, i%3)
			}
		})
	}
	wg.Wait()
}

func TestSetThreads(t *testing.T) {
	defer SetThreads(0)
	SetThreads(3)
	if got := Threads(); got != 3 {
		t.Errorf("Threads() = %d after SetThreads(3)", got)
	}
	SetThreads(-1)
	for _, procs := range []int{1, 2, 2 * runtime.NumCPU()} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		if got, want := Threads(), min(procs, runtime.NumCPU()); got != want {
			t.Errorf("Threads() = %d with %d processors of Go and %d CPUs, want %d", got, procs, runtime.NumCPU(), want)
		}
	}
}

func TestParallelDoesNotAllocate(t *testing.T) {
	c := &countTask{ran: make([]atomic.Int32, 16)}
	if n := testing.AllocsPerRun(100, func() { Parallel(16, c) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// emptyTask has no work, so that a benchmark times the dispatch.
type emptyTask struct{}

func (emptyTask) Run(int) {}

func BenchmarkParallel(b *testing.B) {
	for b.Loop() {
		Parallel(8, emptyTask{})
	}
}

// empty is a task that does nothing.
type empty struct{}

func (empty) Run(int) {}

// TestPoolDoesNotAllocate looks at the way over several goroutines, which AllocsPerRun, on one, never
// takes.
func TestPoolDoesNotAllocate(t *testing.T) {
	defer onThreads(2)()
	task := &empty{}
	run := func(n int) {
		for range n {
			Parallel(8, task)
		}
	}
	run(100) // the workers start
	const calls = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(calls)
	runtime.ReadMemStats(&after)
	// The runtime allocates a little of its own now and then, for parked goroutines.
	if n := after.Mallocs - before.Mallocs; n > calls/20 {
		t.Errorf("%d calls allocate %d times", calls, n)
	}
}

// failing panics in some pieces.
type failing struct{ ran atomic.Int32 }

func (f *failing) Run(i int) {
	f.ran.Add(1)
	if i%3 == 1 {
		panic("as asked")
	}
}

// TestPanicReachesTheCaller, from whichever goroutine, when all pieces have run; the pool works on.
func TestPanicReachesTheCaller(t *testing.T) {
	defer onThreads(4)()
	for range 200 {
		f := &failing{}
		func() {
			defer func() {
				if r := recover(); r != "as asked" {
					t.Errorf("the caller recovers %v", r)
				}
			}()
			Parallel(16, f)
		}()
		if n := f.ran.Load(); n != 16 {
			t.Fatalf("%d pieces ran, want 16", n)
		}
	}
	check(t, 16, 0)
}
