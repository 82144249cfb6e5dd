// Generate continues a prompt with a language model: the embedded one, or a checkpoint.
//
//	go run ./examples/generate --prompt "One day"
//	go run ./examples/generate --model_name ckpt-500 --max_num_tokens 50
//	echo "One day" | go run ./examples/generate --quiet
package main

import (
	"flag"
	"os"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/tokenizer"
)

// settings are the flags.
type settings struct {
	cli.ModelFlags
	cli.SamplingFlags
	prompt, tokens       string
	escapes, binary      bool
	samples              int
	stopAtEnd            bool
	whenFull             string
	tokenizer            string
	chat, special        bool
	system, think        string
	loadState, saveState string
	logProbs             int
	json, quiet          bool
	listKernels          bool

	given map[string]bool // the flags that were set
}

func main() {
	s := settings{SamplingFlags: cli.SamplingFlags{Sampling: rwkv.DefaultSampling(), MaxTokens: 100}}
	fs := flag.NewFlagSet("generate", flag.ContinueOnError)
	s.ModelFlags.Register(fs)
	fs.StringVar(&s.prompt, "prompt", "\n", "`text` to continue, or FILE:path for a file's, FILE:- for stdin's; it may also stand without the flag, or be piped; after --load_state none is needed")
	fs.BoolVar(&s.escapes, "escapes", false, "take \\n, \\t, \\\\ and Go's other escapes in the prompt for what they mean, as --stop does")
	fs.BoolVar(&s.binary, "binary", false, "read texts as they are (default: with the ends of lines as \\n, and without the last one of a piped prompt)")
	fs.StringVar(&s.tokens, "tokens", "", "token `ids` to continue, separated by commas, in place of a prompt: no tokenizer, ids in, ids out")
	s.SamplingFlags.Register(fs)
	fs.IntVar(&s.samples, "num_samples", 1, "texts to generate; the n-th has the seed's n-th successor")
	fs.BoolVar(&s.stopAtEnd, "stop_at_end", true, "stop at the token that ends a text: 50256 of GPT-2's, 0 of World's")
	fs.StringVar(&s.whenFull, "when_full", "", "at block_size: recompute (published rule), half, or error (default: the kind's)")
	fs.StringVar(&s.tokenizer, "tokenizer", "", cli.TokenizerUsage)
	fs.BoolVar(&s.chat, "chat", false, "the prompt is a user's message: ask for the answer in the form of the official RWKV models")
	fs.StringVar(&s.system, "system", "", "with --chat: a system's `message` before the user's")
	fs.StringVar(&s.think, "think", string(chat.ThinkOff), "with --chat: off, fast or on: whether the model thinks first")
	fs.BoolVar(&s.special, "special", false, "take "+tokenizer.EndOfTextName+" in the prompt for the token that ends a text, not for text")
	fs.StringVar(&s.loadState, "load_state", "", "go on from a saved state `file`")
	fs.StringVar(&s.saveState, "save_state", "", "save the state to a `file` at the end")
	fs.BoolVar(&s.json, "json", false, "print one JSON object and nothing else")
	fs.IntVar(&s.logProbs, "logprobs", -1, "with --json: the log-probabilities of the tokens, and of so many likeliest in their places")
	fs.BoolVar(&s.quiet, "quiet", false, "print the generated text alone")
	fs.BoolVar(&s.listKernels, "list_kernels", false, "print the kernels this build and CPU have, and exit")
	rest := cli.ParseOptional(fs, os.Args[1:], "PROMPT")

	s.given = cli.Given(fs)
	if len(rest) > 0 {
		if s.given["prompt"] {
			cli.Usage(fs, "the prompt stands twice: %q and --prompt", rest[0])
		}
		s.prompt, s.given["prompt"] = rest[0], true
	}
	if err := run(cli.Interruptible(), &s, os.Stdout); err != nil {
		cli.Fail(err)
	}
}
