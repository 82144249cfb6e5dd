package serve

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
)

// chunk is how many tokens of a part of a prompt are read at once. Prompts are cut at the ends of parts
// and each chunk tokens after one, nowhere else, so that neither the cache nor others' requests change
// how anything is rounded.
const chunk = 64

// chunks returns the pieces in which a prompt is read.
func chunks(parts [][]int) (sizes []int) {
	for _, p := range parts {
		for n := len(p); n > 0; n -= chunk {
			sizes = append(sizes, min(n, chunk))
		}
	}
	return sizes
}

// prefix is a hash of the beginning of a prompt and of how it is cut, and of whose it is: one caller
// can't find out by time what another asked.
type prefix [32]byte

// prefixes returns the prefix at the end of each part.
func prefixes(owner string, parts [][]int) []prefix {
	all := make([]prefix, len(parts))
	last := prefix(sha256.Sum256([]byte(owner)))
	var b []byte
	for i, p := range parts {
		b = append(b[:0], last[:]...)
		for _, id := range p {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
		last = sha256.Sum256(b)
		all[i] = last
	}
	return all
}

// lru keeps values, those used last, in a number of bytes.
type lru[K comparable, V any] struct {
	limit, size int64
	entries     map[K]*list.Element
	order       *list.List // of entry[K, V], the newest first
}

type entry[K comparable, V any] struct {
	key   K
	value V
	size  int64
}

func newLRU[K comparable, V any](limit int64) *lru[K, V] {
	return &lru[K, V]{limit: limit, entries: map[K]*list.Element{}, order: list.New()}
}

// get returns a value, or the zero value.
func (c *lru[K, V]) get(k K) (v V) {
	if e := c.entries[k]; e != nil {
		c.order.MoveToFront(e)
		v = e.Value.(entry[K, V]).value
	}
	return v
}

// put keeps a value, which must not change any more, unless there is one.
func (c *lru[K, V]) put(k K, v V, size int64) {
	if c.entries[k] != nil || size > c.limit {
		return
	}
	c.entries[k] = c.order.PushFront(entry[K, V]{k, v, size})
	for c.size += size; c.size > c.limit; {
		c.remove(c.order.Back().Value.(entry[K, V]).key)
	}
}

func (c *lru[K, V]) remove(k K) {
	if e := c.entries[k]; e != nil {
		c.size -= c.order.Remove(e).(entry[K, V]).size
		delete(c.entries, k)
	}
}
