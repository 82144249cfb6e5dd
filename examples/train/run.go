package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/train"
)

func run(f *flags) error {
	ctx := cli.Interruptible()
	ready := cli.FailWhenDone(ctx)
	s, err := setUp(f)
	ready()
	if err != nil {
		return err
	}
	l := newLog(s)
	err = s.loop(ctx, l)
	l.finish()
	if err != nil {
		return err
	}
	return l.curves()
}

// loop trains to the end, or until ctx ends: then it saves.
func (s *session) loop(ctx context.Context, l *log) error {
	t := s.trainer
	for t.Iter() < s.o.MaxIters && !s.evalOnly {
		if t.Iter()%s.evalInterval == 0 && t.Iter() > 0 || t.Iter() == 0 && s.data != nil {
			if err := s.evaluate(ctx, l, t.Iter() > 0); err != nil {
				return s.stop(ctx, l, err)
			}
		}
		r, err := t.Step(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		if err := l.step(r); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return s.stop(ctx, l, ctx.Err())
		}
	}
	if err := s.evaluate(ctx, l, !s.evalOnly); err != nil {
		return s.stop(ctx, l, err)
	}
	return nil
}

// stop saves after Ctrl-C; other errors it returns.
func (s *session) stop(ctx context.Context, l *log, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	if s.evalOnly {
		return cli.ErrInterrupted
	}
	if err := s.trainer.Save(s.path); err != nil {
		return err
	}
	l.say("interrupted at step %d: saved %s", s.trainer.Iter(), s.path)
	return nil
}

// evaluate evaluates, samples and saves. Exact batches have nothing to evaluate on: they are saved at the
// end alone.
func (s *session) evaluate(ctx context.Context, l *log, save bool) error {
	t := s.trainer
	end := t.Iter() >= s.o.MaxIters
	if s.data == nil {
		if end && save {
			return t.Save(s.path)
		}
		return nil
	}
	trainLoss, val, err := t.Evaluate(ctx)
	if err != nil {
		return err
	}
	if err := l.evaluation(t.Iter(), trainLoss, val); err != nil {
		return err
	}
	better := false
	if save {
		better = t.Improved(val)
	}
	if save && (better || s.alwaysSave) {
		if err := t.Save(s.path); err != nil {
			return err
		}
		l.say("saving checkpoint to %s", s.outDir)
	}
	l.sample(ctx, s)
	return nil
}

// log is what is shown and kept of a training.
type log struct {
	*flags
	json       *json.Encoder // nil in text
	bar        *cli.Bar
	steps      points
	train, val points
	tokens     int
	seconds    float64
}

// points are a curve.
type points struct{ x, y []float64 }

func (p *points) add(x int, y float64) { p.x, p.y = append(p.x, float64(x)), append(p.y, y) }

func newLog(s *session) *log {
	l := &log{flags: s.flags, bar: cli.NewCountBar("training")}
	if s.log == "json" {
		l.json = json.NewEncoder(os.Stdout)
	}
	n := 0
	for _, p := range s.trainer.Model().Parameters() {
		n += len(p.Value)
	}
	c := s.trainer.Model().Config()
	l.say("%s: %d parameters, %d blocks of width %d, %d ids; step %d of %d", c.Kind, n, c.NumLayers, c.EmbedDim, c.VocabSize, s.trainer.Iter(), s.o.MaxIters)
	if s.data != nil {
		a, b := s.data.Tokens()
		l.say("%d tokens to train on, %d to evaluate on", a, b)
	}
	return l
}

// say prints a line of the text log.
func (l *log) say(format string, args ...any) {
	if l.json == nil {
		l.bar.Finish()
		fmt.Printf(format+"\n", args...)
		l.bar = cli.NewCountBar("training")
	}
}

func (l *log) step(r train.Report) error {
	l.steps.add(r.Iter, r.Loss)
	if l.json != nil {
		return l.json.Encode(r)
	}
	l.tokens += r.Tokens
	l.seconds += r.Seconds
	if (r.Iter+1)%l.logInterval == 0 || r.Iter == 0 {
		l.say("iter %d: loss %.4f, time %.0f ms, %s tok/s", r.Iter, r.Loss, 1000*r.Seconds, thousands(int(float64(l.tokens)/l.seconds)))
		l.tokens, l.seconds = 0, 0
	}
	l.bar.Set(int64(r.Iter+1), int64(l.o.MaxIters))
	return nil
}

// thousands formats a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (l *log) evaluation(iter int, trainLoss, val float64) error {
	l.train.add(iter, trainLoss)
	l.val.add(iter, val)
	if l.json != nil {
		return l.json.Encode(struct {
			Iter      int     `json:"iter"`
			TrainLoss float64 `json:"train_loss"`
			ValLoss   float64 `json:"val_loss"`
		}{iter, trainLoss, val})
	}
	l.say("step %d: train loss %.4f, val loss %.4f", iter, trainLoss, val)
	return nil
}

// sample shows what the model writes now.
func (l *log) sample(ctx context.Context, s *session) {
	if l.json != nil || l.flags.sample == 0 || s.trainer.Iter() == 0 {
		return
	}
	m := s.trainer.Model().Model()
	tok, err := s.vocabulary(m)
	if err != nil {
		return // ids without a vocabulary
	}
	var text strings.Builder
	for piece, err := range m.Generate(ctx, tok, "\n", rwkv.MaxTokens(l.flags.sample), rwkv.Temperature(0.8), rwkv.TopK(200), rwkv.Seed(s.o.Seed)) {
		if err != nil {
			return // a vocabulary that can't spell the prompt, for one
		}
		text.WriteString(piece)
	}
	l.say("  | %s", strings.ReplaceAll(strings.TrimSpace(text.String()), "\n", "\n  | "))
}

func (l *log) finish() { l.bar.Finish() }

// curves shows the losses, and writes their picture beside the checkpoint.
func (l *log) curves() error {
	if len(l.steps.x) < 2 {
		return nil
	}
	if l.json == nil {
		fmt.Print(chart(l.steps, l.val, 72, 12))
	}
	for _, name := range []string{"loss.png", "loss.svg"} {
		if err := l.picture(filepath.Join(l.outDir, name)); err != nil {
			return err
		}
	}
	return nil
}

// chart draws the losses of the steps, averaged, as dots and those of the evaluations as o.
func chart(steps, val points, width, height int) string {
	first, last := steps.x[0], steps.x[len(steps.x)-1]
	low, high := math.Inf(1), math.Inf(-1)
	sums, counts := make([]float64, width), make([]float64, width)
	column := func(x float64) int {
		return min(max(int((x-first)/max(last-first, 1)*float64(width-1)+0.5), 0), width-1)
	}
	for i, x := range steps.x {
		c := column(x)
		sums[c] += steps.y[i]
		counts[c]++
	}
	for c := range sums {
		if counts[c] > 0 {
			sums[c] /= counts[c]
			low, high = min(low, sums[c]), max(high, sums[c])
		}
	}
	for _, y := range val.y {
		low, high = min(low, y), max(high, y)
	}
	grid := make([][]rune, height)
	for i := range grid {
		grid[i] = []rune(strings.Repeat(" ", width))
	}
	row := func(y float64) int {
		return min(max(int((high-y)/max(high-low, 1e-9)*float64(height-1)+0.5), 0), height-1)
	}
	for c := range sums {
		if counts[c] > 0 {
			grid[row(sums[c])][c] = '·'
		}
	}
	for i, x := range val.x {
		if x >= first && !math.IsNaN(val.y[i]) {
			grid[row(val.y[i])][column(x)] = 'o'
		}
	}
	var b strings.Builder
	for i, line := range grid {
		label := "       "
		switch i {
		case 0:
			label = fmt.Sprintf("%7.3f", high)
		case height - 1:
			label = fmt.Sprintf("%7.3f", low)
		}
		fmt.Fprintf(&b, "%s │%s\n", label, strings.TrimRight(string(line), " "))
	}
	fmt.Fprintf(&b, "        └%s\n         %-*.0f%*.0f  · loss, o val loss\n", strings.Repeat("─", width), width/2, first, width-width/2, last)
	return b.String()
}
