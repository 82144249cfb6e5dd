package task

import (
	"math"
	"sync/atomic"
)

// maxRanges is the most ranges that pieces are cut into; more threads share them.
const maxRanges = 64

// shares are the pieces of an operation that aren't taken, cut into a range for each thread.
type shares struct {
	parts  atomic.Int32 // ranges in use
	full   atomic.Int32 // those that have pieces
	_      [56]byte     // of a cache line
	ranges [maxRanges]pieces
}

// pieces is a range of pieces not yet taken, from next to end: next<<32 | end. It is one word, and
// empty in a slot without a job, so that a late worker takes a piece of the present job or none.
type pieces struct {
	atomic.Uint64
	runner runner   // of the thread that has the range for its own
	_      [48]byte // of a cache line
}

// first takes the range's first piece; empty says that it was the last one too.
func (r *pieces) first() (piece int, empty, ok bool) {
	for {
		s := r.Load()
		if s>>32 >= s&math.MaxUint32 {
			return 0, true, false
		}
		if r.CompareAndSwap(s, s+1<<32) {
			return int(s >> 32), s>>32+1 == s&math.MaxUint32, true
		}
	}
}

// last takes the range's last piece; empty says that it was the only one.
func (r *pieces) last() (piece int, empty, ok bool) {
	for {
		s := r.Load()
		if s>>32 >= s&math.MaxUint32 {
			return 0, true, false
		}
		if r.CompareAndSwap(s, s-1) {
			return int(s&math.MaxUint32) - 1, s>>32+1 == s&math.MaxUint32, true
		}
	}
}

// len returns the number of pieces.
func (r *pieces) len() int {
	s := r.Load()
	return max(int(s&math.MaxUint32)-int(s>>32), 0)
}

// cut makes n pieces, in as many ranges as parts says, of shares that have none.
func (s *shares) cut(n, parts int) {
	s.parts.Store(int32(parts))
	full := int32(0)
	for i := range parts {
		from, to := i*n/parts, (i+1)*n/parts
		s.ranges[i].Store(uint64(from)<<32 | uint64(to))
		if from < to {
			full++
		}
	}
	s.full.Add(full) // not Store: a late worker may have emptied one already
}

// own returns the range of a thread by its number.
func (s *shares) own(thread int) int { return thread % int(max(s.parts.Load(), 1)) }

// open reports whether there are pieces to take.
func (s *shares) open() bool { return s.full.Load() > 0 }

// take takes the first piece of range own, or if that is empty the last one of the longest range.
func (s *shares) take(own int) (piece int, ok bool) {
	piece, empty, ok := s.ranges[own].first()
	for !ok && s.open() {
		longest, most := 0, 0
		for i := range int(s.parts.Load()) {
			if n := s.ranges[i].len(); n > most {
				longest, most = i, n
			}
		}
		if most == 0 {
			return 0, false
		}
		piece, empty, ok = s.ranges[longest].last()
	}
	if ok && empty {
		s.full.Add(-1)
	}
	return piece, ok
}
