package rwkv

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// The checkpoint package's testdata has the files: one set for both.
const checkpointData = "../checkpoint/testdata/"

// Every encoding that torch.save makes gives the same model, without being told a config.
func TestOpenFormats(t *testing.T) {
	var cases []struct {
		File       string
		Tokens     []int
		LastLogits []float64 `json:"last_logits"`
	}
	readJSON(t, checkpointData+"formats/cases.json", &cases)
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			m, err := Open(checkpointData + "formats/" + c.File)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			logits, err := m.LastLogits(c.Tokens)
			if err != nil {
				t.Fatal(err)
			}
			var largest float64
			for _, l := range c.LastLogits {
				largest = max(largest, math.Abs(l))
			}
			// 6.3e-5 is the error of PyTorch's own float32 run on these weights
			within(t, "last logits", logits[0].Data(), c.LastLogits, 6.3e-5, largest)
		})
	}
}

// Every hostile file is refused with an error that names the file and what is wrong.
func TestOpenRefusesHostileFiles(t *testing.T) {
	var cases []struct {
		File string
		Must string
		Name []string `json:"error_should_name"`
	}
	readJSON(t, checkpointData+"hostile/cases.json", &cases)
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			m, err := Open(checkpointData + "hostile/" + c.File)
			if err == nil {
				m.Close()
				t.Fatal("no error")
			}
			for _, want := range append(c.Name, c.File) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q doesn't name %q", err, want)
				}
			}
		})
	}
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none.pt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
	if _, err := Open(checkpointData + "hostile/missing_tensor.pt"); !errors.Is(err, checkpoint.ErrNotFound) {
		t.Errorf("missing tensor: error %v", err)
	}
	if _, err := Open("testdata/golden/rwkv7/base.pth", AsKind(Causal)); err == nil {
		t.Error("RWKV-7 as causal: no error")
	}
	m, err := Open(checkpointData+"hostile/nan.pt", SkipChecks())
	if err != nil {
		t.Errorf("NaN with SkipChecks: %v", err)
	} else {
		m.Close()
	}
}

// A file that doesn't say its kind is what the caller says.
func TestAsKind(t *testing.T) {
	m, err := Open(checkpointData+"formats/bare_state_dict.pth", AsKind(Causal))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Config().Kind != Causal || !m.Streams() {
		t.Errorf("kind %s", m.Config().Kind)
	}
}

// Converted weights give nearly the same logits: bfloat16 has 8 bits, so that a weight is off by up
// to 2⁻⁹ of itself, and logits, sums of hundreds of them over some layers, by a few per cent of the
// largest at worst.
func TestWeightsAs(t *testing.T) {
	ids := []int{3, 1, 4, 1, 5}
	var want []float32
	for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		m, err := Open("testdata/golden/microrwkv/mini.pt", WeightsAs(dtype))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.net.head.DType(); got != dtype {
			t.Errorf("weights are %v, want %v", got, dtype)
		}
		logits, err := m.LastLogits(ids)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = logits[0].Data()
		}
		var worst, largest float64
		for i, w := range want {
			worst = max(worst, math.Abs(float64(w-logits[0].Data()[i])))
			largest = max(largest, math.Abs(float64(w)))
		}
		if worst > 0.05*largest || (dtype != tensor.F32 && worst == 0) {
			t.Errorf("%v: logits differ by %g of %g", dtype, worst, largest)
		}
		m.Close()
	}
}

// TestCheckInBackground opens files whose damage the checks in the background find, and then every call tells.
func TestCheckInBackground(t *testing.T) {
	for _, name := range []string{"nan.pt", "bit_flip.pt"} {
		path := checkpointData + "hostile/" + name
		_, want := Open(path)
		m, err := Open(path, CheckInBackground())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := m.Checked(); got == nil || got.Error() != want.Error() {
			t.Errorf("%s: the background found %v, want %v", name, got, want)
		}
		if _, err := m.Forward([]int{1}); err == nil || err.Error() != want.Error() {
			t.Errorf("%s: Forward after it: %v, want %v", name, err, want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	var last atomic.Int64
	m, err := Open("testdata/golden/microrwkv/mini.pt", CheckInBackground(), Progress(func(done, total int64) { last.Store(total - done) }))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Checked(); err != nil || last.Load() != 0 {
		t.Errorf("a whole file: %v, %d bytes not checked", err, last.Load())
	}
	if _, err := m.Forward([]int{1}); err != nil {
		t.Error(err)
	}
	closed, err := Open("testdata/golden/microrwkv/mini.pt", CheckInBackground())
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil { // waits for the checks, which read the mapping
		t.Error(err)
	}
	if err := closed.Checked(); err != nil {
		t.Error(err)
	}
}
