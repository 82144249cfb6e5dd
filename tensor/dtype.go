package tensor

import "microrwkv/tensor/internal/kernel"

// DType says how numbers are stored. It has a short name (String), a size (Bytes, Block), and may be
// a floating-point number (Float) or the type of a weight that products read (Weight). The types are
// the rows of one table, in tensor/internal/kernel/dtype.go, which says how another one is added;
// the number that GGUF has for it is a row in checkpoint/internal/gguf/types.go, and llama.cpp's name for such a
// model one of fileTypes in rwkv/ggufsave.go.
type DType = kernel.DType

// Weights come in the first three and in blocks; tensors of the others can be listed, and copied from file
// to file.
const (
	F32        = kernel.F32  // IEEE 754 binary32
	BF16       = kernel.BF16 // bfloat16: the upper half of a binary32
	F16        = kernel.F16  // IEEE 754 binary16
	F64        = kernel.F64  // IEEE 754 binary64
	Int64      = kernel.Int64
	Int32      = kernel.Int32
	Int16      = kernel.Int16
	Int8       = kernel.Int8
	Uint64     = kernel.Uint64
	Uint32     = kernel.Uint32
	Uint16     = kernel.Uint16
	Uint8      = kernel.Uint8
	Bool       = kernel.Bool
	Complex64  = kernel.Complex64
	Complex128 = kernel.Complex128
	F8E4M3     = kernel.F8E4M3     // torch.float8_e4m3fn
	F8E5M2     = kernel.F8E5M2     // torch.float8_e5m2
	F8E8M0     = kernel.F8E8M0     // torch.float8_e8m0fnu
	F8E4M3FNUZ = kernel.F8E4M3FNUZ // torch.float8_e4m3fnuz
	F8E5M2FNUZ = kernel.F8E5M2FNUZ // torch.float8_e5m2fnuz
	F4x2       = kernel.F4x2       // two numbers in a byte
	Complex32  = kernel.Complex32
	Bits8      = kernel.Bits8
	Bits16     = kernel.Bits16
	QUint8     = kernel.QUint8 // quantized
	QInt8      = kernel.QInt8
	QInt32     = kernel.QInt32
	QUint4x2   = kernel.QUint4x2
	QUint2x4   = kernel.QUint2x4

	// Blocks of quantized weights, named as in GGUF.
	Q8_0   = kernel.Q8_0
	Q4_0   = kernel.Q4_0
	Q4_1   = kernel.Q4_1
	Q5_0   = kernel.Q5_0
	Q5_1   = kernel.Q5_1
	IQ4_NL = kernel.IQ4_NL
	IQ4_XS = kernel.IQ4_XS
	Q2_K   = kernel.Q2_K
	Q3_K   = kernel.Q3_K
	Q4_K   = kernel.Q4_K
	Q5_K   = kernel.Q5_K
	Q6_K   = kernel.Q6_K
)
