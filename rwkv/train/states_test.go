package train

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// TestTunedStatesAreLoaded tunes the states of an official model's versions on a text, without training its
// weights: with the file of them the text's loss is what the trainer says, and lower than without.
func TestTunedStatesAreLoaded(t *testing.T) {
	for _, c := range []rwkv.Config{{Kind: rwkv.RWKV5, Version: "5.0"}, {Kind: rwkv.RWKV5, Version: "5.1"}, {Kind: rwkv.RWKV5, Version: "5.2"},
		{Kind: rwkv.RWKV6}, {Kind: rwkv.RWKV6, AttDim: 48}, {Kind: rwkv.RWKV7}} {
		t.Run(string(c.Kind)+c.Version, func(t *testing.T) {
			c.VocabSize, c.NumLayers, c.NumHeads, c.EmbedDim = 40, 2, 2, 32
			m, err := rwkv.Random(c, tensor.BF16, 3)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			model, state := filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "state.pth")
			if err := m.Save(model); err != nil {
				t.Fatal(err)
			}
			src := &randomBatches{}
			for i := range 2 { // "abcabc…" by ids
				x, y := make([]int, 70+i), make([]int, 70+i)
				for j := range x {
					x[j], y[j] = 7*(j%5)+i, 7*((j+1)%5)+i
				}
				src.x, src.y = append(src.x, x), append(src.y, y)
			}
			trainee, err := m.Trainee()
			if err != nil {
				t.Fatal(err)
			}
			o := Defaults(c.Kind)
			o.MaxIters, o.LearningRate, o.DecayLR = 20, 1, false
			tr, err := NewStates(trainee, o, src)
			if err != nil {
				t.Fatal(err)
			}
			for range o.MaxIters {
				if _, err := tr.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := tr.Save(state); err != nil {
				t.Fatal(err)
			}
			tuned, err := rwkv.Open(model, rwkv.InitialState(state))
			if err != nil {
				t.Fatal(err)
			}
			defer tuned.Close()
			for i, x := range src.x {
				want, err := tr.model.Loss(src.x[i:i+1], src.y[i:i+1])
				if err != nil {
					t.Fatal(err)
				}
				before, err := m.Score(x, src.y[i])
				if err != nil {
					t.Fatal(err)
				}
				after, err := tuned.Score(x, src.y[i])
				if err != nil {
					t.Fatal(err)
				}
				// bf16 weights are the same numbers in float32; both passes round in float32
				if !(math.Abs(after.Loss-want.Entropy) < 1e-4) || !(after.Loss < before.Loss-0.01) {
					t.Errorf("loss %v, tuned %v; the trainer says %v", before.Loss, after.Loss, want.Entropy)
				}
			}
		})
	}
}

// TestGroups5 has the parameters where RWKV-LM has them.
func TestGroups5(t *testing.T) {
	for _, k := range []rwkv.Kind{rwkv.RWKV5, rwkv.RWKV6} {
		tr := newModel(t, rwkv.Config{Kind: k, VocabSize: 9, NumLayers: 2, NumHeads: 2, EmbedDim: 32})
		params := tr.Parameters()
		seen := 0
		for _, g := range rwkvLM5Groups(params, 0.1) {
			last := ""
			for _, i := range g.members {
				name := params[i].Name
				seen++
				if name <= last {
					t.Errorf("%s after %s", name, last)
				}
				last = name
				decays := strings.HasSuffix(name, ".weight") && !strings.Contains(name, "ln")
				faster := strings.HasSuffix(name, "time_decay")
				if (g.decay != 0) != decays || (g.scale == 2) != faster || g.scale == 3 {
					t.Errorf("%s: decay %v, rate times %v", name, g.decay, g.scale)
				}
			}
		}
		if seen != len(params) {
			t.Errorf("%s: %d parameters of %d", k, seen, len(params))
		}
		if g := rwkvLM5Groups(params, 0); len(g) != 2 {
			t.Errorf("%s: %d groups without decay", k, len(g))
		}
	}
	early := []rwkv.Parameter{{Name: "blocks.0.att.time_first", Shape: []int{2}}}
	if g := rwkvLM5Groups(early, 0.1); len(g) != 1 || g[0].scale != 3 {
		t.Errorf("%+v", g)
	}
}
