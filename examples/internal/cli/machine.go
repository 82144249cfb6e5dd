package cli

import (
	"flag"
	"fmt"
	"runtime"
	"strings"

	"microrwkv/tensor"
)

// MachineFlags are the flags that say what operations run on.
type MachineFlags struct {
	Kernel  string
	Threads int
}

// Register adds the flags to fs.
func (m *MachineFlags) Register(fs *flag.FlagSet) {
	fs.StringVar(&m.Kernel, "kernel", "", "assembly kernels to use (default: the fastest of "+strings.Join(tensor.Kernels(), ", ")+")")
	fs.IntVar(&m.Threads, "threads", 0, "threads to use (default: one for each core)")
}

// maxThreads is far more than helps anyone, and far less than the runtime gives up at.
const maxThreads = 1024

// Apply does what the flags say, for the whole process.
func (m *MachineFlags) Apply() error {
	if m.Threads < 0 || m.Threads > maxThreads {
		return fmt.Errorf("--threads %d: want 0 (one for each core) to %d", m.Threads, maxThreads)
	}
	if m.Threads > runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(m.Threads)
	}
	tensor.SetThreads(m.Threads)
	if m.Kernel != "" {
		if err := tensor.SetKernel(m.Kernel); err != nil {
			return fmt.Errorf("--kernel: %w", err)
		}
	}
	return nil
}
