package kernel

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// MICRORWKV_REQUIRE=avx512,… fails where a kernel isn't there, so that no run passes over it in silence.
func TestRequired(t *testing.T) {
	for name := range strings.SplitSeq(os.Getenv("MICRORWKV_REQUIRE"), ",") {
		if name != "" && !slices.Contains(Names(), name) {
			t.Errorf("MICRORWKV_REQUIRE: no kernel %q here, which has %v", name, Names())
		}
	}
}
