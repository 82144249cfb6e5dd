// Loadclient measures a server of OpenAI's API, this one or another, under load:
//
//	go run ./rwkv/serve/internal/loadclient --url http://127.0.0.1:8080 --time 60s
//
// It prints one JSON object: requests, errors, tokens a second, and the times to the first token and between
// tokens.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"microrwkv/rwkv/serve/internal/load"
)

func main() {
	var c load.Config
	flag.StringVar(&c.URL, "url", "http://127.0.0.1:8080", "`address` of the server, without /v1")
	flag.StringVar(&c.Key, "key", "", "API `key`")
	flag.StringVar(&c.Model, "model", "", "the model's `name` (default: the server's)")
	flag.IntVar(&c.Clients, "clients", 64, "requests at a time")
	flag.DurationVar(&c.Duration, "time", time.Minute, "in which requests begin")
	flag.IntVar(&c.ShortWords, "short", 200, "prompts have 20 words to so many more")
	flag.IntVar(&c.LongWords, "long", 8000, "words of some prompts")
	flag.IntVar(&c.LongEvery, "long_every", 8, "one of so many prompts is long; 0: none")
	flag.IntVar(&c.MaxTokens, "max_tokens", 50, "tokens of each answer")
	flag.Uint64Var(&c.Seed, "seed", 0, "of the prompts")
	flag.Parse()
	if c.Clients < 1 || c.ShortWords < 0 || c.LongWords < 1 || c.LongEvery < 0 || c.MaxTokens < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "loadclient: want --clients, --long and --max_tokens above 0, the other numbers not below, and no arguments")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := load.Run(ctx, c)
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	out.Encode(r)
	if r.Errors > 0 {
		os.Exit(1)
	}
}
