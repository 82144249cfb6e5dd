package serve

import (
	"context"
	"time"
)

// sweeper is a store that removes what has expired when it is asked to.
type sweeper interface{ Sweep(context.Context) error }

const (
	sweepEvery = time.Minute
	// listEvery is how many sweeps come between two lists of what is in a store that isn't of this machine.
	listEvery = 10
)

// sweep lets a store remove what has expired, and measures what it has, now and then.
func (s *states) sweep(ctx context.Context) {
	for i := 0; ; i++ {
		if sw, ok := s.store.(sweeper); ok {
			if err := sw.Sweep(ctx); err != nil && ctx.Err() == nil {
				s.server.config.Log.Warn("expired states can't be removed", "error", err.Error())
			}
		}
		s.measure()
		if i%listEvery == 0 {
			s.measureRemote(ctx)
		}
		select {
		case <-time.After(sweepEvery):
		case <-ctx.Done():
			return
		}
	}
}

// tell sets how much there is in a tier.
func (s *states) tell(tier string, values int, bytes int64) {
	s.server.metrics.stateCount.WithLabelValues(tier).Set(float64(values))
	s.server.metrics.states.WithLabelValues(tier).Set(float64(bytes))
}

// shared returns the store without this machine's copies.
func (s *states) shared() Store {
	if c, ok := s.store.(*cached); ok {
		return c.Store
	}
	return s.store
}

// measure tells how much there is on this machine.
func (s *states) measure() {
	if c, ok := s.store.(*cached); ok {
		n, size := c.disk.Usage()
		s.tell("disk", n, size)
	}
	switch st := s.shared().(type) {
	case *memory:
		n, size := st.Usage()
		s.tell("ram", n, size)
	case *dir:
		n, size := st.Usage()
		s.tell("disk", n, size)
	}
}

// measureRemote tells how much there is in a store that isn't of this machine.
func (s *states) measureRemote(ctx context.Context) {
	switch s.shared().(type) {
	case *memory, *dir:
		return
	}
	list, err := s.shared().List(ctx, "data/")
	if err != nil {
		return // whoever needs a state is told
	}
	size := int64(0)
	for _, i := range list {
		size += i.Size
	}
	s.tell("remote", len(list), size)
}
