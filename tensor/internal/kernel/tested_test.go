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

// Few machines have AVX-512, fewer its bfloat16 and VNNI instructions or AMX, and no emulator that runs a program alone
// has them. So what was tested last on a CPU that has them is recorded: a change of the kernels' text that
// wasn't tested there fails here, on every machine.
//
//	go test ./tensor/internal/kernel -tested
//
// on such a CPU records the text, if all tests pass.
var tested = flag.Bool("tested", false, "record that the kernels pass their tests on this CPU, those of AVX-512 and AMX that it has")

// records are what is recorded: which files, and who can test them.
var records = []struct {
	name, file string
	patterns   []string // of the files that have such kernels or call them
	here       func() bool
}{
	{"AVX-512", "testdata/tested_avx512.txt", []string{"*avx512_amd64.*", "blocks_amd64.go", "gemm_nn_amd64.go", "gemm_nt_amd64.go"}, func() bool {
		return slices.Contains(Names(), "avx512")
	}},
	{"AVX-512 with bfloat16", "testdata/tested_bf16.txt", []string{"bf16_avx512_amd64.s", "bf16_amd64.go"}, func() bool {
		i := slices.Index(Names(), "avx512")
		return i >= 0 && impls[i].roundings[BF16Activations].products[BF16] != nil
	}},
	{"AVX-512 with VNNI", "testdata/tested_vnni.txt", []string{"q8_avx512_amd64.s", "q8_amd64.go", "q8_asm.go"}, func() bool {
		return slices.Contains(Names(), "avx512") && cpu.X86.HasAVX512VNNI
	}},
	{"AMX", "testdata/tested_amx.txt", []string{"bf16_amx_amd64.s", "bf16_amd64.go"}, func() bool { return slices.Contains(Names(), "amx") }},
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if *tested && code == 0 {
		if err := recordTested(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// sumsOf returns a line for each file of the patterns: its SHA-256 and name.
func sumsOf(patterns []string) ([]string, error) {
	var files []string
	for _, p := range patterns {
		list, err := filepath.Glob(p)
		if err != nil {
			return nil, err
		}
		files = append(files, list...)
	}
	slices.Sort(files)
	var lines []string
	for _, file := range slices.Compact(files) {
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
	info, err := os.ReadFile("/proc/cpuinfo")
	name := "an unnamed CPU"
	if err == nil {
		_, rest, _ := strings.Cut(string(info), "model name\t: ")
		if first, _, ok := strings.Cut(rest, "\n"); ok {
			name = first
		}
	}
	recorded := false
	for _, r := range records {
		if !r.here() {
			continue
		}
		lines, err := sumsOf(r.patterns)
		if err != nil {
			return err
		}
		head := fmt.Sprintf("# The %s kernels of these files passed their tests on %s, %s.", r.name, name, time.Now().UTC().Format(time.DateOnly))
		if err := os.WriteFile(r.file, []byte(head+"\n"+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return err
		}
		recorded = true
	}
	if !recorded {
		return fmt.Errorf("-tested: this CPU has no AVX-512, or this build no assembly: %v", Names())
	}
	return nil
}

// TestAVX512WasTested fails if kernels changed since they were tested on a CPU that has their instructions.
func TestAVX512WasTested(t *testing.T) {
	if *tested {
		return // it is being found out
	}
	for _, r := range records {
		b, err := os.ReadFile(r.file)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, _ := strings.Cut(string(b), "\n")
		want, err := sumsOf(r.patterns)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(rest, line+"\n") {
				t.Errorf("%s has changed since it was tested; on a CPU with %s run go test ./tensor/internal/kernel -tested", line[66:], r.name)
			}
		}
		if n := strings.Count(rest, "\n"); n != len(want) {
			t.Errorf("%s: %d files are recorded, and there are %d", r.name, n, len(want))
		}
		if !r.here() {
			t.Logf("NOT TESTED HERE: %s. %s", r.name, strings.TrimPrefix(head, "# "))
		}
	}
}
