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
	Hidden          []float32 `json:"hidden,omitempty"`

	Against *against `json:"against,omitempty"`
}

// against is how far the model is from another.
type against struct {
	KL        float64 `json:"kl"`    // nats a token
	Top1      float64 `json:"top1"`  // the same likeliest token
	Loss      float64 `json:"loss"`  // of the model, in the pieces that are compared
	DLoss     float64 `json:"dloss"` // its loss minus the other's
	Positions int     `json:"positions"`
	// The size of the weights and how fast the model goes on, and the same of the other.
	Bytes                int     `json:"bytes"`
	TokensPerSecond      float64 `json:"tokens_per_second"`
	OtherBytes           int     `json:"other_bytes"`
	OtherTokensPerSecond float64 `json:"other_tokens_per_second"`
}

// settings are the flags.
type settings struct {
	cli.ModelFlags
	tokens, targets, text, tokenizer string
	allLogits, against               string
	hidden, binary                   bool
}

func main() {
	var s settings
	fs := flag.NewFlagSet("score", flag.ContinueOnError)
	s.ModelFlags.Register(fs)
	fs.StringVar(&s.tokens, "tokens", "", "token `ids`, separated by commas")
	fs.StringVar(&s.targets, "targets", "", "the `ids` that should follow each of them, -1 to ignore one (default: the next token)")
	fs.StringVar(&s.text, "text", "", "score the text of this `file`, - for stdin")
	fs.BoolVar(&s.binary, "binary", false, "read the text as it is (default: with the ends of lines as \\n)")
	fs.StringVar(&s.tokenizer, "tokenizer", "", cli.TokenizerUsage)
	fs.StringVar(&s.allLogits, "all_logits", "", "write all logits [T, V] to this .safetensors `file`, as \"logits\"")
	fs.StringVar(&s.against, "against", "", "compare with the model in this `file`, which the model was quantized from")
	fs.BoolVar(&s.hidden, "hidden", false, "print the last hidden row too, which the head makes the logits of: an embedding of the sequence")
	fs.Bool("json", true, "print JSON, which this program always does")
	cli.Parse(fs, os.Args[1:])

	cli.FailWhenDone(cli.Interruptible())
	r, err := run(&s)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		cli.Fail(err)
	}
}

func run(f *settings) (*result, error) {
	if (f.tokens == "") == (f.text == "") {
		return nil, errors.New("give --tokens or --text")
	}
	if f.targets != "" && f.text != "" {
		return nil, errors.New("--targets goes with --tokens")
	}
	path, err := f.Path()
	if err != nil {
		return nil, err
	}
	if f.allLogits != "" {
		if err := cli.CheckOutput("--all_logits", f.allLogits, path, f.text); err != nil {
			return nil, err
		}
	}
	m, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var ids, want []int
	if f.tokens != "" {
		ids, err = cli.IDs(f.tokens)
	} else {
		ids, err = encodeFile(m, f)
	}
	if err != nil {
		return nil, err
	}
	if f.targets != "" {
		if want, err = cli.IDs(f.targets); err != nil {
			return nil, err
		}
	}
	s, err := m.Score(ids, want)
	if err != nil {
		return nil, err
	}
	for i, l := range s.LastLogits {
		if l-l != 0 {
			return nil, fmt.Errorf("the logit of token %d after the last position is %v: the weights make no finite logits", i, l)
		}
	}
	r := &result{m.Config().Kind, finite(s.Loss), append([]float64{}, s.AuxLoss...), finite(s.Perplexity), s.LastLogits, nil, nil}
	if f.hidden {
		if r.Hidden, err = m.Hidden(ids); err != nil {
			return nil, err
		}
	}
	if f.against != "" {
		if r.Against, err = compare(f, m, ids); err != nil {
			return nil, err
		}
	}
	if f.allLogits != "" {
		logits, err := m.Forward(ids)
		if err != nil {
			return nil, err
		}
		if err := checkpoint.WriteSafetensors(f.allLogits, []checkpoint.Named{{Name: "logits", Tensor: logits.Weight()}}, nil); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// compare compares the model with that of --against, which the same flags open.
func compare(f *settings, m *rwkv.Model, ids []int) (*against, error) {
	flags := f.ModelFlags
	flags.Model, flags.ModelName = f.against, ""
	other, err := flags.Open()
	if err != nil {
		return nil, err
	}
	defer other.Close()
	c, err := m.Compare(other, ids)
	if err != nil {
		return nil, err
	}
	a := &against{KL: c.KL, Top1: c.Top1, Loss: c.Loss, DLoss: c.Loss - c.OtherLoss, Positions: c.Positions, Bytes: cli.WeightBytes(m), OtherBytes: cli.WeightBytes(other)}
	if a.TokensPerSecond, err = cli.TokensPerSecond(m); err == nil {
		a.OtherTokensPerSecond, err = cli.TokensPerSecond(other)
	}
	return a, err
}

// encodeFile returns the ids of --text's file.
func encodeFile(m *rwkv.Model, f *settings) ([]int, error) {
	text, err := cli.ReadText(f.text, f.binary)
	if err != nil {
		return nil, err
	}
	t, err := cli.Tokenizer(f.tokenizer, m)
	if err != nil {
		return nil, err
	}
	ids, err := cli.Encode(t, m, text, false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.text, err)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s: no text", f.text)
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
