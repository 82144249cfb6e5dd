package store

import "errors"

// Clip shortens a text that may come from a file.
func Clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// ClipError does the same with an error's text.
func ClipError(err error) error { return errors.New(Clip(err.Error())) }
