// Quantize rounds the large matrices of a model to blocks of fewer bits: 8, 6, 5 or 4. The output is a
// .gguf, for the kinds that llama.cpp runs too, or a .safetensors for all kinds; both are opened here like
// any model. A text for calibration halves the error of 4 bits.
//
//	go run ./examples/quantize model.pth model.gguf --format q8_0
//	go run ./examples/quantize model.pth model.gguf --format q4_k --calibrate text.txt
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// settings are the flags.
type settings struct {
	cli.ModelFlags
	format, calibrate, tokenizer string
	tokens                       int
	force, verbose               bool
}

func main() {
	var s settings
	fs := flag.NewFlagSet("quantize", flag.ContinueOnError)
	s.ModelFlags.Register(fs)
	fs.StringVar(&s.format, "format", "q8_0", cli.Formats())
	fs.StringVar(&s.calibrate, "calibrate", "", "compensate for rounding errors by what layers see of the text in this `file`, and compare the models on what follows of it")
	fs.IntVar(&s.tokens, "calibration_tokens", 4096, "use so many tokens of it")
	fs.StringVar(&s.tokenizer, "tokenizer", "", cli.TokenizerUsage)
	fs.BoolVar(&s.force, "force", false, "replace a file that is there already")
	fs.BoolVar(&s.verbose, "verbose", false, "list what becomes of each tensor")
	cli.Parse(fs, os.Args[1:], "MODEL", "OUT")
	s.Model = fs.Arg(0)
	cli.FailWhenDone(cli.Interruptible())
	if err := run(&s, fs.Arg(1), os.Stdout); err != nil {
		cli.Fail(err)
	}
}

func run(s *settings, out string, w io.Writer) error {
	i := slices.IndexFunc(tensor.Quantized(), func(d tensor.DType) bool { return strings.EqualFold(d.String(), s.format) })
	if i < 0 {
		return fmt.Errorf("--format %q: want one of %v", s.format, tensor.Quantized())
	}
	format := tensor.Quantized()[i]
	if ext := strings.ToLower(filepath.Ext(out)); ext != ".gguf" && ext != ".safetensors" {
		return fmt.Errorf("%s: want a name that ends in .gguf or .safetensors", out)
	}
	if err := errors.Join(cli.CheckOutput("OUT", out, s.Model), cli.CheckNew(out, s.force)); err != nil {
		return err
	}
	m, err := s.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	plan, err := rwkv.PlanQuantize(m, format)
	if err != nil {
		return err
	}
	bar := cli.NewCountBar("quantizing " + filepath.Base(s.Model))
	opts := []rwkv.QuantizeOption{rwkv.QuantizeProgress(bar.Set)}
	var ids []int
	if s.calibrate != "" {
		if ids, err = calibration(s, m); err != nil {
			return err
		}
		opts = append(opts, rwkv.Calibrate(ids[:min(len(ids), max(s.tokens, 0))]))
	}
	err = rwkv.QuantizeTo(out, m, format, opts...)
	bar.Finish()
	if err != nil {
		return err
	}
	if err := report(w, s, out, plan); err != nil || s.calibrate == "" {
		return err
	}
	return compare(w, s, m, out, format, ids)
}

// calibration returns the tokens of the text.
func calibration(s *settings, m *rwkv.Model) ([]int, error) {
	text, err := cli.ReadText(s.calibrate, false)
	if err != nil {
		return nil, err
	}
	tok, err := cli.Tokenizer(s.tokenizer, m)
	if err != nil {
		return nil, err
	}
	ids, err := cli.Encode(tok, m, text, false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.calibrate, err)
	}
	return append([]int{}, ids...), nil
}

// The tokens that models are compared on: at most so many of what is left of the calibration's text, and its
// own ones if fewer than so many are.
const mostCompared, fewestCompared = 1024, 128

// compare prints how far the quantized model is from the model.
func compare(w io.Writer, s *settings, m *rwkv.Model, out string, format tensor.DType, ids []int) error {
	q, err := rwkv.Open(out, rwkv.AsKind(m.Config().Kind))
	if err != nil {
		return err
	}
	defer q.Close()
	what := "after those of the calibration"
	part := ids[min(len(ids), s.tokens):]
	if len(part) < fewestCompared {
		part, what = ids[:min(len(ids), s.tokens)], "that it was calibrated with"
	}
	part = part[:min(len(part), mostCompared)]
	c, err := q.Compare(m, part)
	if err != nil {
		return err
	}
	before, err1 := cli.TokensPerSecond(m)
	after, err2 := cli.TokensPerSecond(q)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tMB\tKL, nats a token\tsame top-1\tloss\ttokens/s\t")
	fmt.Fprintf(t, "original\t%.1f\t0\t100%%\t%.4f\t%.1f\t\n", float64(cli.WeightBytes(m))/1e6, c.OtherLoss, before)
	fmt.Fprintf(t, "%v\t%.1f\t%.5f\t%.1f%%\t%.4f\t%.1f\t\n", format, float64(cli.WeightBytes(q))/1e6, c.KL, 100*c.Top1, c.Loss, after)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "on %d tokens of %s %s\n", len(part), cli.Quote(s.calibrate), what)
	return err
}

// report prints the rule and what came of it.
func report(w io.Writer, s *settings, out string, plan []rwkv.PlannedTensor) error {
	fmt.Fprintln(w, rwkv.QuantizeRule)
	type change struct {
		from, to tensor.DType
		why      string
	}
	count, before, after := map[change]int{}, 0, 0
	var order []change
	for _, p := range plan {
		c := change{p.From, p.To, p.Why}
		if count[c] == 0 {
			order = append(order, c)
		}
		count[c]++
		n := 1
		for _, d := range p.Shape {
			n *= d
		}
		before, after = before+p.From.Bytes(n), after+p.To.Bytes(n)
		if s.verbose {
			fmt.Fprintf(w, "%s %v: %v → %v%s\n", cli.Quote(p.Name), p.Shape, p.From, p.To, because(p.Why))
		}
	}
	for _, c := range order {
		fmt.Fprintf(w, "%4d tensors %v → %v%s\n", count[c], c.from, c.to, because(c.why))
	}
	_, err := fmt.Fprintf(w, "%s: %.1f MB → %.1f MB (%.0f%%)\n", cli.Quote(out), float64(before)/1e6, float64(after)/1e6, 100*float64(after)/float64(before))
	return err
}

// because returns a reason to print behind what became of tensors.
func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}
