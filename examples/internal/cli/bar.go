package cli

import (
	"os"
	"sync/atomic"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Bar is a progress bar on stderr, shown only on a terminal.
type Bar struct {
	title string
	bytes bool
	bar   *progressbar.ProgressBar // nil until Set, or without a terminal for good
}

// NewBar returns a bar for bytes, which appears with the first call of Set.
func NewBar(title string) *Bar { return &Bar{title: title, bytes: true} }

// NewCountBar is NewBar for things to count.
func NewCountBar(title string) *Bar { return &Bar{title: title} }

// onScreen is the bar that is shown, for Fail.
var onScreen atomic.Pointer[Bar]

// Set shows that so much of a total is done.
func (b *Bar) Set(done, total int64) {
	if b.bar == nil {
		if !term.IsTerminal(int(os.Stderr.Fd())) {
			return
		}
		options := []progressbar.Option{progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(b.title),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30), progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(true)}
		if !b.bytes { // a rate of bytes would begin with nonsense: much of a file may be in memory
			options = append(options, progressbar.OptionShowCount())
		}
		b.bar = progressbar.NewOptions64(total, options...)
	}
	onScreen.Store(b)
	b.bar.Set64(done)
}

// Finish removes the bar.
func (b *Bar) Finish() {
	if b.bar != nil {
		b.bar.Finish()
		onScreen.Store(nil)
	}
}
