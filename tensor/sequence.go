package tensor

import "microrwkv/tensor/internal/task"

// Sequence is operations one after the other, each of which may read all that those before it wrote. Their
// threads are called once for all of them. The zero value is ready; operations are added by its methods and by
// functions of the packages below, and are computed by Run: until then their operands must stay and their
// results aren't there. Where a function takes a *Sequence, nil computes the operation at once.
type Sequence struct{ steps *task.Sequence }

// Add adds an operation of n pieces that is as much work as so many multiplications.
func (q *Sequence) Add(n, work int, t task.Step) {
	if q == nil {
		task.Spread(n, work, t)
		t.End()
		return
	}
	if q.steps != nil && q.steps.Full() {
		q.Run()
	}
	if q.steps == nil {
		q.steps = task.NewSequence()
	}
	q.steps.Add(n, work, t)
}

// AddRows adds an operation over rows.
func (q *Sequence) AddRows(t task.Rows) {
	if q == nil {
		task.OverRows(t)
	} else if pieces, t := task.Plan(t); pieces > 0 {
		q.Add(pieces, t.Dst.Rows*t.Dst.Cols, t)
	}
}

// Run computes the operations, and empties the sequence. Of nil there is nothing left to compute.
func (q *Sequence) Run() {
	if q == nil || q.steps == nil {
		return
	}
	s := q.steps
	q.steps = nil
	s.Run()
}
