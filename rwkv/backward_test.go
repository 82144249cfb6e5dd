package rwkv

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// TestOracleAgreesWithBackward compares gradients with differences of the float64 oracle's
// loss, along a random direction of each parameter, for models of random shapes.
func TestOracleAgreesWithBackward(t *testing.T) {
	for k, shapes := range map[Kind][]Config{
		X051a:     {{BlockSize: 80, NumLayers: 2, NumHeads: 3, EmbedDim: 15, Bias: true}, {BlockSize: 70, NumLayers: 1, NumHeads: 1, EmbedDim: 16}},
		Causal:    {{BlockSize: 40, NumLayers: 2, NumHeads: 2, EmbedDim: 24, Bias: true, NumExperts: 5, NumActiveExperts: 3, ExpertDim: 7}},
		Reference: {{BlockSize: 300, NumLayers: 1, NumHeads: 3, EmbedDim: 12, NumExperts: 2, NumActiveExperts: 2, ExpertDim: 5}},
		RWKV5: {{Version: "5.0", NumLayers: 2, NumHeads: 3, EmbedDim: 15, FFNDim: 20}, {Version: "5.1", NumLayers: 1, NumHeads: 2, EmbedDim: 14, AttDim: 22, FFNDim: 31},
			{Version: "5.2", NumLayers: 2, NumHeads: 2, EmbedDim: 24, FFNDim: 30, HeadNormEps: 1e-2}},
		RWKV6: {{NumLayers: 2, NumHeads: 3, EmbedDim: 18, FFNDim: 25}, {NumLayers: 1, NumHeads: 1, EmbedDim: 17, AttDim: 20, FFNDim: 33, NormEps: 1e-2}},
		RWKV7: {{NumLayers: 2, NumHeads: 1, EmbedDim: 64, FFNDim: 70}},
	} {
		for i, c := range shapes {
			t.Run(fmt.Sprint(k, i), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(i), 3))
				c.Kind, c.VocabSize = k, 11+rng.IntN(9)
				lengths := []int{1, min(c.BlockSize, 67), 5}
				if k == RWKV5 || k == RWKV6 {
					lengths = []int{1, 75, 5, 16}
				}
				if k == Reference {
					lengths = []int{1, 9, 258} // the last beyond the window
				}
				if k == RWKV7 {
					lengths = []int{1, 19}
				}
				checkBackward(t, c, lengths, rng)
			})
		}
	}
}

func checkBackward(t *testing.T, c Config, lengths []int, rng *rand.Rand) {
	m, err := Random(c, tensor.F32, rng.Uint64())
	if err != nil {
		t.Fatal(err)
	}
	checkModelBackward(t, m, lengths, rng)
}

func checkModelBackward(t *testing.T, m *Model, lengths []int, rng *rand.Rand) {
	c := m.Config()
	var x, y [][]int
	targets := 0
	for _, n := range lengths {
		ids, want := make([]int, n), make([]int, n)
		for i := range ids {
			ids[i], want[i] = rng.IntN(c.VocabSize), rng.IntN(c.VocabSize)
			if i+1 < n && rng.IntN(4) == 0 {
				want[i] = IgnoreTarget
			} else {
				targets++
			}
		}
		x, y = append(x, ids), append(y, want)
	}
	const auxCoef, l2, scale = 3, 0.05, 2
	tr, err := m.Trainee()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Backward(x, y, LossOptions{AuxCoef: auxCoef, L2Wrap: l2, Scale: scale}); err != nil {
		t.Fatal(err)
	}
	o := newOracle[float64](m)
	loss := func() (sum float64) {
		for i, ids := range x {
			logits, aux := o.forward(ids)
			for p, target := range y[i] {
				if target == IgnoreTarget {
					continue
				}
				top := math.Inf(-1)
				for _, v := range logits[p] {
					top = max(top, v)
				}
				sum += (o.crossEntropy(logits[p:p+1], []int{target}) + l2*0.5*top*top) / float64(targets)
			}
			for _, a := range aux {
				sum += auxCoef * a / float64(len(x))
			}
		}
		return scale * sum
	}
	var all float64
	for _, p := range tr.Parameters() {
		for _, g := range p.Grad {
			all += float64(g) * float64(g)
		}
	}
	for _, p := range tr.Parameters() {
		w := o.matrix(p.Name)
		n := len(w[0])
		d := make([]float64, len(p.Value))
		var got, norm float64
		for i := range d {
			d[i] = rng.NormFloat64()
			got += d[i] * float64(p.Grad[i])
			norm += float64(p.Grad[i]) * float64(p.Grad[i])
		}
		step := 1e-6
		if strings.HasSuffix(p.Name, "time_decay") {
			step = 1e-4 // the oracle rounds decays to float32
		}
		move := func(by float64) {
			for i := range d {
				w[i/n][i%n] += by * d[i]
			}
		}
		move(step)
		want := loss()
		move(-2 * step)
		want = (want - loss()) / (2 * step)
		move(step)
		if bound := 2e-3*math.Sqrt(norm) + 2e-5*math.Sqrt(all); !(math.Abs(got-want) <= bound) {
			t.Errorf("%s: %.6g along a direction, the differences say %.6g (± %.2g)", p.Name, got, want, bound)
		}
	}
}

// TestBackwardOnThreads wants the same bits at any number of threads.
func TestBackwardOnThreads(t *testing.T) {
	defer tensor.SetThreads(0)
	for _, k := range []Kind{Reference, Causal, X051a, RWKV5, RWKV6, RWKV7} {
		c := Config{Kind: k, BlockSize: 90, VocabSize: 300, NumLayers: 2, NumHeads: 2, EmbedDim: 128, NumExperts: 3, NumActiveExperts: 2, ExpertDim: 30, Bias: true}
		m, err := Random(c, tensor.F32, 4)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		var x, y [][]int
		for _, n := range []int{90, 33, 90, 1} {
			ids := make([]int, n)
			for i := range ids {
				ids[i] = rng.IntN(c.VocabSize)
			}
			x, y = append(x, ids), append(y, ids)
		}
		var want []Parameter
		for _, threads := range []int{1, 2, 5} {
			tensor.SetThreads(threads)
			tr, err := m.Trainee()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // memory that was used before
				if _, err := tr.Backward(x, y, LossOptions{AuxCoef: 1, L2Wrap: 1e-4, Scale: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if want == nil {
				want = tr.Parameters()
				continue
			}
			for i, p := range tr.Parameters() {
				for j, g := range p.Grad {
					if math.Float32bits(g) != math.Float32bits(want[i].Grad[j]) {
						t.Fatalf("%s: %s[%d] is %v on %d threads, %v on one", k, p.Name, j, g, threads, want[i].Grad[j])
					}
				}
			}
		}
	}
}

// TestTuneStates compares the gradients of initial states with differences, and moves no weight.
func TestTuneStates(t *testing.T) {
	for _, k := range []Kind{Causal, X051a, RWKV5, RWKV6, RWKV7} {
		c := Config{Kind: k, BlockSize: 90, VocabSize: 20, NumLayers: 2, NumHeads: 1, EmbedDim: 64, NumExperts: 2, NumActiveExperts: 2, ExpertDim: 9}
		m, err := Random(c, tensor.F32, 4)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := m.Trainee()
		if err != nil {
			t.Fatal(err)
		}
		states, err := tr.TuneStates()
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		var x, y [][]int
		for _, n := range []int{70, 3, 18} {
			ids := make([]int, n)
			for i := range ids {
				ids[i] = rng.IntN(c.VocabSize)
			}
			x, y = append(x, ids), append(y, ids)
		}
		for _, s := range states {
			for i := range s.Value {
				s.Value[i] = float32(0.3 * rng.NormFloat64())
			}
		}
		if _, err := tr.Backward(x, y, LossOptions{Scale: 1}); err != nil {
			t.Fatal(err)
		}
		for _, p := range tr.Parameters() {
			for _, g := range p.Grad {
				if g != 0 {
					t.Fatalf("%s: %s has a gradient", k, p.Name)
				}
			}
		}
		for _, s := range states {
			const step = 3e-2 // the forward pass is in float32
			d := make([]float32, len(s.Value))
			var got, norm float64
			for i := range d {
				d[i] = float32(rng.NormFloat64())
				got += float64(d[i]) * float64(s.Grad[i])
				norm += float64(s.Grad[i]) * float64(s.Grad[i])
			}
			loss := func(by float32) float64 {
				for i := range d {
					s.Value[i] += by * d[i]
				}
				l, err := tr.Loss(x, y)
				if err != nil {
					t.Fatal(err)
				}
				return l.Entropy
			}
			want := loss(step)
			want = (want - loss(-2*step)) / (2 * step)
			loss(step)
			if !(math.Abs(got-want) <= 2e-2*math.Sqrt(norm)) || norm == 0 {
				t.Errorf("%s: %s: %.6g along a direction, the differences say %.6g (norm %.3g)", k, s.Name, got, want, math.Sqrt(norm))
			}
		}
	}
}

// TestTraineeOfOtherLayouts trains the bonus' logarithm of early 5.0, and a model whose weights are stored divided
// as if they weren't.
func TestTraineeOfOtherLayouts(t *testing.T) {
	m, err := Random(Config{Kind: RWKV5, Version: "5.0", VocabSize: 11, NumLayers: 1, NumHeads: 2, EmbedDim: 12, FFNDim: 9}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	f := &file{tensors: map[string]*tensor.Weight{}}
	for _, w := range m.Tensors() {
		f.put(strings.ReplaceAll(w.Name, "time_faaaa", "time_first"), w.Tensor)
	}
	early, err := f.open(t)
	if err != nil {
		t.Fatal(err)
	}
	checkModelBackward(t, early, []int{70, 2}, rand.New(rand.NewPCG(1, 2)))

	halved, err := Random(Config{Kind: RWKV6, VocabSize: 11, NumLayers: 4, NumHeads: 2, EmbedDim: 12, RescaleEvery: 2}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := halved.Trainee()
	if err != nil {
		t.Fatal(err)
	}
	if tr.Config().RescaleEvery != 0 {
		t.Error("still divided")
	}
	ids, next := []int{1, 5, 7, 2, 9, 0, 10}, []int{5, 7, 2, 9, 0, 10, 3}
	s, err := halved.Score(ids, next)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tr.Loss([][]int{ids}, [][]int{next})
	if err != nil || !(math.Abs(l.Entropy-s.Loss) < 3e-4) { // whose norms' epsilons count otherwise
		t.Errorf("loss %v, want %v (%v)", l.Entropy, s.Loss, err)
	}
}

// TestNoTrainee is told for what isn't trained.
func TestNoTrainee(t *testing.T) {
	for _, c := range []Config{{Kind: RWKV4}, {Kind: RWKV7, DeepEmbed: 4}, {Kind: RWKV6, InitialState: true}} {
		c.VocabSize, c.NumLayers, c.NumHeads, c.EmbedDim = 11, 1, 1, 64
		m, err := Random(c, tensor.F32, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Trainee()
		if c.InitialState {
			if err == nil || !strings.Contains(err.Error(), "time_state") {
				t.Errorf("%+v: %v", c, err)
			}
		} else if !errors.Is(err, ErrNotTrained) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for k, want := range map[Kind]error{RWKV4: ErrNotTrained, RWKV5: ErrNotFresh, RWKV6: ErrNotFresh} {
		if _, err := Fresh(Config{Kind: k, VocabSize: 11, NumLayers: 1, NumHeads: 1, EmbedDim: 64}, 1); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", k, err, want)
		}
	}
}
