//go:build js && wasm

// App is the program that runs in the page's worker. It gives the worker an object microrwkv whose
// functions take and return what messages can carry.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"syscall/js"
	"time"

	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
	_ "microrwkv/tokenizer/gpt2"
	_ "microrwkv/tokenizer/world"
)

// app is the model that is open, and the conversation.
type app struct {
	model    *rwkv.Model
	tok      tokenizer.Tokenizer
	template *chat.Template
	state    *rwkv.State
	cancel   context.CancelFunc // ends the answer that is written
}

func main() {
	a := &app{}
	object := map[string]any{}
	for name, f := range map[string]func(args []js.Value) (any, error){"open": a.open, "save": a.save, "load": a.load, "reset": a.reset, "stop": a.stop} {
		object[name] = js.FuncOf(func(_ js.Value, args []js.Value) any {
			v, err := f(args)
			if err != nil {
				return map[string]any{"error": err.Error()}
			}
			return map[string]any{"value": v}
		})
	}
	object["say"] = js.FuncOf(func(_ js.Value, args []js.Value) any {
		go a.say(args[0].String(), args[1].String(), args[2])
		return nil
	})
	js.Global().Set("microrwkv", object)
	js.Global().Get("ready").Invoke()
	select {}
}

// bytesOf copies an Uint8Array.
func bytesOf(v js.Value) []byte {
	b := make([]byte, v.Length())
	js.CopyBytesToGo(b, v)
	return b
}

// open opens a checkpoint: its name and its bytes.
func (a *app) open(args []js.Value) (any, error) {
	m, err := rwkv.OpenBytes(args[0].String(), bytesOf(args[1]))
	if err != nil {
		return nil, err
	}
	e, err := m.Vocabulary()
	if err != nil {
		return nil, err
	}
	tok, err := e.Open()
	if err != nil {
		return nil, err
	}
	t, err := chat.Named("auto", m.Config().Kind)
	if err != nil {
		return nil, err
	}
	a.model, a.tok, a.template, a.state = m, tok, t, m.NewState()
	return map[string]any{"kind": string(m.Config().Kind), "parameters": m.NumParameters(), "trained": t.Trained, "kernel": tensor.Kernel()}, nil
}

var errNone = errors.New("no model is open")

// save returns the conversation's state, in the form of all microrwkv programs.
func (a *app) save([]js.Value) (any, error) {
	if a.state == nil {
		return nil, errNone
	}
	b, err := a.state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	v := js.Global().Get("Uint8Array").New(len(b))
	js.CopyBytesToJS(v, b)
	return v, nil
}

// load goes on from a state that was saved.
func (a *app) load(args []js.Value) (any, error) {
	if a.model == nil {
		return nil, errNone
	}
	s := a.model.NewState()
	if err := s.UnmarshalBinary(bytesOf(args[0])); err != nil {
		return nil, err
	}
	a.state = s
	return s.Len(), nil
}

func (a *app) reset([]js.Value) (any, error) {
	if a.model == nil {
		return nil, errNone
	}
	a.state = a.model.NewState()
	return nil, nil
}

func (a *app) stop([]js.Value) (any, error) {
	if a.cancel != nil {
		a.cancel()
	}
	return nil, nil
}

// breath is how long the worker may compute before it looks at its messages.
const breath = 50 * time.Millisecond

// say appends a message and tells the answer, piece by piece: tell(kind, text, tokens, seconds).
func (a *app) say(message, settings string, tell js.Value) {
	tokens, reason, begin := 0, rwkv.Interrupted, time.Now()
	err := func() error {
		if a.model == nil {
			return errNone
		}
		o := struct {
			rwkv.Sampling
			MaxTokens int `json:"max_tokens"`
		}{rwkv.DefaultSampling(), 200}
		o.Seed = rand.Uint64()
		if err := json.Unmarshal([]byte(settings), &o); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		a.cancel = cancel
		defer cancel()
		parts, err := a.template.Prompt([]chat.Message{{Role: chat.User, Content: message}}, chat.Options{})
		if err != nil {
			return err
		}
		if a.state.Len() > 0 {
			join := "\n"
			if a.template.Trained {
				join = chat.Join
			}
			parts = append([]string{join}, parts...)
		}
		var ids []int
		for _, p := range parts {
			more, err := a.tok.Encode(p)
			if err != nil {
				return err
			}
			ids = append(ids, more...)
		}
		said := a.state.Clone()
		opts := []rwkv.Option{rwkv.WithSampling(o.Sampling), rwkv.MaxTokens(o.MaxTokens), rwkv.StopStrings(a.template.Stops...),
			rwkv.OnToken(func(rwkv.Token) { tokens++ }), rwkv.OnEnd(func(r rwkv.Reason) { reason = r })}
		if err := said.PromptContext(ctx, ids, opts...); err != nil {
			return err
		}
		begin = time.Now()
		last := begin
		for piece, err := range said.Generate(ctx, a.tok, opts...) {
			if err != nil {
				if errors.Is(err, context.Canceled) {
					break
				}
				return err
			}
			tell.Invoke("piece", piece, tokens, time.Since(begin).Seconds())
			if time.Since(last) > breath {
				time.Sleep(time.Nanosecond) // the worker's messages come
				last = time.Now()
			}
		}
		a.state = said
		return nil
	}()
	if err != nil {
		tell.Invoke("error", err.Error(), tokens, 0)
		return
	}
	tell.Invoke("done", string(reason), tokens, time.Since(begin).Seconds())
}
