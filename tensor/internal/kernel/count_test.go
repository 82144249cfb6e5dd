package kernel

import "testing"

func TestCountProducts(t *testing.T) {
	before := active
	x, dst := make([]float32, 100), make([]float32, 100)
	count := func() int64 {
		return CountProducts(func() {
			GemmNN(dst, 5, x, 4, x, 5, 3, 5, 4, false)                    // 60
			GemmTN(dst, 5, x, 7, x, 5, 7, 5, 8, false)                    // 280
			GemmNT(dst, 7, x, 6, x, 6, 2, 7, 6, true)                     // 84
			Product(BF16, dst, 2, x, 10, BytesOf(x), 20, 9, 2, 10, false) // 180
			GemmNN(dst, 5, nil, 0, nil, 5, 3, 5, 0, false)                // none
			Product(F32, dst, 2, x, 10, BytesOf(x), 40, 1, 2, 10, false)  // 20, of few rows
		})
	}
	for range 2 {
		if n := count(); n != 60+280+84+180+20 {
			t.Errorf("counted %d", n)
		}
	}
	if active != before {
		t.Error("other kernels are in use")
	}
}
