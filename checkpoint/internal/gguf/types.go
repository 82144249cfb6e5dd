package gguf

import (
	"fmt"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/tensor"
)

// types are the numbers that tensor types have in files (ggml.h).
var types = []struct {
	id    uint32
	dtype store.DType
}{
	{0, tensor.F32}, {1, tensor.F16}, {2, tensor.Q4_0}, {3, tensor.Q4_1}, {6, tensor.Q5_0}, {7, tensor.Q5_1},
	{8, tensor.Q8_0}, {10, tensor.Q2_K}, {11, tensor.Q3_K}, {12, tensor.Q4_K}, {13, tensor.Q5_K},
	{14, tensor.Q6_K}, {20, tensor.IQ4_NL}, {23, tensor.IQ4_XS}, {30, tensor.BF16},
}

// unread names types that files may have and that aren't read.
var unread = map[uint32]string{
	4: "Q4_2, removed from the format", 5: "Q4_3, removed from the format", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS",
	18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
	31: "Q4_0_4_4, removed from the format", 32: "Q4_0_4_8, removed from the format", 33: "Q4_0_8_8, removed from the format",
	34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4, removed from the format", 37: "IQ4_NL_4_8, removed from the format",
	38: "IQ4_NL_8_8, removed from the format", 39: "MXFP4", 40: "NVFP4",
}

// dtypeOf returns the type with a number.
func dtypeOf(id uint32) (store.DType, error) {
	for _, t := range types {
		if t.id == id {
			return t.dtype, nil
		}
	}
	if name, ok := unread[id]; ok {
		return 0, fmt.Errorf("type %d (%s) is not read", id, name)
	}
	return 0, fmt.Errorf("unknown type %d", int32(id))
}

// TypeID returns the number of a type, and whether files have it.
func TypeID(d store.DType) (uint32, bool) {
	for _, t := range types {
		if t.dtype == d {
			return t.id, true
		}
	}
	return 0, false
}

// The types of metadata values.
const (
	Uint8 uint32 = iota
	Int8
	Uint16
	Int16
	Uint32
	Int32
	Float32
	Bool
	String
	Array
	Uint64
	Int64
	Float64
)

// valueSizes are the bytes of the values that have a fixed size.
var valueSizes = map[uint32]int64{
	Uint8: 1, Int8: 1, Uint16: 2, Int16: 2, Uint32: 4, Int32: 4, Float32: 4, Bool: 1, Uint64: 8, Int64: 8, Float64: 8,
}
