package task

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestProcessor(t *testing.T) {
	const rest = " R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35"
	for _, c := range []struct {
		stat string
		cpu  uint
		ok   bool
	}{
		{"12 (a b) R) (c)" + rest + " 17 0 0\n", 17, true},
		{"12 (test)" + rest + " 0\n", 0, true},
		{"12 (test)" + rest, 0, false},
		{"12 (test)" + rest + " ", 0, false},
		{"", 0, false},
		{"12 (test", 0, false},
	} {
		if cpu, ok := processor([]byte(c.stat)); cpu != c.cpu || ok != c.ok {
			t.Errorf("%q: CPU %d, %v; want %d, %v", c.stat, cpu, ok, c.cpu, c.ok)
		}
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if cpu, ok := processor(stat); !ok || !allowedHere(t, uint32(syscall.Getpid())).has(cpu) {
		t.Errorf("%q: CPU %d, %v", stat, cpu, ok)
	}
}

func allowedHere(t *testing.T, thread uint32) *cpuSet {
	t.Helper()
	moving.Lock()
	defer moving.Unlock()
	s, ok := affinity(thread)
	if !ok {
		t.Fatalf("thread %d: the system doesn't tell its CPUs", thread)
	}
	return &s
}

// busyThread is a thread in the middle of a piece of s, until it is told to end.
type busyThread struct {
	id    uint32
	end   atomic.Bool
	done  chan struct{}
	after cpuSet // what it may use at its end
}

// runPiece starts a thread that runs pieces of range own, on the given CPUs if any.
func runPiece(s *shares, own int, cpus *cpuSet) *busyThread {
	b := &busyThread{done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its set of CPUs
		b.id = uint32(syscall.Gettid())
		if cpus != nil {
			setAffinity(0, cpus)
		}
		s.ranges[own].runner.enter(b.id)
		close(ready)
		for !b.end.Load() {
		}
		s.ranges[own].runner.leave(b.id)
		moving.Lock()
		b.after, _ = affinity(b.id)
		moving.Unlock()
		close(b.done)
	}()
	<-ready
	return b
}

func (b *busyThread) stop() {
	b.end.Store(true)
	<-b.done
}

// A thread in the middle of a piece is marked once, may use all its CPUs afterwards, and so may who fetched it.
func TestFetch(t *testing.T) {
	if !mayMove() || runtime.NumCPU() < 2 {
		t.Skip("one CPU, or a filter of system calls: no thread can be moved")
	}
	for _, lend := range []bool{true, false} {
		t.Run(fmt.Sprintf("lend=%v", lend), func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			own := uint32(syscall.Gettid())
			all := *allowedHere(t, own)
			var s shares
			s.parts.Store(3)
			if s.fetch(0, lend) {
				t.Fatal("fetched a thread where none is")
			}
			s.ranges[0].runner.enter(own)
			if s.fetch(0, lend) {
				t.Fatal("fetched itself")
			}
			b := runPiece(&s, 2, nil)
			if !s.fetch(0, lend) {
				t.Fatal("didn't fetch the thread")
			}
			if s.fetch(0, lend) {
				t.Error("fetched it twice")
			}
			place := s.ranges[2].runner.Load() >> runnerBits
			if lend && !all.has(uint(place-1)) || !lend && place != stays {
				t.Errorf("it may go to CPU %d-1, allowed are %v", place, all)
			}
			if got := *allowedHere(t, b.id); got != all {
				t.Errorf("it may use the CPUs %v, before %v", got, all)
			}
			b.stop()
			if v := s.ranges[2].runner.Load(); v != 0 {
				t.Errorf("it has left, and is %#x", v)
			}
			if got := *allowedHere(t, own); got != all || b.after != all {
				t.Errorf("at the end the threads may use the CPUs %v and %v, before %v", got, b.after, all)
			}
			for _, trip := range trips {
				if trip.thread == own || trip.thread == b.id {
					t.Errorf("thread %d is on a trip, and has arrived", trip.thread)
				}
			}
		})
	}
}

// A thread that its program has bound to another CPU stays there.
func TestFetchBound(t *testing.T) {
	if !mayMove() || runtime.NumCPU() < 2 {
		t.Skip("one CPU, or a filter of system calls: no thread can be moved")
	}
	cpus := allowedCPUs()
	runtime.LockOSThread() // never unlocked: the thread ends with its set of CPUs
	here, bound := onlyCPU(uint(cpus[0])), onlyCPU(uint(cpus[1]))
	if !setAffinity(0, &here) {
		t.Fatal("can't bind a thread")
	}
	var s shares
	s.parts.Store(2)
	b := runPiece(&s, 1, &bound)
	if s.fetch(0, true) {
		t.Error("fetched it")
	}
	if got := *allowedHere(t, b.id); got != bound {
		t.Errorf("it may use the CPUs %v, bound to %v", got, bound)
	}
	b.stop()
}

// While a thread waits to run where it goes, what it may use afterwards is what it might use before.
func TestAffinityOnTrip(t *testing.T) {
	set := onlyCPU(3)
	trips[5] = trip{thread: 77, allowed: set}
	defer func() { trips[5] = trip{} }()
	if got := *allowedHere(t, 77); got != set {
		t.Errorf("%v, want %v", got, set)
	}
	if b := begin(77, 4); b != nil {
		t.Error("goes to a CPU that it mustn't use")
	}
}
