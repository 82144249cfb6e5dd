package serve

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/tokenizer"
)

// Model is a model to serve.
type Model struct {
	Name      string
	Model     *rwkv.Model
	Tokenizer tokenizer.Tokenizer

	// Open returns both if Model is nil. It is called while the server answers already, which says
	// that it isn't ready until then.
	Open func() (*rwkv.Model, tokenizer.Tokenizer, error)

	// States are files of states to begin with, by the names that requests ask for them with, as they ask
	// for states that were saved: saved ones, or tuned ones as rwkv.InitialState takes.
	States map[string]string
}

// Key is what a client says to be let in.
type Key struct{ Name, Key string }

// Config says how to serve. Zero values are the defaults.
type Config struct {
	Keys        []Key    // who may ask; none: everybody
	AllowHosts  []string // beside loopback names, for connections over loopback
	CORSOrigins []string // whose pages may ask; none but the server's own

	MaxBatch        int           // sequences that are written together: 16
	MaxQueue        int           // that wait beside them: 64
	PerKey          int           // requests of one key at a time: 8, or without keys all
	StepBudget      time.Duration // of a step, which prompts fill up: 100 ms
	MaxBody         int64         // bytes: 4 MiB
	MaxPromptTokens int           // 32768
	MaxNewTokens    int           // 4096
	RequestTimeout  time.Duration // 10 minutes

	Template string         // of package chat: "auto"
	Think    chat.Think     // unless the request says: off
	Sampling *rwkv.Sampling // what requests don't say; nil: rwkv.DefaultSampling

	Store         Store         // of states; nil: in memory, of StateRAM bytes
	StateRAM      int64         // bytes of states in memory: 1 GiB, and half of it again for prompts
	StateTTL      time.Duration // how long states are kept: 24 h
	KeyStates     int           // states of one key: 10000
	KeyStateBytes int64         // and their bytes: 16 GiB
	StateKey      []byte        // 32 bytes that seal states; nil: random, until the server ends

	Log      *slog.Logger         // nil: none
	Registry *prometheus.Registry // nil: its own
}

// set makes v the default if it is zero.
func set[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

// fill sets what isn't set, and checks the rest.
func (c *Config) fill() error {
	set(&c.MaxBatch, 16)
	set(&c.MaxQueue, 64)
	if len(c.Keys) == 0 {
		set(&c.PerKey, c.MaxBatch+c.MaxQueue)
	}
	set(&c.PerKey, 8)
	set(&c.StepBudget, 100*time.Millisecond)
	set(&c.MaxBody, 4<<20)
	set(&c.MaxPromptTokens, 32768)
	set(&c.MaxNewTokens, 4096)
	set(&c.RequestTimeout, 10*time.Minute)
	set(&c.Template, "auto")
	set(&c.Think, chat.ThinkOff)
	set(&c.StateRAM, 1<<30)
	set(&c.StateTTL, 24*time.Hour)
	set(&c.KeyStates, 10000)
	set(&c.KeyStateBytes, 16<<30)
	if c.Store == nil {
		c.Store = Memory(c.StateRAM)
	}
	if c.Sampling == nil {
		s := rwkv.DefaultSampling()
		c.Sampling = &s
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"max_batch", int64(c.MaxBatch)}, {"max_queue", int64(c.MaxQueue)}, {"per_key", int64(c.PerKey)},
		{"step_budget", int64(c.StepBudget)}, {"max_body", c.MaxBody}, {"max_prompt_tokens", int64(c.MaxPromptTokens)},
		{"max_new_tokens", int64(c.MaxNewTokens)}, {"request_timeout", int64(c.RequestTimeout)},
		{"state_ram", c.StateRAM}, {"state_ttl", int64(c.StateTTL)},
		{"states of a key", int64(c.KeyStates)}, {"bytes of a key's states", c.KeyStateBytes},
	} {
		if n.value < 1 {
			return fmt.Errorf("serve: %s = %d, want more than 0", n.name, n.value)
		}
	}
	if err := c.Sampling.Validate(); err != nil {
		return fmt.Errorf("serve: defaults: %w", err)
	}
	if n := len(c.StateKey); n != 0 && n != 32 {
		return fmt.Errorf("serve: the key for states has %d bytes, want 32", n)
	}
	for _, k := range c.Keys {
		if k.Name == "" || len(k.Key) < 8 {
			return fmt.Errorf("serve: key %q: want a name, and 8 characters or more", k.Name)
		}
	}
	return nil
}
