package task

import (
	"runtime"
	"testing"
)

func TestCountCores(t *testing.T) {
	pairs := func(cpu int) string { return []string{"0,4\n", "1,5\n", "2,6\n", "3,7\n"}[cpu%4] }
	for _, c := range []struct {
		cpus     []int
		siblings func(int) string
		want     int
	}{
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, pairs, 4},
		{[]int{0, 4}, pairs, 1}, // an affinity of one core
		{[]int{0, 5}, pairs, 2},
		{[]int{0, 1}, func(cpu int) string { return []string{"0\n", ""}[cpu] }, 0}, // one isn't told
		{nil, pairs, 0},
	} {
		if got := countCores(c.cpus, c.siblings); got != c.want {
			t.Errorf("CPUs %v: %d cores, want %d", c.cpus, got, c.want)
		}
	}
	if got := len(allowedCPUs()); got != runtime.NumCPU() {
		t.Errorf("%d CPUs allowed, and the runtime has %d", got, runtime.NumCPU())
	}
}
