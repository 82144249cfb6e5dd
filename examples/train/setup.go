package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/train"
	"microrwkv/tokenizer"
)

// session is a training that is set up.
type session struct {
	*flags
	trainer *train.Trainer
	data    *train.Dataset // nil with exact batches
	path    string         // of the checkpoint
}

// setUp reads everything and finds what is wrong with it, before the first step.
func setUp(f *flags) (*session, error) {
	f.given = cli.Given(f.set)
	s := &session{flags: f, path: filepath.Join(f.outDir, "ckpt.pt")}
	from := "" // checkpoint to begin with
	resume := f.initFrom == "resume"
	switch {
	case resume:
		from = s.path
		if err := s.readConfig(); err != nil {
			return nil, err
		}
	case f.initFrom != "scratch":
		from = f.initFrom
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	source, err := s.openData(from)
	if err != nil {
		return nil, err
	}
	model, err := s.model(from)
	if err != nil {
		return nil, err
	}
	f.adopt(model.Config())
	f.recipe(model.Config().Kind)
	begin := train.New
	if f.tuneState != "" {
		begin, s.path = train.NewStates, f.tuneState
	}
	if s.trainer, err = begin(model, f.o, source); err != nil {
		return nil, err
	}
	if resume {
		if err := s.trainer.Resume(s.path); err != nil {
			return nil, err
		}
	}
	s.trainer.Config = f.config()
	return s, s.prepareFolder()
}

// adopt sets the flags that say a model's shape to what it has, for the checkpoint's config.
func (f *flags) adopt(c rwkv.Config) {
	f.kind, f.bias = string(c.Kind), c.Bias
	f.layers, f.heads, f.embed, f.vocab = c.NumLayers, c.NumHeads, c.EmbedDim, c.VocabSize
	f.experts, f.active, f.expertDim = c.NumExperts, c.NumActiveExperts, c.ExpertDim
	if slices.Contains([]rwkv.Kind{rwkv.RWKV5, rwkv.RWKV6, rwkv.RWKV7}, c.Kind) {
		f.headSize, f.ffn = c.EmbedDim/c.NumHeads, c.FFNDim
	}
}

// readConfig takes the flags that aren't given from the checkpoint that is resumed.
func (s *session) readConfig() error {
	c, err := checkpoint.Open(s.path)
	if err != nil {
		return err
	}
	defer c.Close()
	v, _ := c.Value("config")
	config, _ := v.(map[string]any)
	if s.given["data"] || s.given["dataset"] || s.given["batches"] {
		for _, name := range []string{"data", "dataset", "batches"} {
			delete(config, name)
		}
	}
	if err := s.restore(config); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	return nil
}

// openData opens what is trained on. A model's character vocabulary lies beside its checkpoint.
func (s *session) openData(from string) (train.Source, error) {
	var batches *train.Batches
	var err error
	if s.batches != "" {
		if batches, err = train.OpenBatches(s.batches); err != nil || s.flags.data+s.dataset == "" {
			return batches, err
		}
	}
	if s.dataset != "" {
		if s.data, err = train.OpenFolder(s.dataset); err != nil {
			return nil, err
		}
		return s.source(batches), s.checkChars(from, s.dataset)
	}
	o := train.DataOptions{Tokenizer: s.tokenizer, VocabSize: s.vocab}
	if from != "" && s.tokenizer == "char" {
		meta := filepath.Join(filepath.Dir(from), "meta.pkl")
		if _, err := os.Stat(meta); err == nil {
			o.Tokenizer = meta
		}
	}
	if s.data, err = train.Open(s.flags.data, o); err != nil {
		return nil, err
	}
	return s.source(batches), s.checkChars(from, s.flags.data)
}

// checkChars reports data whose ids stand for other characters than those of the model, whose meta.pkl lies
// beside its checkpoint.
func (s *session) checkChars(from, data string) error {
	if from == "" || s.data.Chars == nil {
		return nil
	}
	meta := filepath.Join(filepath.Dir(from), "meta.pkl")
	if _, err := os.Stat(meta); err != nil {
		return nil
	}
	tok, err := tokenizer.Char(meta)
	if err != nil {
		return err
	}
	for id, r := range s.data.Chars {
		if id >= tok.VocabSize() || tok.Decode([]int{id}) != string(r) {
			return fmt.Errorf("%s: id %d is %q, but it isn't by %s, beside the model", data, id, r, meta)
		}
	}
	return nil
}

// source returns the data, or exact batches that are evaluated on it.
func (s *session) source(batches *train.Batches) train.Source {
	if batches != nil {
		return batches.EvaluateOn(s.data)
	}
	return s.data
}

// model opens the checkpoint, or makes a new model.
func (s *session) model(from string) (*rwkv.Trainee, error) {
	if from == "" {
		return s.fresh()
	}
	opts := []rwkv.OpenOption{}
	if s.given["kind"] && (rwkv.Kind(s.kind) == rwkv.Causal || rwkv.Kind(s.kind) == rwkv.Reference) {
		opts = append(opts, rwkv.AsKind(rwkv.Kind(s.kind)))
	}
	m, err := rwkv.Open(from, opts...)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	c := m.Config()
	if s.given["kind"] && string(c.Kind) != s.kind {
		return nil, fmt.Errorf("%s: a model of kind %s, but --kind %s", from, c.Kind, s.kind)
	}
	for _, size := range [...]struct {
		name      string
		flag, has int
	}{{"n_layer", s.layers, c.NumLayers}, {"n_head", s.heads, c.NumHeads}, {"n_embd", s.embed, c.EmbedDim}, {"vocab_size", s.vocab, c.VocabSize},
		{"num_experts", s.experts, c.NumExperts}, {"num_active_experts", s.active, c.NumActiveExperts}, {"head_size", s.headSize, c.EmbedDim / max(c.NumHeads, 1)}, {"dim_ffn", s.ffn, c.FFNDim}} {
		if s.given[size.name] && size.has != 0 && size.flag != size.has && (size.name != "vocab_size" && size.name != "dim_ffn" || size.flag != 0) {
			return nil, fmt.Errorf("%s: %s = %d, but --%s %d", from, size.name, size.has, size.name, size.flag)
		}
	}
	if !s.given["block_size"] && c.BlockSize > 0 {
		s.o.BlockSize = min(s.o.BlockSize, c.BlockSize)
	}
	if c.Dropout != 0 {
		return nil, fmt.Errorf("%s: dropout = %v, want 0, no other is supported", from, c.Dropout)
	}
	return m.Trainee()
}

// fresh makes a new model.
func (s *session) fresh() (*rwkv.Trainee, error) {
	vocab := s.vocab
	if vocab == 0 && s.data != nil {
		vocab = s.data.VocabSize
	}
	if vocab == 0 {
		return nil, errors.New("--vocab_size: a new model for exact batches needs it")
	}
	c := rwkv.Config{Kind: rwkv.Kind(s.kind), BlockSize: s.o.BlockSize, VocabSize: vocab, NumLayers: s.layers, NumHeads: s.heads, EmbedDim: s.embed,
		NumExperts: s.experts, NumActiveExperts: s.active, ExpertDim: s.expertDim, Bias: s.bias}
	switch {
	case c.Kind == rwkv.RWKV7:
		c.BlockSize, c.FFNDim = 0, s.ffn
		if s.headSize < 1 || s.embed%s.headSize != 0 {
			return nil, fmt.Errorf("--head_size %d: want a divisor of n_embd = %d", s.headSize, s.embed)
		}
		if s.given["n_head"] && s.given["head_size"] && s.heads*s.headSize != s.embed {
			return nil, fmt.Errorf("--n_head %d, --head_size %d: want n_embd = %d together", s.heads, s.headSize, s.embed)
		}
		if !s.given["n_head"] {
			c.NumHeads = s.embed / s.headSize
		}
	case s.given["head_size"] || s.given["dim_ffn"]:
		return nil, fmt.Errorf("--head_size, --dim_ffn: they are rwkv7's, not %s's", c.Kind)
	}
	if c.ExpertDim == 0 {
		c.ExpertDim = max(2*s.embed/3, 1)
	}
	return rwkv.Fresh(c, s.o.Seed)
}

// prepareFolder makes out_dir, removes what a killed run left there, and puts the character vocabulary
// into it.
func (s *session) prepareFolder() error {
	if err := os.MkdirAll(s.outDir, 0o777); err != nil {
		return err
	}
	left, _ := filepath.Glob(s.path + ".*.tmp")
	for _, name := range left {
		os.Remove(name)
	}
	if s.data == nil || s.data.Chars == nil {
		return nil
	}
	var b bytes.Buffer
	if err := tokenizer.WriteMeta(&b, s.data.Chars); err != nil {
		return err
	}
	return cli.WriteFile(filepath.Join(s.outDir, "meta.pkl"), b.Bytes())
}

// vocabulary returns the tokenizer of what the model writes.
func (s *session) vocabulary(m *rwkv.Model) (tokenizer.Tokenizer, error) {
	switch {
	case s.data.Chars != nil:
		return tokenizer.NewChar(s.data.Chars)
	case s.data.Tokenizer != "":
		return tokenizer.Open(s.data.Tokenizer)
	}
	return m.Tokenizer()
}
