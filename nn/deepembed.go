package nn

import "microrwkv/tensor"

// DeepEmbed is what RWKV-7a adds to its channel mix: each token's id has a small matrix M, which says
// from the layer's input x how much of each inner channel passes.
//
//	M = (Table[id] + FromEmbedding·e) as [D, D]
//	y = x·W1·M·W2 + Bias
//
// e is the token's normalized embedding. Of Table only the rows of the tokens at hand are read.
type DeepEmbed struct {
	Table         *tensor.Weight // [V, D·D]
	FromEmbedding Linear         // [D·D, C]
	Through       LowRank        // from C by D to F
}

// Forward writes y [R, F] for x and embedding [R, C]. dst must not overlap them.
func (m *DeepEmbed) Forward(dst, x *tensor.Tensor, ids []int, embedding *tensor.Tensor, s *tensor.Scratch) {
	defer s.Release(s.Mark())
	rows, d := x.Dim(0), m.Through.Down.Dim(0)
	matrices, middle, z := s.New(rows, d*d), s.New(rows, d), s.New(rows, d)
	Embedding{Weight: m.Table}.Forward(matrices, ids)
	fp := m.FromEmbedding.Product(matrices, embedding)
	fp.Add = true
	tensor.Linear(fp, tensor.Product{Dst: middle, X: x, W: m.Through.Down})
	tensor.RowProducts(z, middle, matrices)
	tensor.Linear(tensor.Product{Dst: dst, X: z, W: m.Through.Up, Bias: m.Through.Bias})
}
