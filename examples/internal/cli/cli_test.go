package cli

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

func TestMain(m *testing.M) { clitest.Main(m, program) }

// program shows how its arguments are parsed.
func program() {
	fs := flag.NewFlagSet("program", flag.ContinueOnError)
	var s Strings
	var seed Seed
	fs.Var(&s, "s", "")
	on := fs.Bool("on", true, "")
	n := fs.Int("n", 3, "a number of `things`")
	seed.Register(fs)
	Parse(fs, os.Args[1:], "IN")
	if *n == 9 {
		Fail(fmt.Errorf("this is wrong:\nand\r\nthat"))
	}
	fmt.Printf("%q %v %d %q\n", []string(s), *on, *n, fs.Arg(0))
}

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"x":                         `[] true 3 "x"`,
		"-n 4 x":                    `[] true 4 "x"`,
		"--n=4 x":                   `[] true 4 "x"`,
		"x --n 4":                   `[] true 4 "x"`,
		"--n -4 x":                  `[] true -4 "x"`,
		"--on x":                    `[] true 3 "x"`,
		"--on false x":              `[] false 3 "x"`,
		"--on False x":              `[] false 3 "x"`,
		"--on=false x":              `[] false 3 "x"`,
		"--s a --s=b x -s --on":     `["a" "b" "--on"] true 3 "x"`,
		"--s= x":                    `[""] true 3 "x"`,
		"--n 5 -- --n":              `[] true 5 "--n"`,
		"-":                         `[] true 3 "-"`,
		"--seed 3 x --seed=4 --n 2": `[] true 2 "x"`,
	} {
		if got := clitest.Succeed(t, strings.Fields(args)...); got != want+"\n" {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
	for args, words := range map[string]string{
		"":              "program missing IN",
		"x y":           `program unexpected "y"`,
		"x \x1b[0m":     `program unexpected`,
		"x --m":         "program -m",
		"x --n":         "program -n",
		"x --n 1e3":     "program 1e3 -n",
		"x --seed -1":   "program -1 -seed",
		"x --seed 1.5":  "program 1.5 -seed",
		"x --on=maybe":  "program maybe -on",
		"x --n=":        "program -n",
		"x --on maybe":  `program unexpected "maybe"`,
		"x --n 4 --n=x": "program x -n",
	} {
		clitest.Refuse(t, 2, strings.Fields(words), strings.Fields(args)...)
	}
	clitest.Refuse(t, 1, []string{"error: this is wrong:; and ; that"}, "x", "--n=9")
	if help := clitest.Succeed(t, "--help"); !strings.Contains(help, "usage: program [flags] IN\n") || !strings.Contains(help, "a number of things (default 3)") || strings.Contains(help, "default 1") {
		t.Error(help)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		``: "", `a`: "a", `a\nb`: "a\nb", `\\n`: `\n`, `\r\t\0\"\'`: "\r\t\x00\"'", `\x41\u00e9\U0001F600`: "Aé😀",
		`\q`: `\q`, `\`: `\`, `a\`: `a\`, `\\\n`: "\\\n", "é\n": "é\n",
	} {
		if got, err := Unescape(in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`\x4`, `\xzz`, `\u12`, `a\U1234567`} {
		if got, err := Unescape(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"transformer.h.0": "transformer.h.0", "é 你好": "é 你好", "a\x1b[31m": `"a\x1b[31m"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`,
		"a\u202eb": `"a\u202eb"`, strings.Repeat("x", 300): strings.Repeat("x", 119) + "…",
	} {
		if got := Quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if got := QuoteLines("a\nb\x1b[0m\u202e"); got != "a\nb\\x1b[0m\\u202e" {
		t.Errorf("%q", got)
	}
}

func TestEndOfText(t *testing.T) {
	for _, c := range []struct {
		config rwkv.Config
		want   int
	}{
		{rwkv.Config{Kind: rwkv.X051a, BlockSize: 1, VocabSize: 50257, NumLayers: 1, NumHeads: 1, EmbedDim: 4}, 50256},
		{rwkv.Config{Kind: rwkv.X051a, BlockSize: 1, VocabSize: 50256, NumLayers: 1, NumHeads: 1, EmbedDim: 4}, -1},
		{rwkv.Config{Kind: rwkv.RWKV7, VocabSize: 65536, NumLayers: 1, NumHeads: 1, EmbedDim: 64}, 0},
		{rwkv.Config{Kind: rwkv.RWKV7, VocabSize: 40000, NumLayers: 1, NumHeads: 1, EmbedDim: 64}, -1},
		{rwkv.Config{Kind: rwkv.RWKV4, VocabSize: 50277, NumLayers: 1, EmbedDim: 64}, 0},
	} {
		m, err := rwkv.Random(c.config, tensor.BF16, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := EndOfText(m); got != c.want {
			t.Errorf("%+v: %d, want %d", c.config, got, c.want)
		}
		if c.want < 0 {
			continue
		}
		tok, err := Tokenizer("", m)
		if err != nil || tok.EndOfText() != c.want || tok.VocabSize() > c.config.VocabSize {
			t.Errorf("%+v: another tokenizer, of %d ids, %v", c.config, tok.VocabSize(), err)
		}
	}
}

func TestIDs(t *testing.T) {
	if ids, err := IDs("3, 1,-4"); err != nil || !slices.Equal(ids, []int{3, 1, -4}) {
		t.Errorf("%v, %v", ids, err)
	}
	for _, list := range []string{"", ",", "1,", "a", "1.0", "0x1", "1 2", "9223372036854775808"} {
		if ids, err := IDs(list); err == nil {
			t.Errorf("%q: %v", list, ids)
		}
	}
}

// TestWriteFile replaces files whole, through links, and leaves nothing behind.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "a"), filepath.Join(dir, "link")
	for _, content := range []string{"one", "", "three"} {
		if err := WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("%q, %v, want %q", b, err, content)
		}
	}
	if err := os.Symlink("a", link); err == nil {
		if err := WriteFile(link, []byte("linked")); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "linked" {
			t.Errorf("%q, %v behind the link", b, err)
		}
		os.Remove(link)
	}
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Discard()
	if b, err := os.ReadFile(path); err != nil || len(b) == 0 {
		t.Errorf("%q, %v after giving up", b, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files left: %v, %v", files, err)
	}
	if err := WriteFile(dir, nil); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder: %v", err)
	}
	missing := filepath.Join(dir, "none", "a")
	if err := WriteFile(missing, nil); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), missing+": ") {
		t.Errorf("in no folder: %v", err)
	}
}
