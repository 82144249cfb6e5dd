package task

import (
	"math"

	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
)

// Rows runs an operation over the rows of up to five matrices, in blocks of rows.
type Rows struct {
	Op           func(t *Rows, r int) // computes row r
	Dst, A, B, E Matrix
	C, D         []float32 // vectors that all rows share
	X            float32
	N            int // length of a row of Dst
	Groups       int // parts of a row
	block        int
}

var rowTasks = freelist.New[Rows]()

// MinRowWork is the elements that make a piece worth handing to another goroutine.
const MinRowWork = 8192

// Run computes one block of rows.
func (t *Rows) Run(piece int) {
	for r := piece * t.block; r < min((piece+1)*t.block, t.Dst.Rows); r++ {
		t.Op(t, r)
	}
}

// OverRows runs the task's operation over the rows of Dst.
func OverRows(task Rows) {
	if pieces, t := Plan(task); pieces > 0 {
		Parallel(pieces, t)
		t.End()
	}
}

// Plan cuts the rows into pieces; without any there is nothing to do, nor to End.
func Plan(task Rows) (pieces int, t *Rows) {
	rows, n := task.Dst.Rows, task.Dst.Cols
	if rows == 0 || n == 0 {
		return 0, nil
	}
	t = rowTasks.Get()
	*t = task
	t.N = n
	t.block = max(MinRowWork/n, (rows+4*Threads()-1)/(4*Threads()), 1)
	return (rows + t.block - 1) / t.block, t
}

// End gives the task back.
func (t *Rows) End() {
	*t = Rows{}
	rowTasks.Put(t)
}

// ExpRow computes x = exp(x − max) and returns 1/Σ, the factor that would make it a softmax with
// zeros more scores of zero.
func ExpRow(x []float32, zeros int) float32 {
	m := kernel.Max(x)
	if zeros > 0 {
		m = max(m, 0)
	}
	sum := kernel.ExpSum(x, x, m)
	if zeros > 0 {
		sum += float32(float64(zeros) * math.Exp(-float64(m)))
	}
	return 1 / sum
}
