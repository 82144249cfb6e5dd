package rwkv

import (
	"fmt"
	"slices"
	"strings"

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
	return nameIn(activationFormats[:], "ActivationFormat", a)
}

// ParseActivations returns the format that String calls so.
func ParseActivations(name string) (ActivationFormat, error) {
	return parseIn[ActivationFormat](activationFormats[:], "activations", name)
}

// nameIn returns the name of a choice, and of a number that is none what type it is.
func nameIn[E ~uint8](names []string, of string, choice E) string {
	if int(choice) >= len(names) {
		return fmt.Sprintf("%s(%d)", of, uint8(choice))
	}
	return names[choice]
}

// parseIn returns the choice of a name. The error calls it what.
func parseIn[E ~uint8](names []string, what, name string) (E, error) {
	if i := slices.Index(names, name); i >= 0 {
		return E(i), nil
	}
	last := len(names) - 1
	return 0, fmt.Errorf("%s %q: want %s or %s", what, name, strings.Join(names[:last], ", "), names[last])
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
