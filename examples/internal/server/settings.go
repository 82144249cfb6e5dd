package server

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/rwkv/serve"
)

// settings are the flags.
type settings struct {
	served                  []*served
	open                    cli.ModelFlags
	tokenizer               string
	addr, adminAddr         string
	keyFile                 string
	insecure                bool
	allowHosts, corsOrigins cli.Strings
	maxBody                 bytes
	stateRAM, stateDisk     bytes
	defaults                string
	stores                  cli.Strings
	think                   string
	drainDelay              time.Duration
	drainTimeout            time.Duration
	log                     string
	serve.Config
}

func newSettings(fs *flag.FlagSet) *settings {
	s := &settings{maxBody: 4 << 20, stateRAM: 1 << 30, stateDisk: 16 << 30}
	fs.Func("model", "checkpoint to serve, `[NAME=]PATH`, a file or a folder; may be given several times (default: the embedded model)", s.addModel)
	fs.Func("state", "tuned state in this `[NAME=]FILE` that every sequence of the model starts from; with NAME= a tuned or a saved one that requests name. Like --lora and --bone it is of the --model before it", s.addState)
	cli.RegisterMerged(fs, func() *cli.CompanionFlags { return &s.newest().companions })
	s.open.RegisterHow(fs)
	fs.StringVar(&s.tokenizer, "tokenizer", "", cli.TokenizerUsage)
	fs.StringVar(&s.addr, "addr", "127.0.0.1:8080", "`address` to serve at")
	fs.StringVar(&s.adminAddr, "admin_addr", "", "`address` of /metrics and /debug/pprof/, which ask for no key")
	fs.StringVar(&s.keyFile, "api_keys", "", "`file` of keys that clients need, a line \"name key\" each; the variable MICRORWKV_API_KEY has one more")
	fs.BoolVar(&s.insecure, "insecure", false, "serve other machines without a key")
	fs.Var(&s.allowHosts, "allow_hosts", "`name` that a proxy on this machine sends as Host; may be given several times")
	fs.Var(&s.corsOrigins, "cors_origins", "`origin` whose pages may ask; may be given several times")
	fs.IntVar(&s.MaxBatch, "max_batch", 16, "sequences to write together")
	fs.IntVar(&s.MaxQueue, "max_queue", 64, "sequences that may wait")
	fs.IntVar(&s.PerKey, "per_key", 0, "requests of one key at a time (default: 8, without keys all)")
	fs.DurationVar(&s.StepBudget, "step_budget", 100*time.Millisecond, "time of a step, which prompts fill up")
	fs.Var(&s.maxBody, "max_body", "`bytes` of a request")
	fs.IntVar(&s.MaxPromptTokens, "max_prompt_tokens", 32768, "tokens of a prompt")
	fs.IntVar(&s.MaxNewTokens, "max_new_tokens", 4096, "tokens of a text")
	fs.DurationVar(&s.RequestTimeout, "request_timeout", 10*time.Minute, "time of a request")
	fs.StringVar(&s.Template, "template", "auto", "form of conversations: g1 (official RWKV models of today), world (earlier ones), plain (text to go on with), auto")
	fs.StringVar(&s.think, "think", string(chat.ThinkOff), "off, fast or on: whether a g1 model thinks first, unless the request says")
	fs.StringVar(&s.defaults, "defaults", "", "sampling unless the request says, as `JSON`, such as '{\"temperature\":0.8,\"top_p\":0.5}'")
	fs.Var(&s.stores, "store", "`where` states are kept: mem: (the default), dir:PATH, or Redis: redis://HOST:6379/0; given twice, the first, a dir:PATH, keeps copies of what the second has; MICRORWKV_STATE_KEY, 64 hexadecimal digits, seals those that clients keep")
	fs.Var(&s.stateRAM, "state_ram", "`bytes` of states in memory")
	fs.Var(&s.stateDisk, "state_disk", "`bytes` of states in dir:")
	fs.DurationVar(&s.StateTTL, "state_ttl", 24*time.Hour, "how long states are kept")
	fs.DurationVar(&s.drainDelay, "drain_delay", 5*time.Second, "time after SIGTERM in which requests are still taken")
	fs.DurationVar(&s.drainTimeout, "drain_timeout", 30*time.Second, "time to finish what has begun")
	fs.StringVar(&s.log, "log", "text", "form of the log on stderr: text or json")
	return s
}

// checkOpen returns an error if other machines could ask without a key.
func (s *settings) checkOpen(keys bool) error {
	host, _, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("--addr %q: want HOST:PORT", s.addr)
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.IsLoopback() || keys || s.insecure {
		return nil
	}
	return fmt.Errorf("--addr %s lets other machines ask: want --api_keys or MICRORWKV_API_KEY, or --insecure", s.addr)
}

// config returns how to serve.
func (s *settings) config() (serve.Config, error) {
	c := s.Config
	c.MaxBody, c.StateRAM, c.Think = int64(s.maxBody), int64(s.stateRAM), chat.Think(s.think)
	c.AllowHosts, c.CORSOrigins = s.allowHosts, s.corsOrigins
	switch s.log {
	case "text":
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	case "json":
		c.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
	default:
		return c, fmt.Errorf("--log %q: want text or json", s.log)
	}
	if s.defaults != "" {
		sampling := rwkv.DefaultSampling()
		if err := json.Unmarshal([]byte(s.defaults), &sampling); err != nil {
			return c, fmt.Errorf("--defaults: %w", err)
		}
		c.Sampling = &sampling
	}
	if key := os.Getenv("MICRORWKV_API_KEY"); key != "" {
		c.Keys = append(c.Keys, serve.Key{Name: "env", Key: key})
	}
	if s.keyFile != "" {
		b, err := os.ReadFile(s.keyFile)
		if err != nil {
			return c, err
		}
		for i, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) == 0 || strings.HasPrefix(f[0], "#") {
				continue
			}
			if len(f) != 2 {
				return c, fmt.Errorf("%s:%d: want a name and a key", s.keyFile, i+1)
			}
			c.Keys = append(c.Keys, serve.Key{Name: f[0], Key: f[1]})
		}
		if len(c.Keys) == 0 {
			return c, fmt.Errorf("%s: no keys", s.keyFile)
		}
	}
	if key := os.Getenv("MICRORWKV_STATE_KEY"); key != "" {
		if _, err := fmt.Sscanf(key, "%64x", &c.StateKey); err != nil || len(c.StateKey) != 32 || len(key) != 64 {
			return c, errors.New("MICRORWKV_STATE_KEY: want 64 hexadecimal digits")
		}
	}
	var err error
	if c.Store, err = s.store(); err != nil {
		err = fmt.Errorf("--store: %w", err)
	}
	return c, err
}

// store opens what keeps states, nil for memory.
func (s *settings) store() (serve.Store, error) {
	if len(s.stores) == 0 || len(s.stores) == 1 && s.stores[0] == "mem:" {
		return nil, nil
	}
	path, isDir := strings.CutPrefix(s.stores[0], "dir:")
	if isDir && path == "" {
		return nil, fmt.Errorf("%q: want dir:PATH", s.stores[0])
	}
	switch last := s.stores[len(s.stores)-1]; {
	case len(s.stores) > 2:
		return nil, fmt.Errorf("given %d times, want at most 2", len(s.stores))
	case len(s.stores) == 1 && isDir:
		return serve.Dir(path, int64(s.stateDisk))
	case len(s.stores) == 2 && (!isDir || last == "mem:" || strings.HasPrefix(last, "dir:")):
		return nil, fmt.Errorf("%q before %q: want dir:PATH before what several servers share", s.stores[0], last)
	default:
		shared, err := serve.OpenStore(last)
		if err != nil || len(s.stores) == 1 {
			return shared, err
		}
		return serve.Cached(path, int64(s.stateDisk), shared)
	}
}

// bytes is a flag for a number of bytes, such as 4MiB.
type bytes int64

var units = []struct {
	name string
	size int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

func (b *bytes) String() string {
	for i := len(units) - 2; i >= 0; i-- {
		if u := units[i]; *b != 0 && int64(*b)%u.size == 0 {
			return fmt.Sprintf("%d%s", int64(*b)/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

func (b *bytes) Set(v string) error {
	size := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(v, u.name); ok {
			v, size = rest, u.size
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil || n < 1 || n > 1<<62/size {
		return errors.New("want a number of bytes, such as 4MiB")
	}
	*b = bytes(n * size)
	return nil
}
