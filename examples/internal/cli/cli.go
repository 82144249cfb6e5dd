// Package cli is what the example programs share: flags as the published programs spell them, how
// a model is found and opened, a progress bar, and how errors end a program.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// Parse parses args, which must leave the operands that are named. Wrong flags end the program
// with status 2, --help with 0.
func Parse(fs *flag.FlagSet, args []string, operands ...string) {
	rest := ParseOptional(fs, args, operands...)
	if n := len(rest); n < len(operands) {
		Usage(fs, "missing argument %s", operands[n])
	}
}

// ParseOptional is Parse for operands that needn't be there. It returns those that are.
func ParseOptional(fs *flag.FlagSet, args []string, operands ...string) []string {
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	flags, rest := reorder(fs, args)
	err := fs.Parse(append(flags, rest...))
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(os.Stdout)
		fmt.Println("usage:", strings.Join(append([]string{fs.Name(), "[flags]"}, operands...), " "))
		fs.PrintDefaults()
		os.Exit(0)
	}
	if err != nil {
		Usage(fs, "%w", err)
	}
	if fs.NArg() > len(operands) {
		Usage(fs, "unexpected argument %q", fs.Arg(len(operands)))
	}
	return fs.Args()
}

// Usage ends the program with status 2 and one line that says what is wrong with its arguments.
func Usage(fs *flag.FlagSet, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s: %s (--help lists the flags)\n", fs.Name(), QuoteLines(fmt.Errorf(format, args...).Error()))
	os.Exit(2)
}

// Given returns the names of the flags that were set.
func Given(fs *flag.FlagSet) map[string]bool {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
}

// reorder separates flags from operands, so that flags may follow operands, and joins "--bool
// true" to "--bool=true", which package flag would take for an operand; True and False, as Python
// spells them, are as good.
func reorder(fs *flag.FlagSet, args []string) (flags, operands []string) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(flags, "--"), append(operands, args[i+1:]...)
		}
		if len(a) < 2 || a[0] != '-' {
			operands = append(operands, a)
			continue
		}
		f := fs.Lookup(strings.TrimLeft(a, "-"))
		if f != nil && i+1 < len(args) {
			b, ok := f.Value.(interface{ IsBoolFlag() bool })
			word := strings.ToLower(args[i+1])
			if isBool := ok && b.IsBoolFlag(); !isBool || word == "true" || word == "false" {
				i++
				a += "=" + args[i]
			}
		}
		flags = append(flags, a)
	}
	return flags, operands
}

// Fail prints an error as one line on stderr and ends the program with status 1.
func Fail(err error) {
	if b := onScreen.Load(); b != nil {
		b.Finish()
	}
	discardAll()
	fmt.Fprintln(os.Stderr, "error:", strings.ReplaceAll(QuoteLines(strings.ReplaceAll(err.Error(), "\r", " ")), "\n", "; "))
	os.Exit(1)
}

// Warn prints a line on stderr.
func Warn(format string, args ...any) {
	fmt.Fprintln(os.Stderr, "warning:", strings.ReplaceAll(QuoteLines(fmt.Sprintf(format, args...)), "\n", "; "))
}

// ErrInterrupted is how a program fails that Ctrl-C ended.
var ErrInterrupted = errors.New("interrupted")

// Interruptible returns a context that the first Ctrl-C or SIGTERM ends. A second one ends the program.
func Interruptible() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop()
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-again
			Fail(ErrInterrupted)
		}()
	})
	return ctx
}

// FailWhenDone ends the program when ctx ends, until stop is called: for work that doesn't look at
// ctx, such as opening a model.
func FailWhenDone(ctx context.Context) (stop func()) {
	cancel := context.AfterFunc(ctx, func() { Fail(ErrInterrupted) })
	return func() { cancel() }
}

// Strings is a flag that may be given several times.
type Strings []string

// String lists the values.
func (s *Strings) String() string { return strings.Join(*s, ", ") }

// Set adds a value.
func (s *Strings) Set(v string) error {
	*s = append(*s, v)
	return nil
}

// Seed is a flag for the seed of what is sampled.
type Seed uint64

// Register adds the flag to fs. Its default is another one each time.
func (s *Seed) Register(fs *flag.FlagSet) {
	*s = Seed(rand.Uint32())
	fs.Var(s, "seed", "seed of what is sampled, a `number` from 0 (default: another one each time)")
}

// String is empty: the default says nothing.
func (s *Seed) String() string { return "" }

// Set parses a seed.
func (s *Seed) Set(v string) error {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return errors.New("want a number from 0")
	}
	*s = Seed(n)
	return nil
}
