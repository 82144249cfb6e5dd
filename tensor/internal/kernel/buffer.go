package kernel

// buffer is working memory of a product: weights widened to float32, a packed operand. Buffers
// are kept for good, at most as many as products ran at once, so that products allocate nothing
// once warm, which a sync.Pool wouldn't promise.
type buffer struct{ data []float32 }

var freeBuffers = make(chan *buffer, 64)

// getBuffer returns a buffer of at least n numbers, of any content. Give it back by put.
func getBuffer(n int) *buffer {
	var b *buffer
	select {
	case b = <-freeBuffers:
	default:
		b = new(buffer)
	}
	if len(b.data) < n {
		b.data = make([]float32, n)
	}
	return b
}

func (b *buffer) put() {
	select {
	case freeBuffers <- b:
	default:
	}
}
