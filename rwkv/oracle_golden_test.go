package rwkv

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// The oracle computes what the golden data says, as exactly as that is stored: in float32. The
// rest of the tolerance, a twentieth of a float32 run's, is for the decay, which is made in float32
// by another exp: a unit in its last place moves logits by up to 3.5e-7 of the largest.
func TestOracleIsRight(t *testing.T) {
	slow(t)
	eachGolden(t, func(t *testing.T, g *golden, m *Model) {
		t.Parallel()
		compared := 0
		same := func(what string, got, want []float64) {
			t.Helper()
			if len(got) != len(want) || len(got) == 0 {
				t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
				return
			}
			var worst, largest float64
			for i := range want {
				worst = max(worst, math.Abs(got[i]-want[i]))
				largest = max(largest, math.Abs(want[i]))
			}
			compared++
			if !(worst <= 0x1p-21*largest) {
				t.Errorf("%s: error %g with numbers up to %g", what, worst, largest)
			}
		}
		for _, l := range g.Lengths {
			if !*long && (l.T > 600 || l.T > 64 && len(g.Chunks) > 0) { // many cases have chunks
				continue
			}
			key := fmt.Sprintf("T%d.", l.T)
			o := newOracle[float64](m)
			o.show = func(layer string, x rows[float64]) {
				if want, ok := g.numbers[key+"act."+layer]; ok {
					same(key+layer, flat(x), want)
				}
			}
			logits, aux := o.forward(g.ids[key+"tokens"])
			same(key+"last_logits", logits[l.T-1], g.numbers[key+"last_logits"])
			if l.AllLogits {
				same(key+"logits", flat(logits), g.numbers[key+"logits"])
			}
			if len(l.AuxLoss) > 0 {
				same(key+"auxiliary losses", aux, l.AuxLoss)
			}
			if targets := g.ids[key+"targets"]; targets != nil {
				same(key+"loss", []float64{o.crossEntropy(logits, targets)}, []float64{l.Loss})
			}
		}
		recorded := 0
		for name := range g.numbers {
			if strings.Contains(name, "logits") || strings.Contains(name, ".act.") {
				recorded++
			}
		}
		if compared < recorded && *long {
			t.Errorf("compared %d of %d recorded outputs", compared, recorded)
		}
	})
}
