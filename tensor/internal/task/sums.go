package task

import "microrwkv/tensor/internal/freelist"

// Sums runs an operation over rows, as Rows does, that also adds up vectors over the rows: the
// gradients of a layer's vectors. Each block of sumBlock rows adds in float32, the blocks are added in
// float64 and in order, so that the result doesn't depend on the number of threads.
type Sums struct {
	// Op computes row r and adds to sums, which has N numbers for each of Sum in turn; tmp is room for
	// Tmp vectors of N numbers.
	Op     func(t *Sums, r int, sums, tmp []float32)
	Block  func(t *Sums, from, to int, sums, tmp []float32) // Op for rows from to to at once; one of them is nil
	In     [16]Matrix
	Out    [8]Matrix
	Vec    [8][]float32
	Sum    [8][]float32 // that the sums are added to; nil is a sum that nobody wants
	Sums   int          // the least number of sums that there is room for, wanted or not
	N      int          // length of a row, and of each sum
	Rows   int          // 0: those of In[0]
	Tmp    int
	Groups int
	X      float32
	Begins []int // spans of the sequences, for who needs them

	sums    int // vectors of sums
	stride  int // numbers of a block
	partial []float32
	reduce  bool
}

const (
	sumBlock   = 32
	reduceCols = 256 // columns of a piece of the second pass
)

var sumTasks = freelist.New[Sums]()

// OverRowSums runs the task.
func OverRowSums(task *Sums) {
	t := sumTasks.Get()
	partial, begins := t.partial, t.Begins
	*t = *task
	t.Begins = append(begins[:0], task.Begins...)
	if t.Rows == 0 {
		t.Rows = t.In[0].Rows
	}
	if t.Rows > 0 && t.N > 0 {
		t.sums = t.Sums
		for i, s := range t.Sum {
			if s != nil {
				t.sums = max(t.sums, i+1)
			}
		}
		t.sums = max(t.sums, 1)
		blocks := (t.Rows + sumBlock - 1) / sumBlock
		// Whole cache lines, so that threads don't share any.
		t.stride = ((t.sums+t.Tmp)*t.N + 15) / 16 * 16
		partial = freelist.Grown(partial, blocks*t.stride)
		t.partial, t.reduce = partial, false
		work := t.Rows * t.N * (t.sums + 1)
		Spread(blocks, 4*work, t)
		t.reduce = true
		Spread((t.N+reduceCols-1)/reduceCols, 2*blocks*t.N*t.sums, t)
	}
	begins = t.Begins[:0]
	*t = Sums{partial: partial, Begins: begins}
	sumTasks.Put(t)
}

// Run computes a block of rows, or in the second pass adds up the blocks' sums in some columns.
func (t *Sums) Run(piece int) {
	if t.reduce {
		t.addUp(piece*reduceCols, min((piece+1)*reduceCols, t.N))
		return
	}
	part := t.partial[piece*t.stride:][:t.stride]
	sums, tmp := part[:t.sums*t.N], part[t.sums*t.N:]
	clear(sums)
	from, to := piece*sumBlock, min((piece+1)*sumBlock, t.Rows)
	if t.Block != nil {
		t.Block(t, from, to, sums, tmp)
		return
	}
	for r := from; r < to; r++ {
		t.Op(t, r, sums, tmp)
	}
}

// Wanted returns sum i of those that Op adds to, nil if nobody wants it.
func (t *Sums) Wanted(sums []float32, i int) []float32 {
	if t.Sum[i] == nil {
		return nil
	}
	return sums[i*t.N:][:t.N]
}

func (t *Sums) addUp(from, to int) {
	blocks := (t.Rows + sumBlock - 1) / sumBlock
	for i := range t.sums {
		dst := t.Sum[i]
		if dst == nil {
			continue
		}
		for c := from; c < to; c++ {
			var sum float64
			for b := range blocks {
				sum += float64(t.partial[b*t.stride+i*t.N+c])
			}
			dst[c] += float32(sum)
		}
	}
}
