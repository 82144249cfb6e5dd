package task

import (
	"sync/atomic"
	"testing"
)

// stepOf is a step of a sequence that checks that all pieces of the one before it ran, and none of its own
// twice.
type stepOf struct {
	before *stepOf
	ran    []int // each written by one piece, read by the pieces of the next step
	ended  atomic.Int32
	t      *testing.T
	inner  func()
	bad    int // piece that panics, if not 0
}

func (s *stepOf) Run(piece int) {
	if s.before != nil {
		for i, n := range s.before.ran {
			if n != 1 {
				s.t.Errorf("piece %d runs when piece %d of the step before ran %d times", piece, i, n)
			}
		}
	}
	if s.inner != nil {
		s.inner()
	}
	if s.bad != 0 && piece == s.bad {
		panic("bad piece")
	}
	s.ran[piece]++
}

func (s *stepOf) End() { s.ended.Add(1) }

// sequenceOf returns a sequence of steps of so many pieces each.
func sequenceOf(t *testing.T, pieces ...int) (*Sequence, []*stepOf) {
	s := NewSequence()
	var steps []*stepOf
	for i, n := range pieces {
		st := &stepOf{ran: make([]int, n), t: t}
		if i > 0 {
			st.before = steps[i-1]
		}
		steps = append(steps, st)
		s.Add(n, MinSpread, st)
	}
	return s, steps
}

func TestSequence(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8, 70} {
		restore := onThreads(threads)
		for round := range 200 {
			pieces := []int{1 + round%7, 64, 1, 1 + round%130, 3, 0, 16}[:1+round%7]
			s, steps := sequenceOf(t, pieces...)
			if round%50 == 3 {
				steps[1].inner = func() { check(t, 5, 0); inner, _ := sequenceOf(t, 4, 4); inner.Run() }
			}
			s.Run()
			for i, st := range steps {
				for p, n := range st.ran {
					if n != 1 {
						t.Fatalf("threads %d, steps of %v: piece %d of step %d ran %d times", threads, pieces, p, i, n)
					}
				}
				if st.ended.Load() != 1 {
					t.Fatalf("step %d ended %d times", i, st.ended.Load())
				}
			}
		}
		restore()
	}
}

// A panic of a piece goes on at Run, ends every step once, and leaves later sequences alone.
func TestSequencePanics(t *testing.T) {
	for _, threads := range []int{1, 2, 4} {
		restore := onThreads(threads)
		for range 50 {
			s, steps := sequenceOf(t, 8, 40, 8)
			steps[1].bad = 33
			steps[2].before = nil // it may begin or not
			func() {
				defer func() {
					if r := recover(); r != "bad piece" {
						t.Errorf("Run panics with %v", r)
					}
				}()
				s.Run()
			}()
			for i, st := range steps {
				if st.ended.Load() != 1 {
					t.Fatalf("step %d ended %d times", i, st.ended.Load())
				}
			}
			after, steps := sequenceOf(t, 5, 5)
			after.Run()
			if steps[1].ran[4] != 1 {
				t.Fatal("a sequence after the panic didn't run")
			}
		}
		restore()
	}
}
