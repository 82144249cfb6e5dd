package serve

import (
	"context"
	"strings"
	"time"
)

// cached is a store with copies on this machine's disk.
type cached struct {
	Store
	disk *dir
}

// Cached returns the store shared with a folder of this machine before it, which keeps copies of states'
// data, of at most limit bytes: those that were used least go first. What changes, and whether a state is
// there at all, only shared is asked. The folder must be no other server's.
func Cached(folder string, limit int64, shared Store) (Store, error) {
	d, err := newDir(folder, limit)
	if err != nil {
		return nil, err
	}
	d.evict = true
	return &cached{shared, d}, nil
}

// copied reports whether the values of a key never change.
func copied(key string) bool { return strings.HasPrefix(key, "data/") }

// copyTTL is how long copies stay at most, used or not: their states are known to have ended before.
const copyTTL = 7 * 24 * time.Hour

func (c *cached) Put(ctx context.Context, key string, data []byte, ttl time.Duration) error {
	if err := c.Store.Put(ctx, key, data, ttl); err != nil {
		return err
	}
	if copied(key) {
		c.disk.Put(ctx, key, data, min(ttl, copyTTL)) // else it is read from the store
	}
	return nil
}

func (c *cached) Get(ctx context.Context, key string) ([]byte, error) {
	if copied(key) {
		if b, err := c.disk.Get(ctx, key); err == nil {
			c.disk.touch(key)
			return b, nil
		}
	}
	b, err := c.Store.Get(ctx, key)
	if err == nil && copied(key) {
		c.disk.Put(ctx, key, b, copyTTL)
	}
	return b, err
}

func (c *cached) Delete(ctx context.Context, key string) error {
	if copied(key) {
		c.disk.Delete(ctx, key)
	}
	return c.Store.Delete(ctx, key)
}

// Sweep sweeps both.
func (c *cached) Sweep(ctx context.Context) error {
	if err := c.disk.Sweep(ctx); err != nil {
		return err
	}
	if s, ok := c.Store.(sweeper); ok {
		return s.Sweep(ctx)
	}
	return nil
}
