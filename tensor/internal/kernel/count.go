package kernel

import "sync/atomic"

// CountProducts runs f and returns how many multiply-adds its products of matrices were, but for those of
// rounded activations: what kernels were asked for, whether it is masked later or not. Nothing else may use
// the package meanwhile. It is for benchmarks.
func CountProducts(f func()) int64 {
	var count atomic.Int64
	before := active
	im := *before
	matrices := func(p matrixProduct) matrixProduct {
		if p == nil {
			return nil
		}
		return func(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
			count.Add(int64(m) * int64(n) * int64(k))
			p(dst, ldd, a, lda, b, ldb, m, n, k, acc)
		}
	}
	im.gemmNN, im.gemmTN = matrices(im.gemmNN), matrices(im.gemmTN)
	counted := func(p weightProduct) weightProduct {
		if p == nil {
			return nil
		}
		return func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
			count.Add(int64(m) * int64(n) * int64(k))
			p(dst, ldd, x, ldx, w, ldw, m, n, k, acc)
		}
	}
	for d := range im.products {
		im.products[d], im.few[d].product = counted(im.products[d]), counted(im.few[d].product)
	}
	active = &im
	defer func() { active = before }()
	f()
	return count.Load()
}
