package task

import (
	"bytes"
	"math/bits"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"
)

// cpuSet is a set of CPUs as Linux takes it, a bit each.
type cpuSet [1024 / bits.UintSize]uintptr

func onlyCPU(cpu uint) (s cpuSet) {
	s[cpu/bits.UintSize] = 1 << (cpu % bits.UintSize)
	return s
}

func (s *cpuSet) has(cpu uint) bool {
	return cpu/bits.UintSize < uint(len(s)) && s[cpu/bits.UintSize]>>(cpu%bits.UintSize)&1 != 0
}

// other returns a CPU of the set that isn't the given one, the next if there is a later one.
func (s *cpuSet) other(than uint) (cpu uint, ok bool) {
	n := uint(len(s) * bits.UintSize)
	for i := uint(1); i < n; i++ {
		if cpu = (than + i) % n; s.has(cpu) {
			return cpu, true
		}
	}
	return 0, false
}

// mayMove is whether threads can be moved: a filter of system calls might end the process at the first that
// it doesn't know.
var mayMove = sync.OnceValue(func() bool {
	status, err := os.ReadFile("/proc/self/status")
	return err == nil && bytes.Contains(status, []byte("\nSeccomp:\t0\n"))
})

// threadID returns the system's number of the calling thread, 0 if threads can't be moved.
func threadID() uint32 {
	if !mayMove() {
		return 0
	}
	return uint32(syscall.Gettid())
}

// moving guards trips, and that one thread at a time changes another's set of CPUs.
var moving sync.Mutex

// trips are the threads that are on their way to a CPU: what the system says they may use is that one alone, until they
// run there.
var trips [16]trip

type trip struct {
	thread  uint32
	allowed cpuSet // what it may use afterwards
}

// bringHere moves a thread of this process to the CPU of the calling one, from which it may go on to any other, if agreed
// says so, told where it may go back to: the CPU that it was on. One that waits for its CPU is moved at once, without
// that CPU's doing.
func bringHere(thread uint32, agreed func(from uint) bool) (from uint, ok bool) {
	if !moving.TryLock() {
		return 0, false
	}
	defer moving.Unlock()
	allowed, ok := affinity(thread)
	here, ok1 := currentCPU()
	from, ok2 := cpuOf(thread)
	if !ok || !ok1 || !ok2 || !allowed.has(here) {
		return 0, false
	}
	there := from
	if from == here { // it waits behind the calling thread
		if from, ok = allowed.other(here); !ok {
			return 0, false
		}
	}
	if !agreed(from) {
		return 0, false
	}
	if there != here {
		set := onlyCPU(here)
		if setAffinity(thread, &set) {
			setAffinity(thread, &allowed)
		}
	}
	return from, true
}

// goTo moves the calling thread to a CPU, from which it may go on to any other.
func goTo(cpu uint) {
	thread := uint32(syscall.Gettid())
	t := begin(thread, cpu)
	if t == nil {
		return
	}
	set := onlyCPU(cpu)
	if setAffinity(thread, &set) { // returns when it runs there
		setAffinity(thread, &t.allowed)
	}
	moving.Lock()
	t.thread = 0
	moving.Unlock()
}

// begin notes a trip of the calling thread, if it may use that CPU.
func begin(thread uint32, cpu uint) *trip {
	moving.Lock()
	defer moving.Unlock()
	allowed, ok := affinity(thread)
	if !ok || !allowed.has(cpu) {
		return nil
	}
	for i := range trips {
		if t := &trips[i]; t.thread == 0 {
			*t = trip{thread, allowed}
			return t
		}
	}
	return nil
}

// affinity returns the CPUs that a thread may use when it isn't on a trip. The caller has locked moving.
func affinity(thread uint32) (s cpuSet, ok bool) {
	for i := range trips {
		if trips[i].thread == thread {
			return trips[i].allowed, true
		}
	}
	_, ok = getAffinity(thread, s[:])
	return s, ok
}

func setAffinity(thread uint32, s *cpuSet) bool {
	_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(thread), unsafe.Sizeof(*s), uintptr(unsafe.Pointer(s)))
	return e == 0
}

// currentCPU returns the number of the CPU that the calling thread is on.
func currentCPU() (uint, bool) { return cpuOf(uint32(syscall.Gettid())) }

// cpuOf returns the number of the CPU that a thread of this process is on, running or waiting for it: the 39th
// field of its stat file (proc_pid_stat(5)). It doesn't allocate.
func cpuOf(thread uint32) (uint, bool) {
	var name [64]byte
	path := append(name[:0], "/proc/self/task/"...)
	path = append(strconv.AppendUint(path, uint64(thread), 10), "/stat\x00"...)
	const atCWD = -100
	cwd := atCWD
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(&path[0])), syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return 0, false
	}
	var text [1024]byte
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	if e != 0 {
		return 0, false
	}
	return processor(text[:n])
}

// processor returns the 39th field of a stat file: the name, the second, ends with the last ")".
func processor(stat []byte) (cpu uint, ok bool) {
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	for range 36 {
		i := bytes.IndexByte(rest[min(1, len(rest)):], ' ')
		if i < 0 {
			return 0, false
		}
		rest = rest[1+i:]
	}
	for _, c := range rest[min(1, len(rest)):] {
		if c < '0' || c > '9' {
			break
		}
		cpu, ok = 10*cpu+uint(c-'0'), true
	}
	return cpu, ok
}

// yieldCPU lets other threads that wait for this CPU run.
func yieldCPU() { syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
