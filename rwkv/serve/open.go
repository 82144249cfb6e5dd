package serve

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

var (
	schemesMu sync.Mutex
	schemes   = map[string]func(url string) (Store, error){}
)

// RegisterStore has OpenStore open addresses that begin with scheme and a colon. Packages of stores call it
// when they are imported; a scheme that is there already panics.
func RegisterStore(scheme string, open func(url string) (Store, error)) {
	schemesMu.Lock()
	defer schemesMu.Unlock()
	if schemes[scheme] != nil {
		panic("serve: two stores for " + scheme)
	}
	schemes[scheme] = open
}

// OpenStore opens a store of a package that is imported, such as redisstore, by its address.
func OpenStore(url string) (Store, error) {
	scheme, _, _ := strings.Cut(url, ":")
	schemesMu.Lock()
	open := schemes[scheme]
	known := slices.Sorted(maps.Keys(schemes))
	schemesMu.Unlock()
	if open == nil {
		return nil, fmt.Errorf("%q: no store for such an address is linked in: want mem:, dir:PATH or one that begins with %s", url, strings.Join(known, ", "))
	}
	return open(url)
}
