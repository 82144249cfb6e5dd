package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
)

// settings are the flags.
type settings struct {
	json, skipChecks, opaque bool
	key, kind                string
}

// report is what is told of a file.
type report struct {
	File       string            `json:"file"`
	Format     checkpoint.Format `json:"format"`
	Layout     string            `json:"layout,omitempty"` // of an official model's tensors
	Kind       rwkv.Kind         `json:"kind"`             // "unknown" if it is no model of this project's
	Config     any               `json:"config"`
	Problem    string            `json:"problem,omitempty"` // why no model can be made of it
	Parameters int               `json:"parameters"`        // tied ones counted once, integers left out
	DTypes     map[string]int    `json:"dtypes"`            // tensors of each
	Values     []string          `json:"values"`            // what lies beside the tensors
	Tensors    []entry           `json:"tensors"`
}

// entry is one tensor.
type entry struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Tied  string `json:"tied,omitempty"` // an earlier tensor with the same elements

	Official string `json:"official,omitempty"` // its official name if the layout has another
}

func run(path string, s *settings, w io.Writer) error {
	var opts []checkpoint.Option
	if s.key != "" {
		opts = append(opts, checkpoint.Key(strings.Split(s.key, ".")...))
	}
	if s.opaque {
		opts = append(opts, checkpoint.Opaque())
	}
	path, err := rwkv.ModelFile(path)
	if err != nil {
		return err
	}
	f, err := checkpoint.Open(path, opts...)
	if err != nil {
		return err
	}
	defer f.Close()
	if !s.skipChecks {
		bar := cli.NewBar("checking " + filepath.Base(path))
		err := f.Verify(bar.Set)
		bar.Finish()
		if err != nil {
			return err
		}
	}
	r := describe(f, s.kind)
	if s.json {
		err = json.NewEncoder(w).Encode(r)
	} else {
		err = r.print(w)
	}
	if err == nil && r.Kind != unknown && r.Problem != "" {
		err = errors.New(r.Problem)
	}
	return err
}

// unknown is the kind of what is no model of this project's.
const unknown = "unknown"

// describe gathers the report.
func describe(f *checkpoint.File, kind string) *report {
	r := &report{File: f.Name(), Format: f.Format(), Kind: unknown, DTypes: map[string]int{}, Values: []string{}, Tensors: []entry{}}
	r.model(f, kind)
	layout, err := rwkv.LayoutOf(f)
	if err == nil {
		r.Layout = layout.Name
	}
	type place struct {
		storage string
		offset  int
	}
	seen := map[place][]checkpoint.Info{}
	for _, name := range f.Names() {
		info, _ := f.Info(name)
		e := entry{Name: name, DType: info.DType.String(), Shape: info.Shape}
		if official := layout.Official(name); official != name {
			e.Official = official
		}
		at := place{info.Storage, info.Offset}
		if i := slices.IndexFunc(seen[at], info.SameData); i >= 0 {
			e.Tied = seen[at][i].Name
		} else {
			seen[at] = append(seen[at], info)
			if info.DType.Float() {
				r.Parameters += info.Len()
			}
		}
		r.DTypes[e.DType]++
		r.Tensors = append(r.Tensors, e)
	}
	if top, ok := f.Value(); ok && (!f.Bare() || f.Format().Metadata()) {
		r.Values = slices.AppendSeq(r.Values, maps.Keys(top.(map[string]any)))
		slices.Sort(r.Values)
	}
	return r
}

// model finds out which of this project's models the file holds, if it is one.
func (r *report) model(f *checkpoint.File, kind string) {
	var opts []rwkv.OpenOption
	if kind != "" {
		opts = append(opts, rwkv.AsKind(rwkv.Kind(kind)))
	}
	c, err := rwkv.Describe(f, opts...)
	if err != nil {
		r.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if c.Kind == "" {
		args, _ := f.Value("model_args")
		r.Config = printable(args)
		return
	}
	r.Kind, r.Config = c.Kind, c
}

// printable puts text in the place of what JSON can't express, as a checkpoint may hold it.
func printable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, x := range v {
			m[k] = printable(x)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = printable(x)
		}
		return list
	}
	if _, err := json.Marshal(v); err != nil {
		return fmt.Sprint(v)
	}
	return v
}

// quoted returns texts in a form that is safe on a terminal.
func quoted(texts []string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = cli.Quote(s)
	}
	return out
}

// print writes the report for people.
func (r *report) print(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "file        %s (%s)\n", cli.Quote(r.File), r.Format)
	if r.Layout != "" {
		fmt.Fprintf(w, "layout      %s\n", r.Layout)
	}
	fmt.Fprintf(w, "kind        %s\n", r.Kind)
	if r.Problem != "" {
		fmt.Fprintf(w, "            %s\n", cli.QuoteLines(r.Problem))
	}
	if r.Config != nil {
		config, err := json.Marshal(r.Config)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "config      %s\n", config)
	}
	fmt.Fprintf(w, "parameters  %d\n", r.Parameters)
	for _, d := range slices.Sorted(maps.Keys(r.DTypes)) {
		fmt.Fprintf(w, "dtype       %s: %d tensors\n", d, r.DTypes[d])
	}
	if len(r.Values) > 0 {
		fmt.Fprintf(w, "values      %s\n", strings.Join(quoted(r.Values), ", "))
	}
	const widest = 60 // one long name mustn't pad every line
	width := 0
	for _, t := range r.Tensors {
		width = max(width, min(utf8.RuneCountInString(cli.Quote(t.Name)), widest))
	}
	for _, t := range r.Tensors {
		fmt.Fprintf(w, "%-*s  %-4s %v", width, cli.Quote(t.Name), t.DType, t.Shape)
		if t.Official != "" {
			fmt.Fprintf(w, "  is %s", cli.Quote(t.Official))
		}
		if t.Tied != "" {
			fmt.Fprintf(w, "  tied to %s", cli.Quote(t.Tied))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
