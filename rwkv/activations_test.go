package rwkv

import (
	"fmt"
	"slices"
	"testing"

	"microrwkv/tensor"
)

// openWith opens a model of GGUF's golden data.
func openWith(t *testing.T, name string, opts ...OpenOption) *Model {
	t.Helper()
	m, err := Open(ggufData+name+".gguf", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// With activations of 8 bits a model of Q4_K and Q6_K has logits within twice what the golden data's own
// simulation, or llama.cpp, is off by: both round by blocks of 256 numbers, so that these, of 32, are nearer
// on the average, and the largest of some thousand errors is a matter of chance.
func TestActivationsQ8(t *testing.T) {
	const name = "rwkv6-q4_k"
	g := goldens(t)["gguf/"+name]
	var bounds struct {
		Lengths []struct {
			T        int
			Q8Err    float64 `json:"q8_activations_max_abs_err"`
			LlamaErr float64 `json:"llama_cpp_max_abs_err"`
		}
	}
	readJSON(t, ggufData+name+".expect.json", &bounds)
	exact, rounded, auto := openWith(t, name, Activations(Float32)), openWith(t, name, Activations(Q8)), openWith(t, name)
	for _, l := range bounds.Lengths {
		ids := g.ids[fmt.Sprintf("T%d.tokens", l.T)]
		logits, err := rounded.Forward(ids)
		if err != nil {
			t.Fatal(err)
		}
		within := 2 * max(l.Q8Err, l.LlamaErr)
		last := logits.Row(l.T - 1)
		for i, want := range g.numbers[fmt.Sprintf("T%d.last_logits", l.T)] {
			if off := float64(last[i]) - want; !(off <= within && -off <= within) {
				t.Errorf("T=%d: logit %d is %g, want %g ± %g", l.T, i, last[i], want, within)
			}
		}
		same, err := auto.Forward(ids)
		if err != nil || !slices.Equal(same.Data(), logits.Data()) {
			t.Errorf("T=%d: auto isn't q8: %v", l.T, err)
		}
	}
	// A token in a batch has the bits that it has alone: a product's row doesn't depend on the others.
	ids := g.ids["T64.tokens"]
	batch, alone := []*State{rounded.NewState(), rounded.NewState(), rounded.NewState()}, rounded.NewState()
	for i := range 8 {
		if err := rounded.AppendBatch(batch, [][]int{ids[i : i+1], ids[i+1 : i+2], ids[i+2 : i+3]}); err != nil {
			t.Fatal(err)
		}
		if want, err := alone.Append(ids[i+1 : i+2]); err != nil || !slices.Equal(batch[1].Logits(), want) {
			t.Fatalf("token %d has other logits in a batch, %v", i, err)
		}
	}
	// What QUANT asks of a trained model holds for this one: less than 2e-4 nats a token.
	if c, err := rounded.Compare(exact, ids); err != nil || !(c.KL > 1e-9 && c.KL <= 2e-4) {
		t.Errorf("8 bits add a KL of %g, %v", c.KL, err)
	}
}

// Weights that auto leaves alone have the bits of exact products, and so has what has no other ones.
func TestActivationsExact(t *testing.T) {
	const name = "rwkv7-q8_0"
	ids := goldens(t)["gguf/"+name].ids["T7.tokens"]
	want, err := openWith(t, name, Activations(Float32)).Forward(ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []ActivationFormat{AutoActivations, Q8} {
		if got, err := openWith(t, name, Activations(a)).Forward(ids); err != nil || !slices.Equal(got.Data(), want.Data()) {
			if a == AutoActivations || !tensor.RoundsActivations(tensor.Q8Activations, tensor.Q8_0) {
				t.Errorf("%v isn't exact: %v", a, err)
			}
		}
	}
}

func TestParseActivations(t *testing.T) {
	for _, a := range []ActivationFormat{AutoActivations, Float32, Q8} {
		if got, err := ParseActivations(a.String()); got != a || err != nil {
			t.Errorf("%v becomes %v, %v", a, got, err)
		}
	}
	for _, name := range []string{"", "q4", "ActivationFormat(7)"} {
		if _, err := ParseActivations(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if s := ActivationFormat(7).String(); s != "ActivationFormat(7)" {
		t.Error(s)
	}
}
