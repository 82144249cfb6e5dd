package serve_test

import (
	"testing"

	"microrwkv/rwkv/serve"
	"microrwkv/rwkv/serve/internal/storetest"
)

func TestStores(t *testing.T) {
	t.Run("mem", func(t *testing.T) {
		s := serve.Memory(1 << 20)
		storetest.Run(t, s, s)
	})
	t.Run("dir", func(t *testing.T) {
		var stores [2]serve.Store
		folder := t.TempDir()
		for i := range stores {
			var err error
			if stores[i], err = serve.Dir(folder, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		storetest.Run(t, stores[0], stores[1])
	})
	t.Run("cached", func(t *testing.T) {
		shared := serve.Memory(1 << 20)
		var stores [2]serve.Store
		for i := range stores {
			var err error
			if stores[i], err = serve.Cached(t.TempDir(), 1<<30, shared); err != nil {
				t.Fatal(err)
			}
		}
		storetest.Run(t, stores[0], stores[1])
	})
}
