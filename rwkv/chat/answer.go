package chat

import "strings"

// Answer splits an answer, which comes in pieces, into the model's thoughts and what it says.
type Answer struct {
	thinking bool
	opened   bool // the ">" that ends "<think>" has been dropped
	started  bool // what is before the first character of a part has been dropped
	held     string
}

const endOfThoughts = "</think>"

// NewAnswer returns an Answer to a prompt with this Think, which the template must have.
func (t *Template) NewAnswer(think Think) *Answer {
	a := &Answer{}
	if t.thinking {
		switch think {
		case ThinkOn:
			a.thinking = true
		case ThinkFast:
			a.held = "</think" // whose ">" the model writes
			a.thinking = true
		}
	}
	return a
}

// Push takes the next piece of the answer, and returns what of the thoughts and of the text is certain
// now.
func (a *Answer) Push(piece string) (thoughts, text string) {
	a.held += piece
	if a.thinking {
		if !a.started && a.held != "" && !strings.HasPrefix(endOfThoughts, a.held) && !strings.HasPrefix(a.held, endOfThoughts) {
			if !a.opened {
				a.held, a.opened = strings.TrimPrefix(a.held, ">"), true
			}
			a.held = strings.TrimLeft(a.held, "\n")
			a.started = a.held != ""
		}
		before, after, ended := strings.Cut(a.held, endOfThoughts)
		if !ended {
			n := partial(a.held, endOfThoughts)
			thoughts, a.held = a.held[:len(a.held)-n], a.held[len(a.held)-n:]
			return thoughts, ""
		}
		thoughts, a.held = before, after
		a.thinking, a.started = false, false
	}
	text, a.held = a.held, ""
	if !a.started {
		text = strings.TrimLeft(text, " \n")
		a.started = text != ""
	}
	return thoughts, text
}

// Flush returns what is held back when the answer has ended.
func (a *Answer) Flush() (thoughts, text string) {
	held := a.held
	a.held = ""
	if a.thinking && held != "</think" {
		return held, ""
	}
	return "", ""
}

// partial returns the length of the longest end of s that begins word.
func partial(s, word string) int {
	for n := min(len(s), len(word)-1); n > 0; n-- {
		if strings.HasSuffix(s, word[:n]) {
			return n
		}
	}
	return 0
}
