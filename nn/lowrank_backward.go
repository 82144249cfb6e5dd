package nn

import "microrwkv/tensor"

// narrowPass is a LowRank in training, on its way through several of them at once: outer(inner(x·W1)·W2 + Bias).
type narrowPass struct {
	LowRank
	inner, outer   tensor.Act
	x, middle, dst *tensor.Tensor // [R, in], [R, D], [R, out]

	dx, dy *tensor.Tensor // gradients of x and of what goes into the outer function
	grad   *LowRank       // nil if it isn't trained
	add    bool           // dx is added to
	d      *tensor.Tensor // [R, D], of what the inner function gives, then of what goes into it
}

// pass returns the layer with its input and functions, to be recorded or gone back over.
func (l LowRank) pass(x *tensor.Tensor, inner, outer tensor.Act) narrowPass {
	return narrowPass{LowRank: l, x: x, inner: inner, outer: outer}
}

// back sets what backNarrow needs. dx may be x.
func (p *narrowPass) back(dx, dy, middle *tensor.Tensor, grad *LowRank) {
	p.dx, p.dy, p.middle, p.grad = dx, dy, middle, grad
}

// recordNarrow computes up to four passes from the weights as they are. Their middles are in mem.
func recordNarrow(ps []narrowPass, mem *tensor.Tape) {
	var down, up [4]tensor.Gradient // products with the weights as they lie
	for i := range ps {
		p := &ps[i]
		p.middle = mem.New(p.x.Dim(0), p.W1.Dim(1))
		down[i] = tensor.Gradient{DX: p.middle, DY: p.x, W: p.W1}
		up[i] = tensor.Gradient{DX: p.dst, DY: p.middle, W: p.W2}
	}
	var q tensor.Sequence
	tensor.LinearBackward(down[:len(ps)]...)
	for i := range ps {
		if p := &ps[i]; p.inner != tensor.Identity {
			q.Apply(p.inner, p.middle, p.middle, nil)
		}
	}
	q.Run()
	tensor.LinearBackward(up[:len(ps)]...)
	for i := range ps {
		if p := &ps[i]; p.outer != tensor.Identity || p.Bias != nil {
			q.Apply(p.outer, p.dst, p.dst, p.Bias)
		}
	}
	q.Run()
}

// backNarrow goes back over up to four passes.
func backNarrow(ps []narrowPass, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	var down, up [4]tensor.Product
	var weights [8]tensor.Gradient
	trained := 0
	for i := range ps {
		p := &ps[i]
		p.d = s.New(p.middle.Shape()...)
		down[i] = tensor.Product{Dst: p.d, X: p.dy, W: p.W2, Turned: true}
		up[i] = tensor.Product{Dst: p.dx, X: p.d, W: p.W1, Turned: true, Add: p.add}
		if p.grad != nil {
			weights[trained] = tensor.Gradient{DW: p.grad.W2, DY: p.middle, X: p.dy}
			weights[trained+1] = tensor.Gradient{DW: p.grad.W1, DY: p.x, X: p.d}
			trained += 2
		}
	}
	var q tensor.Sequence
	q.Linear(down[:len(ps)]...)
	for i := range ps {
		if p := &ps[i]; p.inner != tensor.Identity {
			q.ApplyBackward(p.inner, p.d, p.d, p.middle)
		}
	}
	q.Run()
	tensor.LinearBackward(weights[:trained]...)
	tensor.Linear(up[:len(ps)]...)
}
