package train

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"microrwkv/rwkv"
)

// TestResumeOfAnotherShape refuses an optimizer's state that isn't the model's.
func TestResumeOfAnotherShape(t *testing.T) {
	first := small(t, rwkv.X051a, nil)
	if _, err := first.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ckpt.pt")
	if err := first.Save(path); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *rwkv.Config){
		"shape": func(c *rwkv.Config) { c.VocabSize++ }, "parameter": func(c *rwkv.Config) { c.NumLayers-- }, "parameters": func(c *rwkv.Config) { c.NumLayers++ },
	} {
		c := first.model.Config()
		change(&c)
		m, err := rwkv.Fresh(c, 1)
		if err != nil {
			t.Fatal(err)
		}
		second, err := New(m, first.options, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Resume(path); err == nil || !strings.Contains(err.Error(), path+": optimizer: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManySteps wants memory that doesn't grow over a thousand steps.
func TestManySteps(t *testing.T) {
	tr := small(t, rwkv.X051a, func(o *Options) { o.MaxIters = 1000 })
	step := func() {
		if _, err := tr.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	step()
	steps := 1000
	if testing.Short() {
		steps = 100
	}
	memory := tr.model.Memory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range steps - 1 {
		step()
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > 100 || tr.model.Memory() != memory {
		t.Errorf("%d allocations in %d steps, %d bytes kept, %d before", n, steps, tr.model.Memory(), memory)
	}
}
