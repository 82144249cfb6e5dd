package tensor

// Tape hands out float32 tensors for what a forward pass saves for its backward pass. Unlike a
// Scratch it keeps one piece of memory for each tensor, exactly as large as was ever asked for at
// that place: a training step of the same shapes allocates nothing, and nothing is wasted. The zero
// value is ready. It is for one goroutine at a time.
type Tape struct {
	list []*tapeTensor
	at   int
}

type tapeTensor struct {
	Tensor
	memory []float32
}

// New returns a tensor with unspecified contents, valid until Reset.
func (t *Tape) New(shape ...int) *Tensor {
	if t.at == len(t.list) {
		t.list = append(t.list, new(tapeTensor))
	}
	e := t.list[t.at]
	// Large pieces begin at a page's start: skewed, the same columns of different tensors don't.
	first := t.at % 8 * skew
	t.at++
	n := numElements(shape)
	if len(e.memory) < first+n {
		e.memory = make([]float32, first+n)
	}
	e.Tensor = Tensor{}
	e.init(e.memory[first:][:n:n], shape)
	return &e.Tensor
}

// Reset gives back all tensors; their memory will be reused.
func (t *Tape) Reset() { t.at = 0 }

// Size returns the number of elements that the Tape holds on to.
func (t *Tape) Size() int {
	n := 0
	for _, e := range t.list {
		n += len(e.memory)
	}
	return n
}
