package checkpoint

import "microrwkv/checkpoint/internal/store"

// DType is the type of a stored tensor's elements. It has a short name (String), a size in bytes
// (Size), and may be a floating-point number (Float).
type DType = store.DType

// The types of elements. Weights come in the first four; tensors of the others can be listed and
// copied from file to file.
const (
	F32        = store.F32  // IEEE 754 binary32
	BF16       = store.BF16 // the upper half of a binary32
	F16        = store.F16  // IEEE 754 binary16
	F64        = store.F64  // IEEE 754 binary64
	Int64      = store.Int64
	Int32      = store.Int32
	Int16      = store.Int16
	Int8       = store.Int8
	Uint64     = store.Uint64
	Uint32     = store.Uint32
	Uint16     = store.Uint16
	Uint8      = store.Uint8
	Bool       = store.Bool
	Complex64  = store.Complex64
	Complex128 = store.Complex128
	F8E4M3     = store.F8E4M3     // torch.float8_e4m3fn
	F8E5M2     = store.F8E5M2     // torch.float8_e5m2
	F8E8M0     = store.F8E8M0     // torch.float8_e8m0fnu
	F8E4M3FNUZ = store.F8E4M3FNUZ // torch.float8_e4m3fnuz
	F8E5M2FNUZ = store.F8E5M2FNUZ // torch.float8_e5m2fnuz
	F4x2       = store.F4x2       // two numbers in a byte
	Complex32  = store.Complex32
	Bits8      = store.Bits8
	Bits16     = store.Bits16
	QUint8     = store.QUint8 // quantized
	QInt8      = store.QInt8
	QInt32     = store.QInt32
	QUint4x2   = store.QUint4x2
	QUint2x4   = store.QUint2x4
)
