package task

import (
	"fmt"
	"testing"
)

type nothing struct{}

func (nothing) Run(int) {}

// BenchmarkStart is what it costs to call the other threads and wait for them, when they have nothing to do: 1
// and 16 pieces for each.
func BenchmarkStart(b *testing.B) {
	for _, each := range []int{1, 16} {
		b.Run(fmt.Sprintf("threads=%d/pieces=%d", Threads(), each*Threads()), func(b *testing.B) {
			for b.Loop() {
				Parallel(each*Threads(), nothing{})
			}
		})
	}
}
