// Generate continues a prompt with a language model: the embedded one, or a PyTorch checkpoint.
//
//	go run ./examples/generate --prompt "One day"
//	go run ./examples/generate --model_name ckpt-500 --max_num_tokens 50
package main

import (
	"flag"
	"os"

	"microrwkv/examples/internal/cli"
	"microrwkv/tokenizer"
)

// settings are the flags.
type settings struct {
	cli.ModelFlags
	prompt, tokens       string
	maxTokens            int
	temperature          float64
	topK                 int
	topP, minP           float64
	repetition           float64
	presence, frequency  float64
	penaltyDecay         float64
	seed                 cli.Seed
	samples              int
	stopAtEnd            bool
	stop                 cli.Strings
	whenFull             string
	tokenizer            string
	chat, special        bool
	loadState, saveState string
	json, listKernels    bool

	given map[string]bool // the flags that were set
}

func main() {
	var s settings
	fs := flag.NewFlagSet("generate", flag.ContinueOnError)
	s.ModelFlags.Register(fs)
	fs.StringVar(&s.prompt, "prompt", "\n", "`text` to continue, or FILE:path for a file's; after --load_state none is needed")
	fs.StringVar(&s.tokens, "tokens", "", "token `ids` to continue, separated by commas, in place of a prompt: no tokenizer, ids in, ids out")
	fs.IntVar(&s.maxTokens, "max_num_tokens", 100, "tokens to generate")
	fs.Float64Var(&s.temperature, "temperature", 1, "below 1 makes likely tokens likelier; above 0")
	fs.IntVar(&s.topK, "top_k", 0, "sample from the k likeliest tokens; 0: off, 1: greedy")
	fs.Float64Var(&s.topP, "top_p", 1, "sample from the fewest tokens whose probabilities add up to this; 1: off")
	fs.Float64Var(&s.minP, "min_p", 0, "sample from tokens at least this much as likely as the likeliest; 0: off")
	fs.Float64Var(&s.repetition, "repetition_penalty", 1, "divide the logits of tokens that occurred; 1: off")
	fs.Float64Var(&s.presence, "presence_penalty", 0, "subtract from the logits of tokens that occurred")
	fs.Float64Var(&s.frequency, "frequency_penalty", 0, "subtract from a token's logit for each time it occurred")
	fs.Float64Var(&s.penaltyDecay, "penalty_decay", 1, "multiply the counts behind the penalties by this with each token")
	s.seed.Register(fs)
	fs.IntVar(&s.samples, "num_samples", 1, "texts to generate; the n-th has the seed's n-th successor")
	fs.BoolVar(&s.stopAtEnd, "stop_at_end", true, "stop at the token that ends a text: 50256 of GPT-2's, 0 of World's")
	fs.Var(&s.stop, "stop", "stop before this `text`; may be given several times")
	fs.StringVar(&s.whenFull, "when_full", "", "at block_size: recompute (published rule), half, or error (default: the kind's)")
	fs.StringVar(&s.tokenizer, "tokenizer", "", cli.TokenizerUsage)
	fs.BoolVar(&s.chat, "chat", false, "the prompt is a user's message: ask for the answer in the form of the official RWKV models")
	fs.BoolVar(&s.special, "special", false, "take "+tokenizer.EndOfTextName+" in the prompt for the token that ends a text, not for text")
	fs.StringVar(&s.loadState, "load_state", "", "go on from a saved state `file`")
	fs.StringVar(&s.saveState, "save_state", "", "save the state to a `file` at the end")
	fs.BoolVar(&s.json, "json", false, "print one JSON object and nothing else")
	fs.BoolVar(&s.listKernels, "list_kernels", false, "print the kernels this build and CPU have, and exit")
	cli.Parse(fs, os.Args[1:])

	s.given = cli.Given(fs)
	if err := run(cli.Interruptible(), &s, os.Stdout); err != nil {
		cli.Fail(err)
	}
}
