package nn_test

import (
	"fmt"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// A layer adds its output to what a row holds: the residual step.
func ExampleChannelMix7() {
	half := func() *tensor.Tensor { return tensor.FromSlice([]float32{0.5, 0.5}, 2) }
	m := nn.ChannelMix7{
		MixK:  half(), // blends a row with the one before it
		Key:   nn.Linear{Weight: tensor.FromSlice([]float32{1, 0, 0, 1, 1, 1}, 3, 2).Weight()},
		Value: nn.Linear{Weight: tensor.FromSlice([]float32{1, 0, 0, 0, 1, 0}, 2, 3).Weight()},
	}
	state := nn.NewChannelMixState(2)
	x := tensor.FromSlice([]float32{2, 4, 6, 8}, 2, 2) // two rows of one sequence
	var scratch tensor.Scratch
	m.Forward(x, x, func(int) *nn.ChannelMixState { return &state }, nn.Context{Spans: nn.Spans{0, 2}, Add: true, Scratch: &scratch})
	fmt.Println(x)
	fmt.Println(state.Shift) // what the next row will be blended with
	// Output:
	// [[3 8] [22 44]]
	// [6 8]
}
