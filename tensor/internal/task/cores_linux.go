package task

import (
	"fmt"
	"math/bits"
	"os"
	"syscall"
	"unsafe"
)

// cores returns how many cores the CPUs belong to that this process may use, as far as Linux tells: two CPUs
// of a core share what multiplies and what reads memory. 0 is unknown.
func cores() int {
	return countCores(allowedCPUs(), func(cpu int) string {
		list, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
		if err != nil {
			return ""
		}
		return string(list)
	})
}

// countCores counts the different lists of siblings, and returns 0 if one isn't known.
func countCores(cpus []int, siblings func(cpu int) string) int {
	seen := map[string]bool{}
	for _, cpu := range cpus {
		list := siblings(cpu)
		if list == "" {
			return 0
		}
		seen[list] = true
	}
	return len(seen)
}

// allowedCPUs returns the numbers of the CPUs that this process may use.
func allowedCPUs() (cpus []int) {
	var mask [1024]uintptr // of 65,536 CPUs
	words, ok := getAffinity(0, mask[:])
	if !ok {
		return nil
	}
	for i, word := range words {
		for ; word != 0; word &= word - 1 {
			cpus = append(cpus, i*bits.UintSize+bits.TrailingZeros(uint(word)))
		}
	}
	return cpus
}

// getAffinity reads the CPUs that a thread, 0 is the calling one, may use into mask, a bit each, and returns the words
// that the system has.
func getAffinity(thread uint32, mask []uintptr) (words []uintptr, ok bool) {
	size := unsafe.Sizeof(mask[0])
	n, _, e := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, uintptr(thread), uintptr(len(mask))*size, uintptr(unsafe.Pointer(&mask[0])))
	if e != 0 {
		return nil, false
	}
	return mask[:n/size], true
}
