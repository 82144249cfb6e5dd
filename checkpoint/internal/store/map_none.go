//go:build !unix && !windows

package store

import (
	"errors"
	"os"
)

// mapFile reports that files can't be mapped here.
func mapFile(*os.File, int64) (data []byte, unmap func() error, err error) {
	return nil, nil, errors.ErrUnsupported
}
