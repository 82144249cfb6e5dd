package rwkv

import (
	"fmt"

	"microrwkv/tensor"
)

// ActivationFormat says what products with quantized weights make of their activations, the rows that they
// multiply the weights with: see Activations.
type ActivationFormat uint8

const (
	// AutoActivations is Q8 beside weights of the formats Q4_K, Q5_K and Q6_K, Float32 beside the others.
	// It is what models are opened with unless they are told otherwise.
	AutoActivations ActivationFormat = iota
	// Float32 leaves activations as they are: the results are exact but for the roundings of float32.
	Float32
	// Q8 rounds activations to 8 bits with a scale for each 32 numbers, beside weights of all formats that
	// have products for it (tensor.RoundsActivations); beside the others they stay float32. A product is
	// off by some thousandths of what its terms come to, less than what 4 bits make of its weights.
	Q8
)

var activationFormats = [...]string{"auto", "f32", "q8"}

// String returns "auto", "f32" or "q8".
func (a ActivationFormat) String() string {
	if int(a) >= len(activationFormats) {
		return fmt.Sprintf("ActivationFormat(%d)", uint8(a))
	}
	return activationFormats[a]
}

// ParseActivations returns the format that String calls so.
func ParseActivations(name string) (ActivationFormat, error) {
	for i, s := range activationFormats {
		if s == name {
			return ActivationFormat(i), nil
		}
	}
	return 0, fmt.Errorf("activations %q: want auto, f32 or q8", name)
}

// Activations says what products with quantized weights make of their activations. Weights in f32, bf16 and
// f16 have float32 activations always.
func Activations(a ActivationFormat) OpenOption { return func(o *openOptions) { o.ofBlocks = a } }

// beside returns what a is beside quantized weights of type d.
func (a ActivationFormat) beside(d tensor.DType) tensor.Activations {
	switch {
	case a == Q8, a == AutoActivations && (d == tensor.Q4_K || d == tensor.Q5_K || d == tensor.Q6_K):
		return tensor.Q8Activations
	}
	return tensor.F32Activations
}
