// Batch answers the requests of a file in the form of OpenAI's batches, many at a time.
//
//	go run ./examples/batch --input requests.jsonl --output results.jsonl
//
// A line of the input is {"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{…}}. Stopped
// in whatever way, it goes on where it was when it is started again. --shard i/n answers every n-th line,
// for n machines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv/chat"
	"microrwkv/rwkv/serve"
)

func main() {
	var model cli.ModelFlags
	var c serve.Config
	fs := flag.NewFlagSet("batch", flag.ContinueOnError)
	model.Register(fs)
	input := fs.String("input", "", "`file` of requests, a line each")
	output := fs.String("output", "", "`file` of results, which is gone on with if it is there")
	var s shard
	fs.Var(&s, "shard", "`i/n`: answer lines i, i+n, i+2n, … alone, i from 0 to n-1")
	fs.IntVar(&c.MaxBatch, "max_batch", 16, "sequences to write together")
	fs.IntVar(&c.MaxNewTokens, "max_new_tokens", 4096, "tokens of a text")
	fs.StringVar(&c.Template, "template", "auto", "form of conversations: g1, world, plain, auto")
	think := fs.String("think", string(chat.ThinkOff), "off, fast or on: whether a g1 model thinks first, unless the request says")
	tok := fs.String("tokenizer", "", cli.TokenizerUsage)
	name := fs.String("name", "", "the model's `name` in requests (default: any)")
	cli.Parse(fs, os.Args[1:])
	c.Think = chat.Think(*think)
	if *input == "" || *output == "" {
		cli.Usage(fs, "want --input and --output")
	}
	if err := run(cli.Interruptible(), &model, *tok, *name, c, *input, *output, s); err != nil {
		cli.Fail(err)
	}
}

// run answers what hasn't been answered.
func run(ctx context.Context, model *cli.ModelFlags, tok, name string, c serve.Config, input, output string, s shard) error {
	path, err := model.Path()
	if err != nil {
		return err
	}
	if err := cli.CheckOutput("--output", output, input, path); err != nil {
		return err
	}
	in, err := os.Open(input)
	if err != nil {
		return err
	}
	defer in.Close()
	requests, err := index(in, s)
	if err != nil {
		return fmt.Errorf("%s: %w", input, err)
	}
	results, done, err := openResults(output)
	if err != nil {
		return err
	}
	defer results.Close()
	stop := cli.FailWhenDone(ctx)
	m, err := model.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	t, err := cli.Tokenizer(tok, m)
	if err != nil {
		return err
	}
	stop()
	c.MaxQueue = 1 << 30 // what waits is bounded here
	server, err := serve.New([]serve.Model{{Name: "model", Model: m, Tokenizer: t}}, c)
	if err != nil {
		return err
	}
	w := &work{server: server, in: in, out: results, name: name, atOnce: 2 * c.MaxBatch}
	for _, r := range requests {
		if !done[r.id] {
			w.todo = append(w.todo, r)
		}
	}
	fmt.Fprintf(os.Stderr, "%d requests, %d of them answered before\n", len(requests), len(requests)-len(w.todo))
	err = w.run(ctx)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	server.Shutdown(ended)
	if errors.Is(err, context.Canceled) {
		err = cli.ErrInterrupted
	}
	if err == nil && w.failed > 0 {
		fmt.Fprintf(os.Stderr, "%d requests were answered with errors\n", w.failed)
	}
	return errors.Join(err, results.Sync())
}
