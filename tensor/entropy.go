package tensor

import (
	"fmt"
	"math"

	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Entropy is the cross entropy of a head's logits x·wᵀ with targets, fused with the head: rows are
// done in blocks, so that [R, V] logits never exist.
type Entropy struct {
	X       *Tensor // [R, C]
	W       *Weight // [V, C], of type F32
	Targets []int   // [R], in [0, V)

	// Scale is what a row's loss counts in the gradients; L2 that of ½·(its largest logit)², relative
	// to Scale (RWKV-LM's L2Wrap).
	Scale, L2 float32

	DX *Tensor // [R, C], written; nil if no gradients are wanted
	DW *Weight // [V, C], added to; nil if it isn't wanted

	Loss, Square float64 // results: Σ −ln p(target), and Σ ½·(largest logit)²
}

const (
	entropyBlock = 1024     // rows of a block, at most
	entropySize  = 24 << 20 // numbers of a block, if that leaves entropyLeast rows
	entropyLeast = 64
	turnedLeast  = 256 // rows that are worth transposing the head
)

// Run computes the loss and the gradients. Temporaries come from s.
func (e *Entropy) Run(s *Scratch) {
	rows, vocab := e.X.rows(), e.W.Dim(0)
	if len(e.Targets) != rows {
		panic(fmt.Sprintf("tensor: Entropy: %d targets for x %s", len(e.Targets), task.FormatShape(e.X.Shape()...)))
	}
	e.Loss, e.Square = 0, 0
	block := min(max(entropySize/max(vocab, 1), entropyLeast), entropyBlock)
	for r := 0; r < rows; r += block {
		e.block(r, min(r+block, rows), s)
	}
}

func (e *Entropy) block(from, to int, s *Scratch) {
	defer s.Release(s.Mark())
	x := s.Rows(e.X, from, to)
	logits := s.New(to-from, e.W.Dim(0))
	Linear(Product{Dst: logits, X: x, W: e.W, Turned: to-from >= turnedLeast})
	t := entropyTasks.Get()
	t.e, t.logits, t.targets = *e, logits.Matrix(), e.Targets[from:to]
	if cap(t.loss) < 2*(to-from) {
		t.loss = make([]float64, 2*(to-from))
	}
	t.loss = t.loss[:2*(to-from)]
	task.Spread(to-from, 8*logits.Len(), t)
	for i := range to - from {
		e.Loss += t.loss[2*i]
		e.Square += t.loss[2*i+1]
	}
	*t = entropyTask{loss: t.loss}
	entropyTasks.Put(t)
	if e.DX != nil {
		LinearBackward(Gradient{DX: s.Rows(e.DX, from, to), DY: logits, X: x, W: e.W, DW: e.DW})
	}
}

var entropyTasks = freelist.New[entropyTask]()

type entropyTask struct {
	e       Entropy
	logits  task.Matrix
	targets []int
	loss    []float64 // two for each row
}

// Run computes a row's losses, and makes its logits their gradient.
func (t *entropyTask) Run(r int) {
	row, target := t.logits.Row(r), t.targets[r]
	top := kernel.Max(row)
	logit := row[target]
	at := 0
	if t.e.L2 != 0 && t.e.DX != nil {
		for row[at] != top && at+1 < len(row) {
			at++
		}
	}
	sum := float64(kernel.ExpSum(row, row, top))
	t.loss[2*r] = math.Log(sum) + float64(top) - float64(logit)
	t.loss[2*r+1] = 0.5 * float64(top) * float64(top)
	if t.e.DX == nil {
		return
	}
	kernel.Scale(row, float32(float64(t.e.Scale)/sum), row)
	row[target] -= t.e.Scale
	if t.e.L2 != 0 {
		row[at] += t.e.Scale * t.e.L2 * top
	}
}
