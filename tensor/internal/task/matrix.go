package task

import "strconv"

// Matrix is what a task keeps of a tensor: no pointer to its header, so that headers can live on the
// caller's stack.
type Matrix struct {
	Data       []float32
	Stride     int // numbers from row to row
	Rows, Cols int // all dimensions but the last count rows
}

// Same reports whether two matrices start at the same element.
func (m Matrix) Same(o Matrix) bool {
	return len(m.Data) > 0 && len(o.Data) > 0 && &m.Data[0] == &o.Data[0]
}

// Row returns row i.
func (m *Matrix) Row(i int) []float32 { return m.Data[i*m.Stride:][:m.Cols] }

// FormatShape formats a shape without letting it escape to the heap, which would make views do so
// as well.
func FormatShape(shape ...int) string {
	b := []byte{'['}
	for i, d := range shape {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	return string(append(b, ']'))
}
