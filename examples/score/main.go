// Score says how well a model predicts a sequence, as one JSON object.
//
//	go run ./examples/score --text FILE
//	go run ./examples/score --model PATH --tokens 3,1,4 --targets 1,4,1
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
)

// result is what is printed. A sequence without a target that counts has no loss.
type result struct {
	Kind            rwkv.Kind `json:"kind"`
	Loss            *float64  `json:"loss"`
	AuxLossPerBlock []float64 `json:"aux_loss_per_block"`
	Perplexity      *float64  `json:"perplexity"`
	LastLogits      []float32 `json:"last_logits"`
}

func main() {
	var model cli.ModelFlags
	fs := flag.NewFlagSet("score", flag.ContinueOnError)
	model.Register(fs)
	tokens := fs.String("tokens", "", "token `ids`, separated by commas")
	targets := fs.String("targets", "", "the `ids` that should follow each of them, -1 to ignore one (default: the next token)")
	text := fs.String("text", "", "score the text of this `file`")
	tok := fs.String("tokenizer", "", cli.TokenizerUsage)
	all := fs.String("all_logits", "", "write all logits [T, V] to this .safetensors `file`, as \"logits\"")
	fs.Bool("json", true, "print JSON, which this program always does")
	cli.Parse(fs, os.Args[1:])

	cli.FailWhenDone(cli.Interruptible())
	r, err := run(&model, *tokens, *targets, *text, *tok, *all)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		cli.Fail(err)
	}
}

func run(model *cli.ModelFlags, tokens, targets, text, tok, all string) (*result, error) {
	if (tokens == "") == (text == "") {
		return nil, errors.New("give --tokens or --text")
	}
	if targets != "" && text != "" {
		return nil, errors.New("--targets goes with --tokens")
	}
	m, err := model.Open()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var ids, want []int
	if tokens != "" {
		ids, err = cli.IDs(tokens)
	} else {
		ids, err = encodeFile(m, text, tok)
	}
	if err != nil {
		return nil, err
	}
	if targets != "" {
		if want, err = cli.IDs(targets); err != nil {
			return nil, err
		}
	}
	s, err := m.Score(ids, want)
	if err != nil {
		return nil, err
	}
	if all != "" {
		logits, err := m.Forward(ids)
		if err != nil {
			return nil, err
		}
		if err := checkpoint.WriteSafetensors(all, []checkpoint.Named{{Name: "logits", Tensor: logits.Weight()}}, nil); err != nil {
			return nil, err
		}
	}
	return &result{m.Config().Kind, finite(s.Loss), append([]float64{}, s.AuxLoss...), finite(s.Perplexity), s.LastLogits}, nil
}

// encodeFile returns the ids of a file's text.
func encodeFile(m *rwkv.Model, path, name string) ([]int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := cli.Tokenizer(name, m)
	if err != nil {
		return nil, err
	}
	ids, err := cli.Encode(t, m, string(b), false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s: no text", path)
	}
	return ids, nil
}

// finite returns nil for what JSON can't express.
func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}
