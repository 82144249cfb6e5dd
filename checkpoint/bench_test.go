package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"microrwkv/tensor"
)

// benchTensors are the weights of the README's table, 156.7 million: MicroRWKV of 8 layers of 768.
func benchTensors() []Named {
	const c, vocab, positions, expert = 768, 50304, 1024, 614
	tensors := []Named{{"transformer.wte.weight", filled(vocab, c)}, {"transformer.wpe.weight", filled(positions, c)}}
	for i := range 8 {
		add := func(name string, shape ...int) {
			tensors = append(tensors, Named{fmt.Sprintf("transformer.h.%d.%s", i, name), filled(shape...)})
		}
		for _, name := range []string{"receptance", "key", "value", "gate", "output"} {
			add("tmix."+name+".weight", c, c)
		}
		add("cmix.key.weight", 3*c, c)
		add("cmix.value.weight", c, 3*c)
		add("cmix.receptance.weight", c, c)
		add("sliding_attn.qkv.weight", 3*c, c)
		add("sliding_attn.proj.weight", c, c)
		add("grouped_attn.qkvw.weight", 4*c, c)
		add("grouped_attn.out.weight", c, c)
		for e := range 4 {
			add(fmt.Sprintf("moe.experts.%d.weight", e), expert, c)
		}
		add("moe.fc.weight", c, expert)
	}
	return tensors
}

// filled returns a tensor of numbers that no page or check can take for another's.
func filled(shape ...int) *tensor.Weight {
	t := tensor.New(shape...)
	for i := range t.Data() {
		t.Data()[i] = float32(i%8191) * 0x1p-13
	}
	return t.Weight()
}

// BenchmarkOpen opens a float32 file of the README's size that is in the page cache, takes every
// tensor, and with checks=on computes all checksums and looks at every number. GB/s are the file's
// bytes over the time; tensor's BenchmarkReadBandwidth is what reading them once can reach.
func BenchmarkOpen(b *testing.B) {
	tensors := benchTensors()
	for _, format := range []string{"pt", "safetensors"} {
		path := filepath.Join(b.TempDir(), "model."+format)
		write := WritePT
		if format == "safetensors" {
			write = WriteSafetensors
		}
		if err := write(path, tensors, nil); err != nil {
			b.Fatal(err)
		}
		for _, checks := range []bool{false, true} {
			name := map[bool]string{false: "off", true: "on"}[checks]
			b.Run(fmt.Sprintf("format=%s/checks=%s", format, name), func(b *testing.B) {
				info, err := os.Stat(path)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					f, err := Open(path)
					if err != nil {
						b.Fatal(err)
					}
					for _, name := range f.Names() {
						if _, err := f.Tensor(name); err != nil {
							b.Fatal(err)
						}
					}
					if checks {
						if err := f.Verify(nil); err != nil {
							b.Fatal(err)
						}
					}
					f.Close()
				}
				b.ReportMetric(float64(b.N)*float64(info.Size())/b.Elapsed().Seconds()/1e9, "GB/s")
			})
		}
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
	}
}
