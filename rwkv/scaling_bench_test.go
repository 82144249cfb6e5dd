//go:build linux

package rwkv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"microrwkv/tensor"
)

// busyVariable makes the test's binary a process that keeps the CPU of that number busy.
const busyVariable = "MICRORWKV_BENCH_BUSY_CPU"

func init() {
	cpu, err := strconv.Atoi(os.Getenv(busyVariable))
	if err != nil {
		return
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	parent := os.Getppid()
	for n := 0; ; n++ {
		if n%(1<<28) == 0 && os.Getppid() != parent {
			os.Exit(0)
		}
	}
}

// keepBusy starts a process that competes for the last of this process's CPUs, until stopped.
func keepBusy(b *testing.B) (stop func()) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
	last := 0
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			last = cpu
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%d", busyVariable, last))
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		cancel()
		c.Wait()
	}
}

// BenchmarkScaling shows what threads cost: how often an operation goes to several ("starts" for each
// token, or each run of a prompt), what part of the time the threads of operations wait, and what part
// of the whole is outside of them ("serial"). With busy=1 another process wants one of the CPUs all the
// time: on two, 1.33 times the time of busy=0 would be its share. procs is GOMAXPROCS: 16 are more than there
// are CPUs, on small machines.
func BenchmarkScaling(b *testing.B) {
	works := []struct {
		name string
		kind Kind
		run  func(m *Model, s *State) error
	}{
		{"decode", X051a, func(m *Model, s *State) error { _, err := s.Append(benchIDs(1)); return err }},
		{"decode", Causal, func(m *Model, s *State) error { _, err := s.Append(benchIDs(1)); return err }},
		{"decode", RWKV7, func(m *Model, s *State) error { _, err := s.Append(benchIDs(1)); return err }},
		{"prefill", X051a, func(m *Model, s *State) error { s.Reset(); _, err := s.Append(benchIDs(256)); return err }},
		{"forward", Reference, func(m *Model, s *State) error { _, err := m.LastLogits(benchIDs(256)); return err }},
	}
	for _, w := range works {
		for _, c := range []struct{ procs, busy int }{{1, 0}, {2, 0}, {2, 1}, {16, 0}, {16, 1}} {
			if testing.Short() && (w.kind != X051a || c.procs != 2) {
				continue
			}
			b.Run(fmt.Sprintf("work=%s/kind=%s/procs=%d/busy=%d", w.name, w.kind, c.procs, c.busy), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.procs))
				m := benchModel(b, w.kind, tensor.BF16)
				s := m.NewState()
				if c.busy > 0 {
					defer keepBusy(b)()
				}
				u := tensor.MeasureThreads(func() {
					for b.Loop() {
						if s.Len() > 500 {
							s.Reset()
						}
						if err := w.run(m, s); err != nil {
							b.Fatal(err)
						}
					}
				})
				b.ReportMetric(float64(u.Starts)/float64(b.N), "starts/op")
				b.ReportMetric(100*float64(u.Waiting())/max(float64(u.Capacity), 1), "%waiting")
				b.ReportMetric(100*(1-float64(u.Inside)/float64(b.Elapsed())), "%serial")
			})
		}
	}
}
