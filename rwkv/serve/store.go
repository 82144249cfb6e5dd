package serve

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// Store keeps values by keys of letters, digits, '-', '_', '.' and '/'. Its methods may be called by any
// goroutine, those of several stores on one place by several servers. A value is there whole or not at
// all, and when Put has returned nil it stays until it expires or is deleted.
type Store interface {
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	Get(ctx context.Context, key string) ([]byte, error)
	Stat(ctx context.Context, key string) (Info, error)
	Delete(ctx context.Context, key string) error // of a key that isn't there: nil

	// List returns the keys that begin with a prefix, in any order.
	List(ctx context.Context, prefix string) ([]Info, error)

	// CompareAndSet is Put if the value is old, nil for none; else it returns ErrChanged.
	CompareAndSet(ctx context.Context, key string, old, value []byte, ttl time.Duration) error
}

// Info tells of a value.
type Info struct {
	Key     string
	Size    int64
	Expires time.Time
}

// Errors of stores, for errors.Is.
var (
	ErrNotFound = errors.New("there is no such value")
	ErrChanged  = errors.New("the value has changed")
	ErrDamaged  = errors.New("the value is damaged")
	ErrFull     = errors.New("the store is full")
)

// memory is a Store that ends with the program.
type memory struct {
	mu          sync.Mutex
	limit, size int64
	values      map[string]value
}

type value struct {
	data    []byte
	expires time.Time
}

// Memory returns a Store in memory, of at most limit bytes.
func Memory(limit int64) Store { return &memory{limit: limit, values: map[string]value{}} }

// Usage returns how many values there are and their bytes.
func (m *memory) Usage() (values int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.values), m.size
}

// find returns a value that hasn't expired.
func (m *memory) find(key string) (value, bool) {
	v, ok := m.values[key]
	return v, ok && time.Now().Before(v.expires)
}

func (m *memory) put(key string, data []byte, ttl time.Duration) error {
	now := time.Now()
	size := m.size + int64(len(data)) - int64(len(m.values[key].data))
	if size > m.limit {
		for k, v := range m.values {
			if k != key && !now.Before(v.expires) {
				delete(m.values, k)
				m.size -= int64(len(v.data))
				size -= int64(len(v.data))
			}
		}
	}
	if size > m.limit {
		return ErrFull
	}
	m.values[key], m.size = value{append([]byte{}, data...), now.Add(ttl)}, size
	return nil
}

func (m *memory) Put(_ context.Context, key string, data []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.put(key, data, ttl)
}

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.find(key)
	if !ok {
		return nil, ErrNotFound
	}
	return append([]byte{}, v.data...), nil
}

func (m *memory) Stat(_ context.Context, key string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.find(key)
	if !ok {
		return Info{}, ErrNotFound
	}
	return Info{key, int64(len(v.data)), v.expires}, nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size -= int64(len(m.values[key].data))
	delete(m.values, key)
	return nil
}

func (m *memory) List(_ context.Context, prefix string) (list []Info, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.values {
		if v, ok := m.find(k); ok && strings.HasPrefix(k, prefix) {
			list = append(list, Info{k, int64(len(v.data)), v.expires})
		}
	}
	return list, nil
}

func (m *memory) CompareAndSet(_ context.Context, key string, old, data []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.find(key)
	if ok != (old != nil) || string(v.data) != string(old) && ok {
		return ErrChanged
	}
	return m.put(key, data, ttl)
}
