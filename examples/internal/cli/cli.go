// Package cli is what the example programs share: flags as the published programs spell them, how
// a model is found and opened, a progress bar, and how errors end a program.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// Parse parses args, which must leave the operands that are named. Wrong flags end the program
// with status 2, --help with 0.
func Parse(fs *flag.FlagSet, args []string, operands ...string) {
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	flags, rest := reorder(fs, args)
	err := fs.Parse(append(flags, rest...))
	if n := fs.NArg(); err == nil && n > len(operands) {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(len(operands)))
	} else if err == nil && n < len(operands) {
		err = fmt.Errorf("missing argument %s", operands[n])
	}
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(os.Stdout)
		fmt.Println("usage:", strings.Join(append([]string{fs.Name(), "[flags]"}, operands...), " "))
		fs.PrintDefaults()
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v (--help lists the flags)\n", fs.Name(), err)
		os.Exit(2)
	}
}

// reorder separates flags from operands, so that flags may follow operands, and joins "--bool
// true" to "--bool=true", which package flag would take for an operand.
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
			if isBool := ok && b.IsBoolFlag(); !isBool || args[i+1] == "true" || args[i+1] == "false" {
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
	fmt.Fprintln(os.Stderr, "error:", strings.ReplaceAll(err.Error(), "\n", "; "))
	os.Exit(1)
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
