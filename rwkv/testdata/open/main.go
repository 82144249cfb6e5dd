// Open is the smallest program that uses the package: what the test of its imports builds.
package main

import (
	"fmt"
	"os"

	"microrwkv/rwkv"
)

func main() {
	model, err := rwkv.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(model.Config())
}
