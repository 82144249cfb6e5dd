package rwkv

import "testing"

// slow leaves a test out of short runs: one that computes on one goroutine, for a second or more, what the
// race detector learns nothing from.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("slow")
	}
}
