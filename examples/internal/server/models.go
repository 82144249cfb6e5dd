package server

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/serve"
	"microrwkv/tokenizer"
)

// served is a model as the flags say it: --model, and what comes before the next one.
type served struct {
	name, path string
	given      bool // by --model
	companions cli.CompanionFlags
	states     map[string]string // files by their names
}

// newest returns the model that flags belong to: the last one given, or else the first that will be.
func (s *settings) newest() *served {
	if len(s.served) == 0 {
		s.served = append(s.served, &served{name: "demo"})
	}
	return s.served[len(s.served)-1]
}

// name is what a name before = looks like. Anything else belongs to a path.
var name = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// named splits [NAME=]PATH.
func named(v string) (before, path string) {
	if before, path, ok := strings.Cut(v, "="); ok && name.MatchString(before) {
		return before, path
	}
	return "", v
}

// addModel is the flag --model.
func (s *settings) addModel(v string) error {
	m := s.newest()
	if m.given {
		m = &served{}
		s.served = append(s.served, m)
	}
	m.given = true
	if m.name, m.path = named(v); m.name == "" {
		base := filepath.Base(m.path)
		m.name = strings.TrimSuffix(base, filepath.Ext(base))
	}
	return nil
}

// addState is the flag --state.
func (s *settings) addState(v string) error {
	m := s.newest()
	name, path := named(v)
	switch {
	case path == "":
		return fmt.Errorf("want FILE or NAME=FILE")
	case name == "" && m.companions.State != "":
		return fmt.Errorf("every sequence starts from %s already; NAME=FILE is one that requests name", m.companions.State)
	case name == "":
		m.companions.State = path
	case m.states[name] != "":
		return fmt.Errorf("there is another state %q", name)
	default:
		if m.states == nil {
			m.states = map[string]string{}
		}
		m.states[name] = path
	}
	return nil
}

// models returns the models to serve, which are opened later.
func (s *settings) models() (models []serve.Model, err error) {
	s.newest()
	for _, m := range s.served {
		if m.path != "" {
			if _, err := os.Stat(m.path); err != nil {
				return nil, err
			}
		}
		flags := s.open
		flags.Model, flags.Companions = m.path, m.companions
		if _, err := flags.Options(); err != nil { // now, not when it is loaded
			return nil, err
		}
		models = append(models, serve.Model{Name: m.name, States: m.states, Open: func() (*rwkv.Model, tokenizer.Tokenizer, error) {
			m, err := flags.Open()
			if err != nil {
				return nil, nil, err
			}
			tok, err := cli.Tokenizer(s.tokenizer, m)
			return m, tok, err
		}})
	}
	return models, nil
}
