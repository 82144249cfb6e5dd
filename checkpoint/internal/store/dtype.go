package store

import "fmt"

// DType is the type of a stored tensor's elements.
type DType uint8

// The types of elements. Weights come in the first four; tensors of the others can be listed and
// copied from file to file.
const (
	F32  DType = iota + 1 // IEEE 754 binary32
	BF16                  // the upper half of a binary32
	F16                   // IEEE 754 binary16
	F64                   // IEEE 754 binary64
	Int64
	Int32
	Int16
	Int8
	Uint64
	Uint32
	Uint16
	Uint8
	Bool
	Complex64
	Complex128
	F8E4M3     // torch.float8_e4m3fn
	F8E5M2     // torch.float8_e5m2
	F8E8M0     // torch.float8_e8m0fnu
	F8E4M3FNUZ // torch.float8_e4m3fnuz
	F8E5M2FNUZ // torch.float8_e5m2fnuz
	F4x2       // two numbers in a byte
	Complex32
	Bits8
	Bits16
	QUint8 // quantized
	QInt8
	QInt32
	QUint4x2
	QUint2x4
)

// DTypes has, for each DType, its name here, in PyTorch, as a PyTorch storage class, and in
// safetensors, and its size in bytes.
var DTypes = [...]struct {
	name, Torch, Storage, Safe string
	size                       int64
}{
	F32:        {"f32", "float32", "FloatStorage", "F32", 4},
	BF16:       {"bf16", "bfloat16", "BFloat16Storage", "BF16", 2},
	F16:        {"f16", "float16", "HalfStorage", "F16", 2},
	F64:        {"f64", "float64", "DoubleStorage", "F64", 8},
	Int64:      {"int64", "int64", "LongStorage", "I64", 8},
	Int32:      {"int32", "int32", "IntStorage", "I32", 4},
	Int16:      {"int16", "int16", "ShortStorage", "I16", 2},
	Int8:       {"int8", "int8", "CharStorage", "I8", 1},
	Uint64:     {"uint64", "uint64", "", "U64", 8},
	Uint32:     {"uint32", "uint32", "", "U32", 4},
	Uint16:     {"uint16", "uint16", "", "U16", 2},
	Uint8:      {"uint8", "uint8", "ByteStorage", "U8", 1},
	Bool:       {"bool", "bool", "BoolStorage", "BOOL", 1},
	Complex64:  {"complex64", "complex64", "ComplexFloatStorage", "C64", 8},
	Complex128: {"complex128", "complex128", "ComplexDoubleStorage", "", 16},
	F8E4M3:     {"f8_e4m3", "float8_e4m3fn", "", "F8_E4M3", 1},
	F8E5M2:     {"f8_e5m2", "float8_e5m2", "", "F8_E5M2", 1},
	F8E8M0:     {"f8_e8m0", "float8_e8m0fnu", "", "F8_E8M0", 1},
	F8E4M3FNUZ: {"f8_e4m3fnuz", "float8_e4m3fnuz", "", "F8_E4M3FNUZ", 1},
	F8E5M2FNUZ: {"f8_e5m2fnuz", "float8_e5m2fnuz", "", "F8_E5M2FNUZ", 1},
	F4x2:       {"f4_x2", "float4_e2m1fn_x2", "", "", 1},
	Complex32:  {"complex32", "complex32", "", "", 4},
	Bits8:      {"bits8", "bits8", "", "", 1},
	Bits16:     {"bits16", "bits16", "", "", 2},
	QUint8:     {"quint8", "quint8", "QUInt8Storage", "", 1},
	QInt8:      {"qint8", "qint8", "QInt8Storage", "", 1},
	QInt32:     {"qint32", "qint32", "QInt32Storage", "", 4},
	QUint4x2:   {"quint4x2", "quint4x2", "QUInt4x2Storage", "", 1},
	QUint2x4:   {"quint2x4", "quint2x4", "QUInt2x4Storage", "", 1},
}

// String returns a short name: "f32", "bf16", "f16", "f64", "int64", "bool" …
func (d DType) String() string {
	if d == 0 || int(d) >= len(DTypes) {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return DTypes[d].name
}

// Size returns the bytes of one element.
func (d DType) Size() int64 { return DTypes[d].size }

// Float reports whether elements are floating-point numbers, eight-bit ones among them.
func (d DType) Float() bool { return IsWeight(d) || d >= F8E4M3 && d <= F4x2 }

// IsWeight reports whether weights may have the type.
func IsWeight(d DType) bool { return d >= F32 && d <= F64 }

// dtypeBy returns the DType with a name in one of the columns of dtypes.
func dtypeBy(name string, column func(d DType) string) (DType, bool) {
	for d := F32; int(d) < len(DTypes); d++ {
		if s := column(d); s != "" && s == name {
			return d, true
		}
	}
	return 0, false
}

// SafeDType returns the DType that safetensors calls name.
func SafeDType(name string) (DType, bool) {
	return dtypeBy(name, func(d DType) string { return DTypes[d].Safe })
}

// StorageDType returns the DType of a class such as torch.FloatStorage.
func StorageDType(name string) (DType, bool) {
	return dtypeBy(name, func(d DType) string { return DTypes[d].Storage })
}

// TorchDType returns the DType of an object such as torch.float32.
func TorchDType(name string) (DType, bool) {
	return dtypeBy(name, func(d DType) string { return DTypes[d].Torch })
}
