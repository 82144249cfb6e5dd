// Package redisstore keeps the states of package serve in Redis, or what speaks its protocol, so that
// several servers share them.
package redisstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"microrwkv/rwkv/serve"
)

// prefix begins all keys in Redis.
const prefix = "microrwkv:"

func init() {
	for _, scheme := range []string{"redis", "rediss", "unix"} {
		serve.RegisterStore(scheme, Open)
	}
}

type store struct{ client *redis.Client }

// Open returns a Store at an address such as redis://user:password@host:6379/0. It doesn't wait for
// Redis: while that can't be reached, the operations are errors. What was put outlives Redis itself only
// if that writes each command to its disk (appendonly yes, appendfsync always).
func Open(url string) (serve.Store, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 2*time.Second, 10*time.Second, 10*time.Second
	o.MaxRetries = 1
	return &store{redis.NewClient(o)}, nil
}

func (s *store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.client.Set(ctx, prefix+key, value, ttl).Err()
}

func (s *store) Get(ctx context.Context, key string) ([]byte, error) {
	b, err := s.client.Get(ctx, prefix+key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, serve.ErrNotFound
	}
	return b, err
}

func (s *store) Stat(ctx context.Context, key string) (serve.Info, error) {
	infos, err := s.infos(ctx, []string{prefix + key})
	if err == nil && len(infos) == 0 {
		err = serve.ErrNotFound
	}
	if err != nil {
		return serve.Info{}, err
	}
	return infos[0], nil
}

func (s *store) Delete(ctx context.Context, key string) error {
	return s.client.Del(ctx, prefix+key).Err()
}

// infos tells of the keys that are there.
func (s *store) infos(ctx context.Context, keys []string) (infos []serve.Info, err error) {
	sizes, ttls := make([]*redis.IntCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	_, err = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, k := range keys {
			sizes[i], ttls[i] = p.StrLen(ctx, k), p.PTTL(ctx, k)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if left := ttls[i].Val(); left > 0 {
			infos = append(infos, serve.Info{Key: strings.TrimPrefix(k, prefix), Size: sizes[i].Val(), Expires: time.Now().Add(left)})
		}
	}
	return infos, nil
}

func (s *store) List(ctx context.Context, start string) (all []serve.Info, err error) {
	seen := map[string]bool{}
	cursor := uint64(0)
	for {
		var found, keys []string
		if found, cursor, err = s.client.Scan(ctx, cursor, prefix+start+"*", 1000).Result(); err != nil {
			return nil, err
		}
		for _, k := range found {
			if !seen[k] { // Redis may tell a key twice
				seen[k] = true
				keys = append(keys, k)
			}
		}
		if len(keys) > 0 {
			infos, err := s.infos(ctx, keys)
			if err != nil {
				return nil, err
			}
			all = append(all, infos...)
		}
		if cursor == 0 {
			return all, nil
		}
	}
}

// set is CompareAndSet: the key; whether there is a value, the old, the new, milliseconds.
var set = redis.NewScript(`
local now = redis.call('GET', KEYS[1])
if ARGV[1] == '0' and now or ARGV[1] == '1' and now ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1`)

func (s *store) CompareAndSet(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	there := "0"
	if old != nil {
		there = "1"
	}
	done, err := set.Run(ctx, s.client, []string{prefix + key}, there, old, value, ttl.Milliseconds()).Int()
	if err == nil && done == 0 {
		err = serve.ErrChanged
	}
	return err
}
