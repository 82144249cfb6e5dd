// Web builds a folder of static files: a page that runs the model in the visitor's browser.
//
//	go run ./examples/web --out web
//
// Any server of files serves it; --addr 127.0.0.1:8000 does so at once. It needs the go command.
package main

import (
	"bytes"
	"compress/gzip"
	"embed"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv/serve/page"
	"microrwkv/tensor/wasmsimd"
)

//go:embed static
var static embed.FS

func main() {
	fs := flag.NewFlagSet("web", flag.ContinueOnError)
	out := fs.String("out", "web", "`folder` to build")
	model := fs.String("model", "", "checkpoint `file` that the page loads first (default: the embedded model's)")
	addr := fs.String("addr", "", "`address` to serve the folder at")
	cli.Parse(fs, os.Args[1:])
	if err := run(*out, *model, *addr); err != nil {
		cli.Fail(err)
	}
}

func run(out, model, addr string) error {
	if err := build(out, model); err != nil {
		return err
	}
	if addr == "" {
		return nil
	}
	fmt.Printf("http://%s/\n", addr)
	return http.ListenAndServe(addr, http.FileServer(http.Dir(out)))
}

// build writes the folder.
func build(out, model string) error {
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	root, err := command("go", "env", "GOROOT")
	if err != nil {
		return err
	}
	if model == "" {
		folder, err := command("go", "list", "-f", "{{.Dir}}", "microrwkv/rwkv/demo")
		if err != nil {
			return err
		}
		model = filepath.Join(folder, "tinystories-reference.pt")
	}
	files := map[string][]byte{"simd.wasm": wasmsimd.Module}
	for name, path := range map[string]string{"wasm_exec.js": filepath.Join(root, "lib", "wasm", "wasm_exec.js"), "demo.pt": model} {
		if files[name], err = os.ReadFile(path); err != nil {
			return err
		}
	}
	program := filepath.Join(out, "app.wasm")
	if _, err := command("go", "build", "-trimpath", "-ldflags=-s -w", "-tags=wasmsimd", "-o", program, "microrwkv/examples/web/app"); err != nil {
		return err
	}
	code, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.Remove(program); err != nil {
		return err
	}
	if files["app.wasm.gz"], err = compressed(code); err != nil {
		return err
	}
	entries, err := fs.ReadDir(static, "static")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if files[e.Name()], err = static.ReadFile("static/" + e.Name()); err != nil {
			return err
		}
	}
	if files["page.css"], err = page.Files.ReadFile("page.css"); err != nil {
		return err
	}
	total := 0
	for name, b := range files {
		if err := cli.WriteFile(filepath.Join(out, name), b); err != nil {
			return err
		}
		if strings.HasSuffix(name, ".gz") {
			total += len(b)
		} else if name != "demo.pt" {
			small, err := compressed(b)
			if err != nil {
				return err
			}
			total += len(small)
		}
	}
	fmt.Fprintf(os.Stderr, "%s: %.2f MB of code and vocabularies (gzip), and a model of %.1f MB\n", out, float64(total)/1e6, float64(len(files["demo.pt"]))/1e6)
	return nil
}

// compressed returns b, compressed.
func compressed(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// command runs a command and returns the line that it prints. go build is for the browser.
func command(name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	if args[0] == "build" {
		c.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	b, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(b)), nil
}
