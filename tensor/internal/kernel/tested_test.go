package kernel

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/cpu"
)

// Few machines have AVX-512, and no emulator that runs a program alone has it. So what was tested last on a
// CPU that has it is recorded: a change of the kernels' text that wasn't tested there fails here, on
// every machine.
//
//	go test ./tensor/internal/kernel -tested
//
// on such a CPU records the text, if all tests pass.
var tested = flag.Bool("tested", false, "record that the AVX-512 kernels pass their tests on this CPU")

const testedFile = "testdata/tested_avx512.txt"

func TestMain(m *testing.M) {
	flag.Parse()
	if *tested {
		os.Remove(testedFile)
	}
	code := m.Run()
	if *tested && code == 0 {
		if err := recordTested(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// avx512Sums returns a line for each file that has AVX-512 kernels or calls them: its SHA-256 and name.
func avx512Sums() ([]string, error) {
	files, err := filepath.Glob("*avx512_amd64.*")
	if err != nil {
		return nil, err
	}
	files = append(files, "blocks_amd64.go", "gemm_nn_amd64.go", "gemm_nt_amd64.go", "q8_amd64.go", "q8_asm.go")
	slices.Sort(files)
	var lines []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("%x  %s", sha256.Sum256(b), file))
	}
	return lines, nil
}

// recordTested writes what was tested, and where.
func recordTested() error {
	if !cpu.X86.HasAVX512F || !slices.Contains(Names(), "avx512") {
		return fmt.Errorf("-tested: this CPU has no AVX-512, or this build no assembly: %v", Names())
	}
	lines, err := avx512Sums()
	if err != nil {
		return err
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	name := "an unnamed CPU"
	if err == nil {
		_, rest, _ := strings.Cut(string(info), "model name\t: ")
		if first, _, ok := strings.Cut(rest, "\n"); ok {
			name = first
		}
	}
	head := fmt.Sprintf("# The AVX-512 kernels of these files passed their tests on %s, %s.", name, time.Now().UTC().Format(time.DateOnly))
	return os.WriteFile(testedFile, []byte(head+"\n"+strings.Join(lines, "\n")+"\n"), 0o644)
}

// TestAVX512WasTested fails if the AVX-512 kernels changed since they were tested on a CPU that has it.
func TestAVX512WasTested(t *testing.T) {
	if *tested {
		return // it is being found out
	}
	b, err := os.ReadFile(testedFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(b), "\n")
	want, err := avx512Sums()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range want {
		if !strings.Contains(rest, line+"\n") {
			t.Errorf("%s has changed since it was tested; on a CPU with AVX-512 run go test ./tensor/internal/kernel -tested", line[66:])
		}
	}
	if n := strings.Count(rest, "\n"); n != len(want) {
		t.Errorf("%d files are recorded, and there are %d", n, len(want))
	}
	if !slices.Contains(Names(), "avx512") {
		t.Logf("NOT TESTED HERE: AVX-512. %s", strings.TrimPrefix(head, "# "))
	}
}
