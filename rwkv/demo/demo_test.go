package demo_test

import (
	"path/filepath"
	"testing"

	"microrwkv/rwkv"
	"microrwkv/rwkv/demo"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
	_ "microrwkv/tokenizer/gpt2"
)

func TestModel(t *testing.T) {
	m, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := demo.Model(); err != nil || again != m {
		t.Errorf("another model, %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.Forward([]int{3198, 1110}); err != nil {
		t.Errorf("after Close: %v", err)
	}
	tok, err := m.Tokenizer()
	if want, _ := tokenizer.Open("gpt2"); err != nil || tok != want {
		t.Errorf("tokenizer %T, %v", tok, err)
	}
	wide, err := demo.Model(rwkv.WeightsAs(tensor.F32))
	if err != nil || wide == m {
		t.Errorf("with options: the same model, %v", err)
	}
}

// A trained model's predictions with activations of 8 bits are within 2e-4 nats a token of those with exact
// ones: a hundredth of what 4 bits for its weights cost.
func TestActivations(t *testing.T) {
	m, err := demo.Model()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := m.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.Encode("Once upon a time there was a little girl named Lily. She loved to play outside in the park with her " +
		"friends. One day, she saw a big tree with a lot of red apples. She wanted to eat one, but the tree was too tall. Her dad " +
		"came and lifted her up. Lily picked an apple and shared it with her dad. They were very happy.")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []tensor.DType{tensor.Q4_1, tensor.Q5_1} {
		q, err := rwkv.Quantize(m, format)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "q.safetensors")
		if err := q.Save(path); err != nil {
			t.Fatal(err)
		}
		var opened [2]*rwkv.Model
		for i, a := range []rwkv.ActivationFormat{rwkv.Float32, rwkv.Q8} {
			if opened[i], err = rwkv.Open(path, rwkv.AsKind(rwkv.Reference), rwkv.Activations(a)); err != nil {
				t.Fatal(err)
			}
			defer opened[i].Close()
		}
		if c, err := opened[1].Compare(opened[0], ids); err != nil || !(c.KL > 0 && c.KL <= 2e-4) {
			t.Errorf("%v: 8-bit activations cost a KL of %g, %v", format, c.KL, err)
		}
	}
}
