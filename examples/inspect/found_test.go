package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/clitest"
	"microrwkv/tensor"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

const found = "../../rwkv/testdata/found/"

// TestProblem shows the model, says why it can't be built, and fails.
func TestProblem(t *testing.T) {
	for _, args := range [][]string{{}, {"--json"}} {
		r := clitest.Run(t, append(args, found+"one_extra.pt")...)
		if r.Status != 1 || !strings.Contains(r.Stdout, "no place for it") || !strings.Contains(r.Stdout, "reference") || !strings.Contains(r.Stderr, "no place for it") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if out := clitest.Succeed(t, "--opaque", found+"enum_beside.pt"); !strings.Contains(out, "kind        reference") {
		t.Error(out)
	}
	clitest.Refuse(t, 1, []string{"AttnMaskType", "--opaque"}, found+"enum_beside.pt")
}

// TestTerminalSafety shows names as they can't do harm, and pads for none that is long.
func TestTerminalSafety(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	long := strings.Repeat("long", 100)
	if err := checkpoint.WriteSafetensors(path, []checkpoint.Named{{Name: "a\x1b[31m\nb", Tensor: tensor.New(2).Weight()}, {Name: "c", Tensor: tensor.New(2).Weight()}, {Name: long, Tensor: tensor.New(2).Weight()}}, nil); err != nil {
		t.Fatal(err)
	}
	out := clitest.Succeed(t, path)
	if strings.ContainsAny(out, "\x1b") || !strings.Contains(out, `"a\x1b[31m\nb"`) || strings.Contains(out, long) {
		t.Errorf("%q", out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "c ") && len(line) > 80 {
			t.Errorf("%q", line)
		}
	}
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	if err := os.WriteFile(path, append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+"\x00\x00\x80\x3f"...), 0o644); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := run(path, &settings{json: true}, &b); err != nil {
		t.Fatal(err)
	}
	var r map[string]json.RawMessage
	if err := json.Unmarshal(b.Bytes(), &r); err != nil || string(r["values"]) != "[]" {
		t.Errorf("values %s, %v", r["values"], err)
	}
}
