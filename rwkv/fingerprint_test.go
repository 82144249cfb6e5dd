package rwkv

import (
	"errors"
	"testing"

	"microrwkv/tensor"
)

// Every byte counts, at the ends and within.
func TestFingerprintTellsBytes(t *testing.T) {
	made := func() *Model {
		m, err := Random(smallConfig(Causal), tensor.F32, 1)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	whole := made()
	want := fingerprint(t, whole)
	for i, w := range whole.tensors {
		for _, at := range []int{0, 1, len(w.Bytes()) / 2, len(w.Bytes()) - 1} {
			m := made()
			m.tensors[i].Bytes()[at] ^= 1
			if fingerprint(t, m) == want {
				t.Errorf("%s: byte %d doesn't count", w.name, at)
			}
		}
	}
}

func fingerprint(t *testing.T, m *Model) [32]byte {
	t.Helper()
	f, err := m.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A state that has lost some of its tokens' ids is refused: its next shift of the context needs them.
func TestStateWithFewerIDs(t *testing.T) {
	m, err := Random(smallConfig(Causal), tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	for kept := range 5 {
		s := m.NewState()
		if _, err := s.Append([]int{1, 2, 3, 4, 5}); err != nil {
			t.Fatal(err)
		}
		s.ids = s.ids[:kept]
		data, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.NewState().UnmarshalBinary(data); !errors.Is(err, ErrStateFormat) {
			t.Errorf("%d ids of 5 positions: error %v", kept, err)
		}
	}
}
