package cli

import (
	"strings"

	"microrwkv/tensor"
)

// Formats names the formats that weights are quantized to, separated by commas.
func Formats() string {
	var names []string
	for _, d := range tensor.Quantized() {
		names = append(names, d.String())
	}
	return strings.Join(names, ", ")
}
