package nn

import (
	"microrwkv/tensor"
	"microrwkv/tensor/shift"
)

// ChannelMix is the feed-forward half of an RWKV block (Peng et al., arXiv:2305.13048, with the
// mixing of arXiv:2404.05892):
//
//	k = relu(Key·mix(x, MixK))²
//	y = sigmoid(Receptance·mix(x, MixR)) ⊙ (Value·k)
//
// where mix(x, m) = x + (x' − x) ⊙ m and x' is the row before x.
type ChannelMix struct {
	MixK, MixR *tensor.Tensor // [C]
	Key        Linear         // [F, C]
	Value      Linear         // [C, F]
	Receptance Linear         // [C, C]
}

// Forward computes the layer; see Context.
func (m *ChannelMix) Forward(dst, x *tensor.Tensor, states func(i int) *ChannelMixState, ctx Context) {
	s := ctx.Scratch
	defer s.Release(s.Mark())
	rows, c := x.Dim(0), x.Dim(1)
	xk, xr := s.New(rows, c), s.New(rows, c)
	r, k := s.New(rows, c), s.New(rows, m.Key.Weight.Dim(0)) // [R, C], [R, F]

	shift.Tokens(x, ctx.Spans, func(i int) []float32 {
		if states == nil {
			return nil
		}
		return states(i).Shift
	}, shift.Mixed{Dst: xk, Mix: m.MixK}, shift.Mixed{Dst: xr, Mix: m.MixR})
	kp, rp := m.Key.Product(k, xk), m.Receptance.Product(r, xr)
	kp.Act, rp.Act = tensor.SquareReLU, tensor.Sigmoid
	var q tensor.Sequence
	q.Linear(kp, rp)
	vp := m.Value.Product(dst, k)
	vp.Gate, vp.Add = r, ctx.Add
	q.Linear(vp)
	q.Run()
}
