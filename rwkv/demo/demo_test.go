package demo_test

import (
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
