package tensor

import "microrwkv/tensor/internal/kernel"

func kWKV5(y []float32, ldy int, s, r, k, v []float32, ld int, w, u float32, n, t int) {
	for i := range t {
		kernel.WKV5(y[i*ldy:][:n], s, r[i*ld:][:n], k[i*ld:][:n], v[i*ld:][:n], w, u)
	}
}

func kWKV7(y []float32, ldy int, s, r, w, k, v, a, b []float32, ld, n, t int) {
	for i := range t {
		kernel.WKV7(y[i*ldy:][:n], s, r[i*ld:][:n], w[i*ld:][:n], k[i*ld:][:n], v[i*ld:][:n], a[i*ld:][:n], b[i*ld:][:n])
	}
}
