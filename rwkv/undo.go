package rwkv

import "context"

// undo is what it takes to end a text before a stop string that was written already: the state before
// the first token whose text is held back, and the tokens since. It is empty when no text is held
// back.
type undo struct {
	state   *State // before tokens; kept for the next time
	saved   bool   // state is set
	tokens  []Token
	ends    []int  // where each token's text ends in text; beyond it if a character isn't complete
	text    []byte // of the tokens
	certain int    // bytes of text that are certain, or were found to come before a stop string
	told    int    // tokens that OnToken knows
}

// beyond is the end of a token whose last character isn't complete.
const beyond = int(^uint(0) >> 1)

// push takes the text of a sampled token, which the state doesn't have yet. It returns the text that is
// certain, and whether a stop string ends it.
func (g *generation) push(t Token) (text string, stop bool) {
	piece := g.decoder.Push(t.ID)
	if len(g.stopper.stops) == 0 {
		g.tell(t)
		return piece, false
	}
	text, stop = g.stopper.push(piece)
	u := &g.undo
	u.text = append(u.text, piece...)
	u.certain += len(text)
	end := len(u.text)
	if g.decoder.Held() > 0 {
		end = beyond
	}
	for i := len(u.ends) - 1; i >= 0 && u.ends[i] == beyond; i-- {
		u.ends[i] = end // only with this token their last character is complete
	}
	u.tokens, u.ends = append(u.tokens, t), append(u.ends, end)
	g.tellCertain()
	if stop {
		return text, true
	}
	if n := len(u.tokens) - 1; u.told >= n {
		// What is held back begins in this token, or nothing is.
		all := u.told > n
		if n > 0 {
			u.drop(n)
		}
		switch {
		case all:
			u.drop(1)
			u.saved = false
		case !g.discard || g.onToken != nil:
			if u.state == nil {
				u.state = g.state.model.NewState()
			}
			u.state.CopyFrom(g.state)
			u.saved = true
		}
	}
	return text, false
}

// drop forgets the first n tokens, whose text is certain.
func (u *undo) drop(n int) {
	end := u.ends[n-1]
	u.text = append(u.text[:0], u.text[end:]...)
	u.tokens = append(u.tokens[:0], u.tokens[n:]...)
	u.ends = append(u.ends[:0], u.ends[n:]...)
	for i := range u.ends {
		if u.ends[i] != beyond {
			u.ends[i] -= end
		}
	}
	u.certain -= end
	u.told -= n
}

// tellCertain tells the tokens whose whole text is certain.
func (g *generation) tellCertain() {
	u := &g.undo
	for u.told < len(u.tokens) && u.ends[u.told] <= u.certain {
		g.tell(u.tokens[u.told])
		u.told++
	}
}

// rest returns the text that was held back, at the end, and whether a stop string is in it.
func (g *generation) rest() (text string, stop bool) {
	last := g.decoder.Flush()
	text, stop = g.stopper.push(last)
	if !stop {
		text += g.stopper.flush()
		stop = g.stopper.cut >= 0
	}
	u := &g.undo
	u.text = append(u.text, last...)
	u.certain += len(text)
	for i := range u.ends {
		u.ends[i] = min(u.ends[i], len(u.text))
	}
	g.tellCertain()
	return text, stop
}

// cut makes the state end where the text ends, before a stop string.
func (g *generation) cut() error {
	ctx := context.Background() // a few tokens, which the caller's context must not keep out
	u := &g.undo
	ids, err := g.tok.Encode(string(u.text[min(u.endOf(u.told), len(u.text)):u.certain]))
	if err != nil { // U+FFFD of a vocabulary of characters: then the state ends before it
		ids = nil
	}
	g.made -= len(u.tokens) - u.told - len(ids)
	if u.saved {
		g.state.CopyFrom(u.state)
		for _, t := range u.tokens[:u.told] {
			if err := g.feed(ctx, t); err != nil {
				return err
			}
		}
	}
	for _, id := range ids {
		t := Token{ID: id, LogProb: logProbOf(g.state.logits, id), Top: topLogProbs(g.state.logits, g.topLogProbs)}
		if !g.discard || g.onToken != nil {
			if err := g.feed(ctx, t); err != nil {
				return err
			}
		}
		g.tell(t)
	}
	return nil
}

// endOf returns where the text of the first n tokens ends.
func (u *undo) endOf(n int) int {
	if n == 0 {
		return 0
	}
	return u.ends[n-1]
}
