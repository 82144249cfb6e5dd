package main

import (
	"bytes"
	"os"
	"testing"
)

// The committed files are what this program writes.
func TestFilesAreGenerated(t *testing.T) {
	for name, want := range files() {
		got, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date: run go generate", name)
		}
	}
}
