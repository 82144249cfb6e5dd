package rwkv

import (
	"context"
	"errors"
)

// Reason says why a text ended.
type Reason string

const (
	End         Reason = "end"         // the tokenizer's end-of-text token came
	Stop        Reason = "stop"        // a stop token or a stop string came
	Length      Reason = "length"      // there are MaxTokens tokens
	Full        Reason = "full"        // the context has no room, under the rule Refuse
	Interrupted Reason = "interrupted" // its context.Context ended
	Failed      Reason = "error"       // another error, no token to sample for one
)

// reasonOf returns the reason that an error is.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, ErrFull):
		return Full
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Interrupted
	}
	return Failed
}
