package cli

import (
	"time"

	"microrwkv/rwkv"
)

// What TokensPerSecond measures: so many tokens, or as many as so long allows.
const (
	speedTokens = 64
	speedTime   = 2 * time.Second
)

// TokensPerSecond returns how fast the model goes on, a token at a time, after a few that warm it up.
func TokensPerSecond(m *rwkv.Model) (float64, error) {
	s := m.NewState()
	var start time.Time
	n := -3
	for ; n < speedTokens; n++ {
		if n == 0 {
			start = time.Now()
		}
		if n > 0 && time.Since(start) > speedTime {
			break
		}
		if c := m.Config(); c.BlockSize > 0 && n+3 >= c.BlockSize { // full
			break
		}
		if _, err := s.Append([]int{(n + 3) * 31 % m.Config().VocabSize}); err != nil {
			return 0, err
		}
	}
	if n < 1 {
		return 0, nil
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// WeightBytes returns the size of the model's weights.
func WeightBytes(m *rwkv.Model) int {
	n := 0
	for _, t := range m.Tensors() {
		n += len(t.Tensor.Bytes())
	}
	return n
}
