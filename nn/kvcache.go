package nn

import (
	"fmt"

	"microrwkv/tensor"
)

// KVCache keeps the keys and values of a sequence's newest positions, by head and in the order of
// the positions, so that each head's attention reads two contiguous blocks.
type KVCache struct {
	K, V   *tensor.Tensor // [H, cap, d]
	Window int            // positions that one attends to, its own included; at most cap
	Len    int            // rows in use, from row 0
}

// NewKVCache returns an empty cache. With a capacity above window, rows are moved down only once
// in capacity−window positions.
func NewKVCache(heads, capacity, d, window int) KVCache {
	return KVCache{K: tensor.New(heads, capacity, d), V: tensor.New(heads, capacity, d), Window: window}
}

// Rows returns the number of positions that a later one can attend to.
func (c *KVCache) Rows() int { return min(c.Len, c.Window-1) }

// SetRows makes the cache hold n positions, whose keys and values Parts then yields.
func (c *KVCache) SetRows(n int) error {
	if _, err := c.Size(n); err != nil {
		return err
	}
	c.Len = n
	return nil
}

// Size returns how many numbers n positions are.
func (c *KVCache) Size(n int) (int, error) {
	if n < 0 || n >= c.Window {
		return 0, fmt.Errorf("%d rows in a cache for a window of %d", n, c.Window)
	}
	return 2 * n * c.K.Dim(0) * c.K.Dim(2), nil
}

// Parts yields the keys, then the values of the newest Rows positions, head by head.
func (c *KVCache) Parts(yield func([]float32) bool) {
	heads, capacity, d := c.K.Dim(0), c.K.Dim(1), c.K.Dim(2)
	for _, t := range [...]*tensor.Tensor{c.K, c.V} {
		for h := range heads {
			if !yield(t.Data()[(h*capacity+c.Len-c.Rows())*d : (h*capacity+c.Len)*d]) {
				return
			}
		}
	}
}

// attend appends the keys and values of T positions and computes their attention: y, q, k and v
// are [T, H·d].
func (c *KVCache) attend(y, q, k, v *tensor.Tensor, scale float32) {
	for from := 0; from < q.Dim(0); {
		c.makeRoom()
		n := min(q.Dim(0)-from, c.K.Dim(1)-c.Len)
		c.append(k.Rows(from, from+n), v.Rows(from, from+n))
		tensor.CausalAttention(y.Rows(from, from+n), q.Rows(from, from+n), c.K, c.V, c.Len-n, c.Window, scale)
		from += n
	}
}

// makeRoom drops rows that no later position attends to, if the cache is full.
func (c *KVCache) makeRoom() {
	capacity := c.K.Dim(1)
	if c.Len < capacity {
		return
	}
	keep := min(c.Len, c.Window-1)
	for h := range c.K.Dim(0) {
		for i := range keep {
			copy(c.K.Row(h*capacity+i), c.K.Row(h*capacity+c.Len-keep+i))
			copy(c.V.Row(h*capacity+i), c.V.Row(h*capacity+c.Len-keep+i))
		}
	}
	c.Len = keep
}

func (c *KVCache) append(k, v *tensor.Tensor) {
	capacity, d := c.K.Dim(1), c.K.Dim(2)
	for i := range k.Dim(0) {
		for h := range c.K.Dim(0) {
			copy(c.K.Row(h*capacity+c.Len+i), k.Row(i)[h*d:][:d])
			copy(c.V.Row(h*capacity+c.Len+i), v.Row(i)[h*d:][:d])
		}
	}
	c.Len += k.Dim(0)
}
