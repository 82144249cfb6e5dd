package rwkv

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// unscaled returns the model's tensors for files that know no RescaleEvery: what is stored divided by powers of 2 is
// multiplied by them, exactly.
func (m *Model) unscaled() []checkpoint.Named {
	list := m.Tensors()
	for i, n := range list {
		if by := m.storedScale(n.Name); by != 1 {
			list[i].Tensor = scaled(n.Tensor, by)
		}
	}
	return list
}

// storedScale returns what a tensor is stored divided by.
func (m *Model) storedScale(name string) float32 {
	every := m.config.RescaleEvery
	block, end := cutBlock(name)
	if every == 0 || end != "att.output.weight" && end != "ffn.value.weight" {
		return 1
	}
	var number int
	fmt.Sscanf(block, "blocks.%d.", &number)
	return float32(math.Ldexp(1, number/every))
}

// scaled returns w multiplied by a power of 2.
func scaled(w *tensor.Weight, by float32) *tensor.Weight {
	scales := w.DType().Scales()
	if scales == nil {
		x := w.Convert(tensor.F32).Packed().Float32()
		y := tensor.New(x.Shape()...)
		tensor.Scale(y, x, by)
		return y.Weight().Convert(w.DType())
	}
	data := slices.Clone(w.Bytes())
	_, size := w.DType().Block()
	for b := data; len(b) > 0; b = b[size:] {
		for _, at := range scales {
			x := tensor.FromBits(tensor.F16, []uint16{binary.LittleEndian.Uint16(b[at:])}, 1).Float32().Data()[0]
			binary.LittleEndian.PutUint16(b[at:], tensor.RoundF16(x*by))
		}
	}
	return tensor.NewWeight(w.DType(), data, w.Shape()...)
}
