package tensor

// Scratch hands out float32 tensors for temporaries, from memory that it keeps: after the first
// pass a computation of the same or a smaller size allocates nothing. Tensors are given back in
// the reverse order:
//
//	defer s.Release(s.Mark())
//	t := s.New(rows, cols)
//
// It is for one goroutine at a time. The zero value is ready.
type Scratch struct {
	blocks  [][]float32
	headers []*Tensor
	at      Mark
}

// Mark is a state of a Scratch to go back to.
type Mark struct{ block, used, headers int }

// Mark returns the present state.
func (s *Scratch) Mark() Mark { return s.at }

// Release gives back all tensors handed out since m; their memory will be reused.
func (s *Scratch) Release(m Mark) { s.at = m }

const (
	minBlock = 1 << 14 // elements of a Scratch's first block
	align    = 16      // elements: tensors start 64 bytes apart, a cache line and a zmm register
	skew     = 5 * 16  // elements between tensors: those whose sizes are whole pages don't start at
	// the same place of a page, where the CPU takes a store to one for a store to the others
)

// New returns a tensor with unspecified contents.
func (s *Scratch) New(shape ...int) *Tensor {
	n := numElements(shape)
	t := s.header(&Tensor{})
	t.init(s.take(n), shape)
	return t
}

// Reserve makes room for n elements in one block, so that a pass which needs them allocates
// once. Nothing may be handed out at that time.
func (s *Scratch) Reserve(n int) {
	if s.at == (Mark{}) && (len(s.blocks) == 0 || len(s.blocks[0]) < n) {
		s.blocks = [][]float32{make([]float32, n)}
	}
}

// Size returns the number of elements that the Scratch holds on to.
func (s *Scratch) Size() int {
	n := 0
	for _, b := range s.blocks {
		n += len(b)
	}
	return n
}

func (s *Scratch) take(n int) []float32 {
	need := (n+align-1)/align*align + skew
	for {
		if s.at.block == len(s.blocks) {
			size := max(need, minBlock)
			if s.at.block > 0 {
				size = max(size, 2*len(s.blocks[s.at.block-1]))
			}
			s.blocks = append(s.blocks, make([]float32, size))
		}
		if b := s.blocks[s.at.block]; s.at.used+need <= len(b) {
			t := b[s.at.used:][:n:n]
			s.at.used += need
			return t
		}
		s.at.block, s.at.used = s.at.block+1, 0
	}
}

// Rows, Cols and Reshape are the views of the same names, their headers taken from s.

// Rows returns rows i to j (excluded) of t.
func (s *Scratch) Rows(t *Tensor, i, j int) *Tensor {
	v := s.header(t)
	v.slice(i, j, 0, t.shape[1])
	return v
}

// Cols returns columns i to j (excluded) of t.
func (s *Scratch) Cols(t *Tensor, i, j int) *Tensor {
	v := s.header(t)
	v.slice(0, t.shape[0], i, j)
	return v
}

// Reshape returns t with another shape.
func (s *Scratch) Reshape(t *Tensor, shape ...int) *Tensor {
	v := s.header(t)
	v.reshape(shape)
	return v
}

func (s *Scratch) header(t *Tensor) *Tensor {
	if s.at.headers == len(s.headers) {
		s.headers = append(s.headers, new(Tensor))
	}
	v := s.headers[s.at.headers]
	s.at.headers++
	*v = *t
	return v
}
