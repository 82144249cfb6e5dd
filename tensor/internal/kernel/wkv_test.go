package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Recurrences of some tokens against float64. With decays of at most 0.9 a state sums the weight
// of at most 10 products; n of them are summed for a result.
func TestRecurrences(t *testing.T) {
	before := active
	defer func() { active = before }()
	eachImpl(t, func(t *testing.T, im *impl) {
		active = im
		rng := rand.New(rand.NewPCG(5, 6))
		for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 13, 15, 16, 19, 22, 31, 32, 48, 64, 80, 96, 128} {
			const tokens = 5
			ld, ldy := n+3, n+5
			in := make([][]float32, 6) // r, k, v, w, a, b
			for i := range in {
				in[i] = uniform(rng, tokens*ld, 1)
			}
			for i := range in[3] {
				in[3][i] = 0.9 * rng.Float32()
				in[4][i] /= float32(n)
			}
			s0 := uniform(rng, n*n, 1)
			at := func(i, token, j int) float64 { return float64(in[i][token*ld+j]) }

			compare := func(what string, y, s []float32, wantY, wantS []float64) {
				t.Helper()
				tol := float64(n+20) * eps32 * 20 * math.Sqrt(float64(n))
				for i := range wantS {
					if !(math.Abs(float64(s[i])-wantS[i]) <= tol) {
						t.Fatalf("%s: n=%d: state[%d] = %g, want %g ± %g", what, n, i, s[i], wantS[i], tol)
					}
				}
				for i := range wantY {
					if got := float64(y[i/n*ldy+i%n]); !(math.Abs(got-wantY[i]) <= tol) {
						t.Fatalf("%s: n=%d: y[%d] = %g, want %g ± %g", what, n, i, got, wantY[i], tol)
					}
				}
			}
			float := func(x []float32) []float64 {
				f := make([]float64, len(x))
				for i, v := range x {
					f[i] = float64(v)
				}
				return f
			}

			const w, u = 0.85, -0.4
			all, y := guarded((tokens-1)*ldy+n, 1)
			allS, s := guarded(n*n, 3)
			copy(s, s0)
			WKV5(y, ldy, s, in[0], in[1], in[2], ld, w, u, n, tokens)
			checkGuards(t, "WKV5", all, len(y), 1)
			checkGuards(t, "WKV5's state", allS, len(s), 3)
			s64, y64 := float(s0), make([]float64, tokens*n)
			for tok := range tokens {
				for i := range n {
					for j := range n {
						kv := at(1, tok, i) * at(2, tok, j)
						y64[tok*n+j] += at(0, tok, i) * (s64[i*n+j] + float64(float32(u))*kv)
						s64[i*n+j] = float64(float32(w))*s64[i*n+j] + kv
					}
				}
			}
			compare("WKV5", y, s, y64, s64)

			copy(s, s0)
			WKV7(y, ldy, s, in[0], in[3], in[1], in[2], in[4], in[5], ld, n, tokens)
			checkGuards(t, "WKV7", all, len(y), 1)
			checkGuards(t, "WKV7's state", allS, len(s), 3)
			s64, y64 = float(s0), make([]float64, tokens*n)
			for tok := range tokens {
				for i := range n {
					var sa float64
					for j := range n {
						sa += s64[i*n+j] * at(4, tok, j)
					}
					for j := range n {
						s64[i*n+j] = s64[i*n+j]*at(3, tok, j) - sa*at(5, tok, j) + at(2, tok, i)*at(1, tok, j)
						y64[tok*n+i] += s64[i*n+j] * at(0, tok, j)
					}
				}
			}
			compare("WKV7", y, s, y64, s64)

			// however the tokens are cut into calls, the bits are the same
			s2 := append([]float32(nil), s0...)
			y2 := make([]float32, len(y))
			for tok := range tokens {
				WKV7(y2[tok*ldy:], ldy, s2, in[0][tok*ld:], in[3][tok*ld:], in[1][tok*ld:], in[2][tok*ld:], in[4][tok*ld:], in[5][tok*ld:], ld, n, 1)
			}
			for i := range s {
				if s[i] != s2[i] {
					t.Fatalf("WKV7: n=%d: other bits token by token", n)
				}
			}
		}
	})
}

// TestRecurrencesSpecial puts NaN and Inf at a place of the state: they reach the results of their
// row (WKV7) or column (WKV5) and no others.
func TestRecurrencesSpecial(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		for _, n := range []int{1, 3, 4, 5, 7, 8, 11, 16, 21, 32} {
			ones, minus, zeros, y, s := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n*n)
			for i := range ones {
				ones[i], minus[i] = 1, -1
			}
			for p := range n {
				for _, v := range []float32{float32(math.NaN()), negInf, -negInf} {
					for what, run := range map[string]func(){
						"WKV5": func() { s[(n-1)*n+p] = v; im.wkv5(y, s, ones, zeros, ones, 0.5, 0.5) },
						"WKV7": func() { s[p*n+n-1] = v; im.wkv7(y, s, ones, ones, zeros, ones, ones, minus) },
					} {
						clear(s)
						run()
						for i := range y {
							want := "finite"
							if i == p {
								want = class(float64(v))
							}
							if got := class(float64(y[i])); got != want {
								t.Fatalf("%s: n=%d: with %g for [%d], y[%d] is %s, want %s", what, n, v, p, i, got, want)
							}
						}
					}
				}
			}
		}
	})
}
