package kernel

import "microrwkv/tensor/internal/freelist"

// buffer is working memory of a product: weights widened to float32, a packed operand.
type buffer struct{ data []float32 }

var buffers = freelist.New[buffer]()

// getBuffer returns a buffer of at least n numbers, of any content. Give it back by put.
func getBuffer(n int) *buffer {
	b := buffers.Get()
	b.data = freelist.Grown(b.data, n)
	return b
}

func (b *buffer) put() { buffers.Put(b) }
