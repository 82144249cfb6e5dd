//go:build !wasm

package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWASM runs this package's tests of products as a program for WebAssembly, with the module simd.wasm
// beside the Go reference, in node.
func TestWASM(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another program")
	}
	for _, name := range []string{"go", "node"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOT TESTED: %s: %v", name, err)
		}
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/wasm_exec_simd.mjs")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "test", "-count=1", "-v", "-short", "-tags", "wasmsimd", "-exec", "node --stack-size=8192 "+script, "-run", "Gemm|Product|Bounds|Impls|Required", ".")
	c.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "GOFLAGS=", "MICRORWKV_KERNEL=", "MICRORWKV_REQUIRE=simd128",
		"GO_LIB_WASM="+filepath.Join(strings.TrimSpace(string(root)), "lib", "wasm"))
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "simd128") {
		t.Errorf("%v\n%s", err, out)
	}
}
