package nn

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/attention"
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
	QKV, Proj     *tensor.Weight // [3C, C], [C, C]
}

// Forward computes the layer by the published rule, which is neither causal nor a sliding window;
// see Context.
//
// sic: per head, q, k and v [T, N] are padded with zero rows to a multiple T' of Window, then
// re-read in row-major order as Window rows of T'/Window·N numbers, which all attend to each
// other; published logits need it. The zero rows take part: each adds exp(0) to the denominators.
// They are counted, not computed.
func (a *SlidingWindowAttention) Forward(dst, x *tensor.Tensor, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	c := x.Dim(1)
	qkv, y := s.New(x.Dim(0), 3*c), s.New(x.Dim(0), c)
	var in tensor.Sequence
	in.Linear(tensor.Product{Dst: qkv, X: x, W: a.QKV})
	q, k, v := s.Cols(qkv, 0, c), s.Cols(qkv, c, 2*c), s.Cols(qkv, 2*c, 3*c)
	attention.Folded(&in, y, q, k, v, a.Heads, a.Window, invSqrt(c/a.Heads), ctx.Spans)
	in.Linear(tensor.Product{Dst: dst, X: y, W: a.Proj, Add: ctx.Add})
	in.Run()
}

// ForwardCausal computes the layer with each position attending to itself and the Window−1
// before it; see Context.
func (a *SlidingWindowAttention) ForwardCausal(dst, x *tensor.Tensor, states func(i int) *KVCache, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	c := x.Dim(1)
	qkv, y := s.New(x.Dim(0), 3*c), s.New(x.Dim(0), c)
	var in tensor.Sequence
	in.Linear(tensor.Product{Dst: qkv, X: x, W: a.QKV})
	q, k, v := s.Cols(qkv, 0, c), s.Cols(qkv, c, 2*c), s.Cols(qkv, 2*c, 3*c)
	heads := attention.HeadColumns{PerGroup: a.Heads}
	attention.Causal(&in, y, q, k, v, nil, heads, invSqrt(c/a.Heads), ctx.Spans, func(i int) *attention.KVCache { return &states(i).KVCache })
	in.Linear(tensor.Product{Dst: dst, X: y, W: a.Proj, Add: ctx.Add})
	in.Run()
}

func invSqrt(n int) float32 { return float32(1 / math.Sqrt(float64(n))) }
