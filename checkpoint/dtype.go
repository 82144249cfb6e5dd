package checkpoint

import "microrwkv/tensor"

// DType is the type of a stored tensor's elements. It has a short name (String), a size in bytes
// (Bytes), and may be a floating-point number (Float).
type DType = tensor.DType

// The types of elements. Weights come in the first four and in blocks; tensors of the others
// can be listed and copied from file to file.
const (
	F32        = tensor.F32  // IEEE 754 binary32
	BF16       = tensor.BF16 // the upper half of a binary32
	F16        = tensor.F16  // IEEE 754 binary16
	F64        = tensor.F64  // IEEE 754 binary64
	Int64      = tensor.Int64
	Int32      = tensor.Int32
	Int16      = tensor.Int16
	Int8       = tensor.Int8
	Uint64     = tensor.Uint64
	Uint32     = tensor.Uint32
	Uint16     = tensor.Uint16
	Uint8      = tensor.Uint8
	Bool       = tensor.Bool
	Complex64  = tensor.Complex64
	Complex128 = tensor.Complex128
	F8E4M3     = tensor.F8E4M3     // torch.float8_e4m3fn
	F8E5M2     = tensor.F8E5M2     // torch.float8_e5m2
	F8E8M0     = tensor.F8E8M0     // torch.float8_e8m0fnu
	F8E4M3FNUZ = tensor.F8E4M3FNUZ // torch.float8_e4m3fnuz
	F8E5M2FNUZ = tensor.F8E5M2FNUZ // torch.float8_e5m2fnuz
	F4x2       = tensor.F4x2       // two numbers in a byte
	Complex32  = tensor.Complex32
	Bits8      = tensor.Bits8
	Bits16     = tensor.Bits16
	QUint8     = tensor.QUint8 // quantized
	QInt8      = tensor.QInt8
	QInt32     = tensor.QInt32
	QUint4x2   = tensor.QUint4x2
	QUint2x4   = tensor.QUint2x4

	// Blocks of quantized weights, named as in GGUF.
	Q8_0   = tensor.Q8_0
	Q4_0   = tensor.Q4_0
	Q4_1   = tensor.Q4_1
	Q5_0   = tensor.Q5_0
	Q5_1   = tensor.Q5_1
	IQ4_NL = tensor.IQ4_NL
	IQ4_XS = tensor.IQ4_XS
	Q2_K   = tensor.Q2_K
	Q3_K   = tensor.Q3_K
	Q4_K   = tensor.Q4_K
	Q5_K   = tensor.Q5_K
	Q6_K   = tensor.Q6_K
)
