package nn

import "fmt"

// State is what a layer keeps of a sequence, for copying, saving and restoring.
type State interface {
	// Rows returns the number of positions that the state holds apart from each other, 0 for a
	// state of fixed size.
	Rows() int
	// SetRows makes room for the parts of a state with n rows.
	SetRows(n int) error
	// Size returns how many numbers Parts yields with n rows. It returns an error if SetRows would.
	Size(n int) (int, error)
	// MaxRows returns the largest number of rows.
	MaxRows() int
	// Parts yields the numbers that make up the state, at any two calls with the same number of
	// rows in the same order and sizes.
	Parts(yield func([]float32) bool)
}

// Reset makes s the state of an empty sequence.
func Reset(s State) {
	if err := s.SetRows(0); err != nil {
		panic("nn: Reset: " + err.Error()) // 0 rows always fit
	}
	s.Parts(func(p []float32) bool { clear(p); return true })
}

// fixed is the part of a State that has no rows.
type fixed struct{}

// Rows returns 0.
func (fixed) Rows() int { return 0 }

// MaxRows returns 0.
func (fixed) MaxRows() int { return 0 }

// SetRows accepts only 0.
func (fixed) SetRows(n int) error {
	_, err := fixedSize(n, 0)
	return err
}

func fixedSize(rows, size int) (int, error) {
	if rows != 0 {
		return 0, fmt.Errorf("%d rows in a state of fixed size", rows)
	}
	return size, nil
}

// TimeMixState is what a TimeMix keeps of a sequence.
type TimeMixState struct {
	fixed
	Shift []float32 // [C], the last row
	WKV   []float32 // [H, N, N]
}

// NewTimeMixState returns the state of an empty sequence.
func NewTimeMixState(c, heads int) TimeMixState {
	return TimeMixState{Shift: make([]float32, c), WKV: make([]float32, c*c/heads)}
}

// Parts yields the slices that make up the state.
func (t *TimeMixState) Parts(yield func([]float32) bool) { _ = yield(t.Shift) && yield(t.WKV) }

// Size accepts only 0 rows.
func (t *TimeMixState) Size(n int) (int, error) { return fixedSize(n, len(t.Shift)+len(t.WKV)) }

// ChannelMixState is what a ChannelMix keeps of a sequence.
type ChannelMixState struct {
	fixed
	Shift []float32 // [C], the last row
}

// NewChannelMixState returns the state of an empty sequence.
func NewChannelMixState(c int) ChannelMixState {
	return ChannelMixState{Shift: make([]float32, c)}
}

// Parts yields the slice that makes up the state.
func (t *ChannelMixState) Parts(yield func([]float32) bool) { yield(t.Shift) }

// Size accepts only 0 rows.
func (t *ChannelMixState) Size(n int) (int, error) { return fixedSize(n, len(t.Shift)) }
