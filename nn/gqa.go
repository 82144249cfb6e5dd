package nn

import "microrwkv/tensor"

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
	QKVW  *tensor.Tensor // [4C, C]
	Out   *tensor.Tensor // [C, C]
}

// Forward computes the layer by the published rule; see the package's comment for add and spans.
//
// sic: Q_g, K_g and V_g [T, C/4] are re-read in row-major order as [H, T, d], and for each middle
// index the H rows attend to each other: the softmax is over heads, not positions. The result
// [H, T, d] is re-read as T·C/4 numbers; the four groups' numbers follow each other and are
// re-read as [T, C], so that the first quarter of the positions comes from group 0 and so on, and
// so are the gates. Published logits need it.
func (a *GroupedQueryAttention) Forward(dst, x *tensor.Tensor, add bool, spans Spans, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	c := x.Dim(1)
	z, y := s.New(x.Dim(0), 4*c), s.New(x.Dim(0), c)
	tensor.Linear(tensor.Product{Dst: z, X: x, W: a.QKVW})
	for i := range spans.Len() {
		if from, to := spans[i], spans[i+1]; from < to {
			a.attendHeads(s.Rows(y, from, to), s.Rows(z, from, to), s)
		}
	}
	tensor.Linear(tensor.Product{Dst: dst, X: y, W: a.Out, Add: add})
}

// ForwardLast is Forward for the last row of each sequence alone: dst is [len(spans)−1, C]. Only
// the groups that end up in those rows are computed.
func (a *GroupedQueryAttention) ForwardLast(dst, x *tensor.Tensor, add bool, spans Spans, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	c := x.Dim(1)
	last := s.New(spans.Len(), c)
	for i := range spans.Len() {
		m := s.Mark()
		from, to := spans[i], spans[i+1]
		t := to - from
		first := (t - 1) * groups / t // group that the last row begins in
		weight := s.Rows(a.QKVW, first*c, groups*c)
		z, y := s.New(t, (groups-first)*c), s.New(t*(groups-first), c/groups)
		tensor.Linear(tensor.Product{Dst: z, X: s.Rows(x, from, to), W: weight})
		a.attendHeads(y, z, s)
		data := y.Data()
		copy(last.Row(i), data[len(data)-c:])
		s.Release(m)
	}
	tensor.Linear(tensor.Product{Dst: dst, X: last, W: a.Out, Add: add})
}

// attendHeads computes the published rule for one sequence and some groups: from z [T, G·C] the
// G·T·C/4 numbers of y, in order.
func (a *GroupedQueryAttention) attendHeads(y, z *tensor.Tensor, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	t, c := z.Dim(0), a.Out.Dim(0)
	g, d := z.Dim(1)/c, c/(groups*a.Heads)

	q, k, v := s.New(g*t, a.Heads, d), s.New(g*t, a.Heads, d), s.New(g*t, a.Heads, d)
	gate := s.New(g*t, c/groups)
	slice := s.New(t, c/groups)
	byHead := s.Reshape(slice, a.Heads, t, d) // the re-reading
	for i := range g {
		for j, to := range [...]*tensor.Tensor{q, k, v} {
			slice.CopyFrom(s.Cols(z, i*c+j*c/groups, i*c+(j+1)*c/groups))
			tensor.JoinHeads(s.Rows(s.Reshape(to, g*t, c/groups), i*t, (i+1)*t), byHead)
		}
		s.Rows(gate, i*t, (i+1)*t).CopyFrom(s.Cols(z, i*c+3*c/groups, (i+1)*c))
	}
	out := s.New(g*t, a.Heads, d)
	tensor.Attention(out, q, k, v, invSqrt(d), 0)
	rows := s.Reshape(out, g*t, c/groups)
	joined := s.Reshape(y, g*t, c/groups)
	for i := range g {
		part := s.Rows(joined, i*t, (i+1)*t)
		tensor.SplitHeads(s.Reshape(part, a.Heads, t, d), s.Rows(rows, i*t, (i+1)*t))
	}
	tensor.Mul(joined, joined, gate)
}

// ForwardCausal computes the layer with each head of each group attending to the position itself
// and all before it that the cache holds; see the package's comment for add, spans and states.
func (a *GroupedQueryAttention) ForwardCausal(dst, x *tensor.Tensor, add bool, spans Spans, states func(i int) *KVCache, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	z, y := s.New(rows, 4*c), s.New(rows, c)
	tensor.Linear(tensor.Product{Dst: z, X: x, W: a.QKVW})
	var parts [4]*tensor.Tensor // q, k, v and gate [R, C]: the groups' slices side by side
	for j := range parts {
		parts[j] = s.New(rows, c)
		for g := range groups {
			s.Cols(parts[j], g*c/groups, (g+1)*c/groups).CopyFrom(s.Cols(z, g*c+j*c/groups, g*c+(j+1)*c/groups))
		}
	}
	for i := range spans.Len() {
		from, to := spans[i], spans[i+1]
		states(i).attend(s.Rows(y, from, to), s.Rows(parts[0], from, to), s.Rows(parts[1], from, to), s.Rows(parts[2], from, to), invSqrt(c/(groups*a.Heads)))
	}
	tensor.Mul(y, y, parts[3])
	tensor.Linear(tensor.Product{Dst: dst, X: y, W: a.Out, Add: add})
}
