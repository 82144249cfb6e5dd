package store

import "microrwkv/tensor"

// DType is the type of a stored tensor's elements.
type DType = tensor.DType

// DTypes has, for each DType, its name in PyTorch, as a PyTorch storage class, and in safetensors.
var DTypes = [...]struct {
	Torch, Storage, Safe string
}{
	tensor.F32:        {"float32", "FloatStorage", "F32"},
	tensor.BF16:       {"bfloat16", "BFloat16Storage", "BF16"},
	tensor.F16:        {"float16", "HalfStorage", "F16"},
	tensor.F64:        {"float64", "DoubleStorage", "F64"},
	tensor.Int64:      {"int64", "LongStorage", "I64"},
	tensor.Int32:      {"int32", "IntStorage", "I32"},
	tensor.Int16:      {"int16", "ShortStorage", "I16"},
	tensor.Int8:       {"int8", "CharStorage", "I8"},
	tensor.Uint64:     {"uint64", "", "U64"},
	tensor.Uint32:     {"uint32", "", "U32"},
	tensor.Uint16:     {"uint16", "", "U16"},
	tensor.Uint8:      {"uint8", "ByteStorage", "U8"},
	tensor.Bool:       {"bool", "BoolStorage", "BOOL"},
	tensor.Complex64:  {"complex64", "ComplexFloatStorage", "C64"},
	tensor.Complex128: {"complex128", "ComplexDoubleStorage", ""},
	tensor.F8E4M3:     {"float8_e4m3fn", "", "F8_E4M3"},
	tensor.F8E5M2:     {"float8_e5m2", "", "F8_E5M2"},
	tensor.F8E8M0:     {"float8_e8m0fnu", "", "F8_E8M0"},
	tensor.F8E4M3FNUZ: {"float8_e4m3fnuz", "", "F8_E4M3FNUZ"},
	tensor.F8E5M2FNUZ: {"float8_e5m2fnuz", "", "F8_E5M2FNUZ"},
	tensor.F4x2:       {"float4_e2m1fn_x2", "", ""},
	tensor.Complex32:  {"complex32", "", ""},
	tensor.Bits8:      {"bits8", "", ""},
	tensor.Bits16:     {"bits16", "", ""},
	tensor.QUint8:     {"quint8", "QUInt8Storage", ""},
	tensor.QInt8:      {"qint8", "QInt8Storage", ""},
	tensor.QInt32:     {"qint32", "QInt32Storage", ""},
	tensor.QUint4x2:   {"quint4x2", "QUInt4x2Storage", ""},
	tensor.QUint2x4:   {"quint2x4", "QUInt2x4Storage", ""},
	tensor.Q6_K:       {}, // the last of the types that are blocks: there they have no names
}

// Size returns the bytes of one element, or of a block of quantized ones.
func Size(d DType) int64 {
	_, n := d.Block()
	return int64(n)
}

// Bytes returns the bytes of n elements, which are whole blocks.
func Bytes(d DType, n int64) int64 {
	numbers, size := d.Block()
	return n / int64(numbers) * int64(size)
}

// Blocked reports whether a type has blocks of several elements.
func Blocked(d DType) bool {
	numbers, _ := d.Block()
	return numbers > 1
}

// IsWeight reports whether weights of files may have the type: what products read, and float64, which
// is converted.
func IsWeight(d DType) bool { return d.Weight() || d == tensor.F64 }

// dtypeBy returns the DType with a name in one of the columns of dtypes.
func dtypeBy(name string, column func(d DType) string) (DType, bool) {
	for d := tensor.F32; int(d) < len(DTypes); d++ {
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
