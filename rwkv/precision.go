package rwkv

import (
	"fmt"

	"microrwkv/tensor"
)

// ProductPrecision says in which numbers the products of activations with weights multiply.
type ProductPrecision uint8

const (
	// F32Products take the activations and the weights as they are. It is the default.
	F32Products ProductPrecision = iota
	// BF16Products round both to bfloat16 and add in float32, as PyTorch does for a model in bfloat16: on
	// the tiles of AMX or by the bfloat16 instructions of AVX-512. Where kernels lack them, opening a model
	// fails.
	BF16Products
	// PreferBF16Products are BF16Products where the kernels in use have them, else F32Products: see
	// Model.Precision.
	PreferBF16Products
)

var precisions = [...]string{"f32", "bf16", "prefer_bf16"}

// String returns "f32", "bf16" or "prefer_bf16".
func (p ProductPrecision) String() string { return nameIn(precisions[:], "ProductPrecision", p) }

// ParsePrecision returns the precision that String calls so.
func ParsePrecision(name string) (ProductPrecision, error) {
	return parseIn[ProductPrecision](precisions[:], "precision", name)
}

// Precision sets in which numbers products with weights multiply that aren't quantized: for quantized ones
// see Activations. Products in bfloat16 are several times as fast for prompts and batches, and as exact as
// bfloat16 is: 8 bits of each number. All else stays in float32: sums, states, normalisations, recurrences.
// As ever, a sequence's bits don't depend on what is computed beside it or on the number of threads.
func Precision(p ProductPrecision) OpenOption {
	return func(o *openOptions) { o.precision = p }
}

// setPrecision decides on the products, by the kernels in use.
func (o *openOptions) setPrecision() error {
	if o.precision == F32Products {
		return nil
	}
	if !tensor.RoundsActivations(tensor.BF16Activations, tensor.BF16) {
		if o.precision == PreferBF16Products {
			o.precision = F32Products
			return nil
		}
		return fmt.Errorf("rwkv: products in bfloat16: the kernels in use, %s of %v, have none; PreferBF16Products goes on in float32", tensor.Kernel(), tensor.Kernels())
	}
	o.precision, o.ofFloats = BF16Products, tensor.BF16Activations
	return nil
}

// Precision returns in which numbers the model's products multiply, F32Products or BF16Products.
func (m *Model) Precision() ProductPrecision { return m.precision }
