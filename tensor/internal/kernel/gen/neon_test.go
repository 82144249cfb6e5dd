package main

import (
	"fmt"
	"go/constant"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// The words are what GNU as makes of the instructions beside them.
func TestEncode(t *testing.T) {
	for _, test := range []struct {
		write func(f neonFile)
		want  string
	}{
		{func(f neonFile) { f.vec("FADD", 1, 2, 31) }, "0x4e3fd441 // FADD V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FSUB", 1, 2, 31) }, "0x4ebfd441 // FSUB V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FMUL", 1, 2, 31) }, "0x6e3fdc41 // FMUL V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FDIV", 1, 2, 31) }, "0x6e3ffc41 // FDIV V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FMAX", 1, 2, 31) }, "0x4e3ff441 // FMAX V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FMIN", 1, 2, 31) }, "0x4ebff441 // FMIN V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FADDP", 1, 2, 31) }, "0x6e3fd441 // FADDP V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FCMGT", 1, 2, 31) }, "0x6ebfe441 // FCMGT V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("FABS", 17, 30, 0) }, "0x4ea0fbd1 // FABS V17.4S, V30.4S"},
		{func(f neonFile) { f.vec("FRINTN", 17, 30, 0) }, "0x4e218bd1 // FRINTN V17.4S, V30.4S"},
		{func(f neonFile) { f.vec("FCVTNS", 17, 30, 0) }, "0x4e21abd1 // FCVTNS V17.4S, V30.4S"},
		{func(f neonFile) { f.vec("SSHR", 17, 30, 1) }, "0x4f3f07d1 // SSHR V17.4S, V30.4S, #1"},
		{func(f neonFile) { f.vec("SSHR", 17, 30, 31) }, "0x4f2107d1 // SSHR V17.4S, V30.4S, #31"},
		{func(f neonFile) { f.vec("SHLL", 17, 30, 0) }, "0x2e613bd1 // SHLL V17.4S, V30.4H, #16"},
		{func(f neonFile) { f.vec("SHLL2", 17, 30, 0) }, "0x6e613bd1 // SHLL2 V17.4S, V30.8H, #16"},
		{func(f neonFile) { f.vec("FCVTL", 17, 30, 0) }, "0x0e217bd1 // FCVTL V17.4S, V30.4H"},
		{func(f neonFile) { f.vec("FCVTL2", 17, 30, 0) }, "0x4e217bd1 // FCVTL2 V17.4S, V30.8H"},
		{func(f neonFile) { f.vec("FMAXV", 17, 30, 0) }, "0x6e30fbd1 // FMAXV S17, V30.4S"},
		{func(f neonFile) { f.vec("USHR", 17, 30, 16) }, "0x6f3007d1 // USHR V17.4S, V30.4S, #16"},
		{func(f neonFile) { f.vec("XTN", 17, 30, 0) }, "0x0e612bd1 // XTN V17.4H, V30.4S"},
		{func(f neonFile) { f.vec("XTN2", 17, 30, 0) }, "0x4e612bd1 // XTN2 V17.8H, V30.4S"},
		{func(f neonFile) { f.vec("XTNB", 17, 30, 0) }, "0x0e212bd1 // XTN V17.8B, V30.8H"},
		{func(f neonFile) { f.vec("XTNB2", 17, 30, 0) }, "0x4e212bd1 // XTN2 V17.16B, V30.8H"},
		{func(f neonFile) { f.vec("SCVTF", 17, 30, 0) }, "0x4e21dbd1 // SCVTF V17.4S, V30.4S"},
		{func(f neonFile) { f.vec("NEG", 17, 30, 0) }, "0x6ea0bbd1 // NEG V17.4S, V30.4S"},
		{func(f neonFile) { f.vec("FNEG", 17, 30, 0) }, "0x6ea0fbd1 // FNEG V17.4S, V30.4S"},
		{func(f neonFile) { f.vec("MUL", 1, 2, 31) }, "0x4ebf9c41 // MUL V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("SADDLP", 17, 30, 0) }, "0x4e602bd1 // SADDLP V17.4S, V30.8H"},
		{func(f neonFile) { f.vec("ADDP", 1, 2, 31) }, "0x4ebfbc41 // ADDP V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("SMAX", 1, 2, 31) }, "0x4ebf6441 // SMAX V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("CMGT", 1, 2, 31) }, "0x4ebf3441 // CMGT V1.4S, V2.4S, V31.4S"},
		{func(f neonFile) { f.vec("BIC", 1, 2, 31) }, "0x4e7f1c41 // BIC V1.16B, V2.16B, V31.16B"},
		{func(f neonFile) { f.vec("SMULL", 1, 2, 31) }, "0x0e3fc041 // SMULL V1.8H, V2.8B, V31.8B"},
		{func(f neonFile) { f.vec("SMULL2", 1, 2, 31) }, "0x4e3fc041 // SMULL2 V1.8H, V2.16B, V31.16B"},
		{func(f neonFile) { f.vec("SMLAL", 1, 2, 31) }, "0x0e3f8041 // SMLAL V1.8H, V2.8B, V31.8B"},
		{func(f neonFile) { f.vec("SMLAL2", 1, 2, 31) }, "0x4e3f8041 // SMLAL2 V1.8H, V2.16B, V31.16B"},
		{func(f neonFile) { f.vec("SMAXV", 17, 30, 0) }, "0x4eb0abd1 // SMAXV S17, V30.4S"},
		{func(f neonFile) { f.vec("ADDV", 17, 30, 0) }, "0x4eb1bbd1 // ADDV S17, V30.4S"},
		{func(f neonFile) { f.vec("SXTLB", 17, 30, 0) }, "0x0f08a7d1 // SXTL V17.8H, V30.8B"},
		{func(f neonFile) { f.vec("SXTLB2", 17, 30, 0) }, "0x4f08a7d1 // SXTL2 V17.8H, V30.16B"},
		{func(f neonFile) { f.vec("SXTLH", 17, 30, 0) }, "0x0f10a7d1 // SXTL V17.4S, V30.4H"},
		{func(f neonFile) { f.vec("SXTLH2", 17, 30, 0) }, "0x4f10a7d1 // SXTL2 V17.4S, V30.8H"},
		{func(f neonFile) { f.vec("CMTST", 1, 2, 31) }, "0x4e3f8c41 // CMTST V1.16B, V2.16B, V31.16B"},
		{func(f neonFile) { f.element("FMUL", 1, 2, 29, 3) }, "0x4fbd9841 // FMUL V1.4S, V2.4S, V29.S[3]"},
		{func(f neonFile) { f.element("SDOT", 1, 2, 29, 3) }, "0x4fbde841 // SDOT V1.4S, V2.16B, V29.4B[3]"},
		{func(f neonFile) { f.element("FMLA", 1, 2, 29, 0) }, "0x4f9d1041 // FMLA V1.4S, V2.4S, V29.S[0]"},
		{func(f neonFile) { f.element("FMLA", 1, 2, 29, 1) }, "0x4fbd1041 // FMLA V1.4S, V2.4S, V29.S[1]"},
		{func(f neonFile) { f.element("FMLA", 1, 2, 29, 2) }, "0x4f9d1841 // FMLA V1.4S, V2.4S, V29.S[2]"},
		{func(f neonFile) { f.element("FMLS", 1, 2, 29, 3) }, "0x4fbd5841 // FMLS V1.4S, V2.4S, V29.S[3]"},
		{func(f neonFile) { f.loadHalf(17, 9) }, "0x7d400131 // LDR H17, [X9]"},
		{func(f neonFile) { f.prefetch(9, 5, false) }, "0xf8a56920 // PRFM PLDL1KEEP, [X9, X5]"},
		{func(f neonFile) { f.prefetch(9, 5, true) }, "0xf8a56921 // PRFM PLDL1STRM, [X9, X5]"},
	} {
		f := neonFile{newFile(false)}
		test.write(f)
		f.flush()
		name, args, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(f.out.String()), ")"), "(")
		_, define, _ := strings.Cut(f.macros.String(), "#define "+name+"(")
		params, expression, _ := strings.Cut(define, ") WORD $")
		values := strings.Split(args, ", ")
		for i, p := range strings.Split(params, ", ") {
			expression = strings.ReplaceAll(expression, "("+p+")", values[i])
		}
		v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, expression)
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		want, _, _ := strings.Cut(test.want, " ")
		if got, _ := constant.Uint64Val(constant.ToInt(v.Value)); fmt.Sprintf("0x%08x", got) != want {
			t.Errorf("%s(%s) = 0x%08x, want %s", name, args, got, test.want)
		}
	}
}
