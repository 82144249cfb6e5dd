package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/attention"
)

// groups is the number of groups of GroupedQueryAttention; each has queries, keys, values and a
// gate of a quarter of C.
const groups = 4

// GroupedQueryAttention is MicroRWKV's gated attention in four groups:
//
//	z = QKVW·x; group g has Q_g, K_g, V_g, G_g = columns g·C + {0,1,2,3}·C/4 …, each [T, C/4]
//	y = Out·joined((softmax(d^−½ Q_g·K_gᵀ)·V_g) ⊙ G_g), in H heads of d = C/4H values
//
// It has two rules for who attends to whom: Forward's, that of the published MicroRWKV, and
// ForwardCausal's.
type GroupedQueryAttention struct {
	Heads int
	QKVW  *tensor.Weight // [4C, C]
	Out   *tensor.Weight // [C, C]
}

// Forward computes the layer by the published rule; see Context.
//
// sic: Q_g, K_g and V_g [T, C/4] are re-read in row-major order as [H, T, d], and for each middle
// index the H rows attend to each other: the softmax is over heads, not positions. The result
// [H, T, d] is re-read as T·C/4 numbers; the four groups' numbers follow each other and are
// re-read as [T, C], so that the first quarter of the positions comes from group 0 and so on, and
// so are the gates. Published logits need it.
func (a *GroupedQueryAttention) Forward(dst, x *tensor.Tensor, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	c := x.Dim(1)
	z, y := s.New(x.Dim(0), 4*c), s.New(x.Dim(0), c)
	var in tensor.Sequence
	in.Linear(tensor.Product{Dst: z, X: x, W: a.QKVW})
	attention.Heads(&in, y, z, a.Heads, groups, a.scale(c), ctx.Spans, false)
	in.Linear(tensor.Product{Dst: dst, X: y, W: a.Out, Add: ctx.Add})
	in.Run()
}

// ForwardLast is Forward for the last row of each sequence alone: dst is [len(spans)−1, C]. Only
// the groups that end up in those rows are computed. No sequence may be empty.
func (a *GroupedQueryAttention) ForwardLast(dst, x *tensor.Tensor, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	c := x.Dim(1)
	first := groups - 1 // group that the last row of a sequence begins in, the first of them
	for i := range ctx.Spans.Len() {
		t := ctx.Spans[i+1] - ctx.Spans[i]
		first = min(first, (t-1)*groups/t)
	}
	z, last := s.New(x.Dim(0), (groups-first)*c), s.New(ctx.Spans.Len(), c)
	var in tensor.Sequence
	in.Linear(tensor.Product{Dst: z, X: x, W: a.QKVW.Rows(first*c, groups*c)})
	attention.Heads(&in, last, z, a.Heads, groups-first, a.scale(c), ctx.Spans, true)
	in.Linear(tensor.Product{Dst: dst, X: last, W: a.Out, Add: ctx.Add})
	in.Run()
}

// scale is d^−½.
func (a *GroupedQueryAttention) scale(c int) float32 { return invSqrt(c / (groups * a.Heads)) }

// ForwardCausal computes the layer with each head of each group attending to the position itself
// and all before it that the cache holds; see Context.
func (a *GroupedQueryAttention) ForwardCausal(dst, x *tensor.Tensor, states func(i int) *KVCache, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	z, y := s.New(rows, 4*c), s.New(rows, c)
	var in tensor.Sequence
	in.Linear(tensor.Product{Dst: z, X: x, W: a.QKVW})
	var parts [4]*tensor.Tensor // q, k, v and gate of the first group; the others' lie a group further on
	for j := range parts {
		parts[j] = s.Cols(z, j*c/groups, (groups-1)*c+(j+1)*c/groups)
	}
	heads := attention.HeadColumns{PerGroup: a.Heads, Stride: c}
	attention.Causal(&in, y, parts[0], parts[1], parts[2], parts[3], heads, a.scale(c), ctx.Spans, func(i int) *attention.KVCache { return &states(i).KVCache })
	in.Linear(tensor.Product{Dst: dst, X: y, W: a.Out, Add: ctx.Add})
	in.Run()
}
