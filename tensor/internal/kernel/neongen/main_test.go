package main

import (
	"bytes"
	"os"
	"testing"
)

// TestFiles holds the committed assembly against the generator.
func TestFiles(t *testing.T) {
	for name, want := range files() {
		got, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what neongen writes: run go generate in package kernel", name)
		}
	}
}
