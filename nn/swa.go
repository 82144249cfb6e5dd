package nn

import (
	"math"

	"microrwkv/tensor"
)

// SlidingWindowAttention is multi-head attention over a window of positions (Beltagy et al.,
// arXiv:2004.05150):
//
//	q, k, v = split(QKV·x), in H heads of N = C/H values
//	y = Proj·softmax(N^−½ q·kᵀ)·v
//
// It has two rules for what a position attends to: Forward's, that of the published MicroRWKV,
// and ForwardCausal's.
type SlidingWindowAttention struct {
	Heads, Window int
	QKV, Proj     *tensor.Tensor // [3C, C], [C, C]
}

// Forward computes the layer by the published rule, which is neither causal nor a sliding window;
// see the package's comment for add and spans.
//
// sic: per head, q, k and v [T, N] are padded with zero rows to a multiple T' of Window, then
// re-read in row-major order as Window rows of T'/Window·N numbers, which all attend to each
// other; published logits need it. The zero rows take part: each adds exp(0) to the denominators.
// Here they are counted, not computed.
func (a *SlidingWindowAttention) Forward(dst, x *tensor.Tensor, add bool, spans Spans, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	c := x.Dim(1)
	qkv, y := s.New(x.Dim(0), 3*c), s.New(x.Dim(0), c)
	tensor.Linear(tensor.Product{Dst: qkv, X: x, W: a.QKV})
	for i := range spans.Len() {
		a.attendAll(s.Rows(y, spans[i], spans[i+1]), s.Rows(qkv, spans[i], spans[i+1]), s)
	}
	tensor.Linear(tensor.Product{Dst: dst, X: y, W: a.Proj, Add: add})
}

// attendAll computes the published rule for one sequence: y [T, C] from qkv [T, 3C].
func (a *SlidingWindowAttention) attendAll(y, qkv *tensor.Tensor, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	t, c := y.Dim(0), y.Dim(1)
	if t == 0 {
		return
	}
	n := c / a.Heads
	each := (t + a.Window - 1) / a.Window // positions in one row of the re-reading
	rows := (t + each - 1) / each         // rows that aren't all zeros
	var heads [3]*tensor.Tensor
	for i := range heads {
		h := s.New(a.Heads, rows*each, n)
		tensor.SplitHeads(h, s.Cols(qkv, i*c, (i+1)*c))
		heads[i] = s.Reshape(h, a.Heads, rows, each*n)
	}
	out := s.New(a.Heads, rows, each*n)
	tensor.Attention(out, heads[0], heads[1], heads[2], invSqrt(n), a.Window-rows)
	tensor.JoinHeads(y, s.Reshape(out, a.Heads, rows*each, n))
}

// ForwardCausal computes the layer with each position attending to itself and the Window−1
// before it; see the package's comment for add, spans and states.
func (a *SlidingWindowAttention) ForwardCausal(dst, x *tensor.Tensor, add bool, spans Spans, states func(i int) *KVCache, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	c := x.Dim(1)
	qkv, y := s.New(x.Dim(0), 3*c), s.New(x.Dim(0), c)
	tensor.Linear(tensor.Product{Dst: qkv, X: x, W: a.QKV})
	for i := range spans.Len() {
		from, to := spans[i], spans[i+1]
		q, k, v := s.Cols(qkv, 0, c), s.Cols(qkv, c, 2*c), s.Cols(qkv, 2*c, 3*c)
		states(i).attend(s.Rows(y, from, to), s.Rows(q, from, to), s.Rows(k, from, to), s.Rows(v, from, to), invSqrt(c/a.Heads))
	}
	tensor.Linear(tensor.Product{Dst: dst, X: y, W: a.Proj, Add: add})
}

func invSqrt(n int) float32 { return float32(1 / math.Sqrt(float64(n))) }
