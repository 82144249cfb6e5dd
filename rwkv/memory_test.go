package rwkv

import "microrwkv/tensor"

// memory is a source of tensors in memory.
type memory struct {
	names   []string
	tensors map[string]*tensor.Weight
}

func (m *memory) Names() []string { return m.names }

func (m *memory) Shape(name string) ([]int, bool) {
	t, ok := m.tensors[name]
	if !ok {
		return nil, false
	}
	return t.Shape(), true
}

func (m *memory) Tensor(name string) (*tensor.Weight, error) { return m.tensors[name], nil }
