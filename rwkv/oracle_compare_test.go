package rwkv

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

var long = flag.Bool("long", false, "run many more random cases")

// seeds is how many random cases a test runs.
func seeds(n int) int {
	if *long {
		return 20 * n
	}
	return n
}

// wildConfig returns a config of a kind with sizes that nothing divides, small enough for the
// oracle, with at least so many positions.
func wildConfig(k Kind, positions int, rng *rand.Rand) Config {
	heads := 1 + rng.IntN(8)
	c := Config{
		Kind: k, BlockSize: positions + rng.IntN(3)*rng.IntN(40), VocabSize: 5 + 2*rng.IntN(60), NumLayers: 1 + rng.IntN(3),
		NumHeads: heads, EmbedDim: 4 * heads * (1 + rng.IntN(1+20/heads)), Bias: rng.IntN(2) == 0,
	}
	switch k {
	case Reference, Causal:
		c.NumExperts = 1 + rng.IntN(10)
		c.NumActiveExperts = c.NumExperts
		if rng.IntN(2) == 0 {
			c.NumActiveExperts = 1 + rng.IntN(c.NumExperts)
		}
		c.ExpertDim = 1 + rng.IntN(30)
	case X051a:
		c.EmbedDim = heads * (1 + rng.IntN(1+80/heads)) // heads of any size, 1 among them
	case RWKV4, RWKV5, RWKV6, RWKV7:
		if c.NumHeads > 2 {
			c.NumHeads, c.EmbedDim = 2, 2*c.EmbedDim/heads
		}
		c = randomOfficial(c, rng)
	}
	return c
}

// wildModel returns a model with weights of any dtype, and among them what no tame model has:
// decays of 0 and of 1, mixing outside of [0, 1], large activations.
func wildModel(t testing.TB, c Config, rng *rand.Rand) *Model {
	t.Helper()
	f, err := familyOf(c.Kind)
	if err != nil {
		t.Fatal(err)
	}
	c = f.fill(c)
	if err := c.validate(f); err != nil {
		t.Fatal(err)
	}
	dtypes := [...]tensor.DType{tensor.F32, tensor.BF16, tensor.F16}
	dtype := rng.IntN(4) // the last: each tensor's is another
	maa, size := 0.2, 1.0
	if rng.IntN(2) == 0 {
		maa = 1
	}
	if rng.IntN(4) == 0 {
		size = 3
	}
	decays := []float32{-200, -20, -12, -6, 0, 1, 2, 4, 4.48, 5, 20, 200} // w = 1 … 0.99, 0.37 … 2e-24, 4e-39, 0
	ranks := map[string]int{"w": 1 + rng.IntN(40), "a": 1 + rng.IntN(40), "v": 1 + rng.IntN(40), "g": 1 + rng.IntN(40)}
	src := &memory{tensors: map[string]*tensor.Weight{}}
	described := &params{}
	f.describe(c, described)
	specs := slices.DeleteFunc(described.list, func(q *param) bool { return q.unused })
	if c.Kind == RWKV7 && rng.IntN(2) == 0 { // as the official files, with what block 0 doesn't use
		for _, name := range []string{"v0", "v1", "v2"} {
			specs = append(specs, &param{name: "blocks.0.att." + name, dev: 9, shape: []int{3}})
		}
	}
	for _, s := range specs {
		short := last(s.name, 1)
		switch {
		case strings.HasPrefix(short, "time_maa") && !strings.HasPrefix(short, "time_maa_w") || strings.HasPrefix(short, "time_mix") || strings.HasPrefix(short, "x_"):
			s.dev = maa
		case len(s.shape) == 2 && ranks[short[:1]] > 0 && len(short) == 2 && short[1] == '1' && s.name != "blocks.0.att.v1":
			s.shape[1] = ranks[short[:1]]
		case len(s.shape) == 2 && ranks[short[:1]] > 0 && len(short) == 2 && short[1] == '2' && s.name != "blocks.0.att.v2":
			s.shape[0] = ranks[short[:1]]
			s.dev = 0.5 / math.Sqrt(float64(s.shape[0]))
		case short == "w0" || short == "a0":
			s.dev = 5
		case slices.Contains([]string{"key.weight", "value.weight", "wte.weight", "emb.weight"}, last(s.name, 2)):
			s.dev *= size
		}
		x := s.random(tensor.F32, s.shape, rng)
		if short == "time_decay" && rng.IntN(2) == 0 {
			for i := range x.Len() {
				x.Float32().Data()[i] = decays[rng.IntN(len(decays))]
			}
		}
		to := dtypes[rng.IntN(3)]
		if dtype < 3 {
			to = dtypes[dtype]
		}
		src.names = append(src.names, s.name)
		src.tensors[s.name] = x.Convert(to)
	}
	m, err := loadModel("wild weights", src, f, c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// last returns the last n parts of a tensor's name.
func last(name string, n int) string {
	parts := strings.Split(name, ".")
	return strings.Join(parts[max(0, len(parts)-n):], ".")
}

// judge is what the oracle says of a sequence.
type judge struct {
	want      rows[float64]
	aux       []float64
	tolerance float64 // of a logit
	largest   float64
	auxErr    []float64
	o         *oracle[float64]
}

// newJudge asks the oracle. A result is right, as in the golden data, when its error is at most
// four times that of another float32 run, or 1e-5 of the largest logit. The oracle's own runs in
// float32 are the measure of how much the model makes of roundings: one of the weights as they are,
// and as that may be lucky, one with the matrices' numbers a unit in the last place off.
func newJudge(m *Model, ids []int, rng *rand.Rand) *judge {
	j := &judge{o: newOracle[float64](m), auxErr: make([]float64, m.config.NumLayers)}
	j.want, j.aux = j.o.forward(ids)
	for _, row := range j.want {
		for _, w := range row {
			j.largest = max(j.largest, math.Abs(w))
		}
	}
	j.tolerance = 1e-5 * j.largest
	for _, nudge := range []bool{false, true} {
		o := newOracle[float32](m)
		if nudge {
			for _, w := range m.tensors {
				if len(w.Shape()) == 2 && w.Dim(1) > 1 {
					o.nudge(w.name, rng)
				}
			}
		}
		logits, aux := o.forward(ids)
		for t := range logits {
			for i, l := range logits[t] {
				j.tolerance = max(j.tolerance, 4*math.Abs(j.want[t][i]-float64(l)))
			}
		}
		for i, a := range aux {
			j.auxErr[i] = max(j.auxErr[i], math.Abs(j.aux[i]-float64(a)))
		}
	}
	return j
}

// nudge moves a matrix's numbers to one of their neighbours in float32.
func (o *oracle[F]) nudge(name string, rng *rand.Rand) {
	for _, row := range o.matrix(name) {
		for i := range row {
			row[i] = F(math.Nextafter32(float32(row[i]), float32(math.Inf(rng.IntN(2)*2-1))))
		}
	}
}

// logits fails unless got is row i of the logits.
func (j *judge) logits(t *testing.T, what string, got []float32, i int) {
	t.Helper()
	if len(got) != len(j.want[i]) {
		t.Fatalf("%s: %d logits, want %d", what, len(got), len(j.want[i]))
	}
	for n, w := range j.want[i] {
		if e := math.Abs(float64(got[n]) - w); !(e <= j.tolerance) {
			t.Fatalf("%s: row %d: logit %d = %g, want %g: error %g, tolerance %g", what, i, n, got[n], w, e, j.tolerance)
		}
	}
}

// scores fails unless s is right for those targets.
func (j *judge) scores(t *testing.T, s *Scores, targets []int) {
	t.Helper()
	j.logits(t, "Score's last", s.LastLogits, len(j.want)-1)
	// A loss is a mean of differences of two logits or means of them.
	want := j.o.crossEntropy(j.want, targets)
	if math.IsNaN(want) != math.IsNaN(s.Loss) || math.Abs(s.Loss-want) > max(1e-5*want, 2*j.tolerance) {
		t.Errorf("loss %g, want %g ± %g", s.Loss, want, 2*j.tolerance)
	}
	if len(s.AuxLoss) != len(j.aux) {
		t.Fatalf("%d auxiliary losses, want %d", len(s.AuxLoss), len(j.aux))
	}
	for i, want := range j.aux {
		if tol := max(1e-5*want, 4*j.auxErr[i], want*j.tolerance/j.largest); !(math.Abs(s.AuxLoss[i]-want) <= tol) {
			t.Errorf("auxiliary loss of block %d = %g, want %g ± %g", i, s.AuxLoss[i], want, tol)
		}
	}
}

// checkModel compares all ways to compute a sequence with the oracle.
func checkModel(t *testing.T, m *Model, ids []int, rng *rand.Rand) {
	t.Helper()
	j := newJudge(m, ids, rng)
	if !(j.tolerance < 0.01*j.largest) {
		t.Skipf("roundings alone make %g of %g", j.tolerance, j.largest)
	}
	all, err := m.Forward(ids)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		j.logits(t, "Forward", all.Row(i), i)
	}

	targets := make([]int, len(ids))
	for i := range targets {
		targets[i] = rng.IntN(m.config.VocabSize+1) - 1
	}
	s, err := m.Score(ids, targets)
	if err != nil {
		t.Fatal(err)
	}
	j.scores(t, s, targets)

	alone, err := m.LastLogits(ids)
	if err != nil {
		t.Fatal(err)
	}
	j.logits(t, "LastLogits", alone[0].Data(), len(ids)-1)
	short := ids[:1+rng.IntN(len(ids))]
	together, err := m.LastLogits(short, ids, ids[:1])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(together[1].Data(), alone[0].Data()) {
		t.Errorf("LastLogits beside sequences of %d and 1 tokens: other bits", len(short))
	}

	state := m.NewState()
	for from := 0; from < len(ids); {
		n := 1 + rng.IntN(min(len(ids)-from, [...]int{3, 70, 300, 2000}[rng.IntN(4)]))
		if !m.Streams() {
			n = len(ids) // each prefix is another sequence
		}
		if _, err := state.Append(ids[from : from+n]); err != nil {
			t.Fatal(err)
		}
		from += n
		j.logits(t, fmt.Sprintf("Append of %d after %d", n, from-n), state.Logits(), from-1)
	}
}

// checkKind runs checkModel on a random model and sequence of some length.
func checkKind(t *testing.T, k Kind, length int, seed uint64) {
	t.Run(fmt.Sprintf("%s/T=%d/%d", k, length, seed), func(t *testing.T) {
		t.Parallel()
		rng := rand.New(rand.NewPCG(seed, uint64(length)))
		c := wildConfig(k, length, rng)
		if length > 200 && limited(k) { // for the oracle's sake
			c.NumLayers = 1 + rng.IntN(2)
			c.EmbedDim = c.NumHeads * max(1, min(c.EmbedDim, 56)/(4*c.NumHeads)) * 4
		}
		m := wildModel(t, c, rng)
		checkModel(t, m, randomIDs(length, m, rng), rng)
		if t.Failed() {
			t.Logf("config %+v", c)
		}
	})
}

func TestModelsAgreeWithOracle(t *testing.T) {
	slow(t)
	for seed := range uint64(seeds(4)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, k := range allKinds {
			for _, length := range []int{1, 2, 3, 4 + rng.IntN(6), 10 + rng.IntN(60), 64 + rng.IntN(66)} {
				checkKind(t, k, length, seed)
			}
		}
	}
}

// Where windows, chunks and blocks end. The kinds without a window have only chunks.
func TestLongSequencesAgreeWithOracle(t *testing.T) {
	slow(t)
	for seed := range uint64(seeds(1)) {
		for _, length := range []int{255, 256, 257, 511, 512, 513, 700} {
			checkKind(t, Reference, length, seed)
		}
		for _, length := range []int{255, 256, 257, 513} {
			checkKind(t, Causal, length, seed)
		}
		for _, length := range []int{257, 513} {
			checkKind(t, X051a, length, seed)
			for _, k := range []Kind{RWKV4, RWKV5, RWKV6, RWKV7} {
				checkKind(t, k, length, seed)
			}
		}
		checkKind(t, Reference, 1001+int(seed)%60, seed)
		checkKind(t, Causal, 1001+int(seed)%60, seed)
	}
}

// The published sizes of a row and of heads, in few rows.
func TestWideModelsAgreeWithOracle(t *testing.T) {
	slow(t)
	for i, k := range allKinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			c := DefaultConfig()
			c.Kind, c.BlockSize, c.VocabSize, c.NumLayers, c.FFNDim = k, 5, 1003, 1, 0
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			m := wildModel(t, c, rng)
			if limited(k) != (m.config.BlockSize > 0) {
				t.Errorf("block_size = %d", m.config.BlockSize)
			}
			checkModel(t, m, randomIDs(5, m, rng), rng)
		})
	}
}
