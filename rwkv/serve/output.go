package serve

import (
	"context"
	"sync"
	"time"

	"microrwkv/rwkv"
)

// event is what a step adds to one of a request's texts.
type event struct {
	index  int
	text   string
	prompt []rwkv.Token // scored, before the first of tokens
	tokens []rwkv.Token
	reason rwkv.Reason    // "" while the text goes on
	err    error          // that ended it
	seq    *rwkv.Sequence // of a text that has ended: its state
}

// outputLimit is how many bytes may wait for a client before its texts pause.
const outputLimit = 64 << 10

// output is where a request's texts wait for the client, so that no step waits for one.
type output struct {
	mu      sync.Mutex
	events  []event
	size    int
	wake    chan struct{} // has room for one
	drained func()        // called when a full output was emptied
}

func newOutput() *output { return &output{wake: make(chan struct{}, 1)} }

func (o *output) push(e event) {
	o.mu.Lock()
	o.events = append(o.events, e)
	o.size += len(e.text) + 64
	for _, list := range [][]rwkv.Token{e.prompt, e.tokens} {
		for _, t := range list {
			o.size += 16 + 40*len(t.Top)
		}
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// full reports whether the client should be waited for.
func (o *output) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size >= outputLimit
}

// take returns what there is, as soon as there is something; nothing if it takes longer than silence;
// and the cause of ctx's end.
func (o *output) take(ctx context.Context, silence time.Duration) ([]event, error) {
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		o.mu.Lock()
		events, was := o.events, o.size
		o.events, o.size = nil, 0
		o.mu.Unlock()
		if was >= outputLimit {
			o.drained()
		}
		if len(events) > 0 {
			return events, nil
		}
		select {
		case <-o.wake:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
