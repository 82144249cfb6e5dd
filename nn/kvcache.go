package nn

import (
	"fmt"

	"microrwkv/tensor"
	"microrwkv/tensor/attention"
)

// KVCache is the state of an attention: the keys and values of a sequence's newest positions.
type KVCache struct{ attention.KVCache }

// NewKVCache returns an empty cache of heads with d values, for attention to window positions. With
// a capacity above window, rows are moved down only once in capacity−window positions.
func NewKVCache(heads, capacity, d, window int) KVCache {
	return KVCache{attention.KVCache{K: tensor.New(heads, capacity, d), V: tensor.New(heads, capacity, d), Window: window}}
}

// Rows returns the number of positions that a later one can attend to.
func (c *KVCache) Rows() int { return min(c.Len, c.Window-1) }

// MaxRows returns the most positions that the cache holds between two calls.
func (c *KVCache) MaxRows() int { return c.Window - 1 }

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
