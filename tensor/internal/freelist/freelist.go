// Package freelist keeps what operations work in, for the next ones: their arguments, while helpers read
// them, and buffers.
package freelist

// List keeps objects that operations reuse. Unlike a sync.Pool it never drops them, so that
// operations truly allocate nothing once warm; it holds at most as many as run at once.
type List[T any] chan *T

// New returns an empty list.
func New[T any]() List[T] { return make(List[T], 64) }

// Get returns an object, as it was given back or zero.
func (f List[T]) Get() *T {
	select {
	case t := <-f:
		return t
	default:
		return new(T)
	}
}

// Put gives an object back.
func (f List[T]) Put(t *T) {
	select {
	case f <- t:
	default:
	}
}

// Grown returns a slice of at least n elements, of any content, s itself if that is long enough.
func Grown[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n+n/2)
	}
	return s[:cap(s)]
}
