// Package chat writes conversations as the text that a model was trained on, and reads its answers.
//
// A [Template] turns messages into text: [G1] is the form of the official RWKV models of 2025 and
// later, [World] that of the earlier ones, and [Plain] is for models that only go on with a text.
//
//	parts, err := chat.G1.Prompt([]chat.Message{{Role: chat.User, Content: "Hi"}}, chat.Options{})
//	// "User: Hi\n\n", "Assistant:"
//
// A conversation over one rwkv.State appends the parts of the new messages alone, after [Join], and
// generates with the template's stop strings: the state then ends where the answer does.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"microrwkv/rwkv"
)

// The roles of messages.
const (
	System    = "system"
	Developer = "developer" // as System
	User      = "user"
	Assistant = "assistant"
	Tool      = "tool" // what a function returned
)

// Message is one turn of a conversation.
type Message struct {
	Role    string
	Content string
	Calls   []Call // of an assistant's message: the functions that it calls
}

// Call is a call of a function. Arguments are a JSON object.
type Call struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// Function is one that the model may call. Arguments are the properties of a JSON schema.
type Function struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Arguments   json.RawMessage `json:"arguments"`
}

// Think says whether the model thinks before it answers.
type Think string

const (
	ThinkOff  Think = "off"
	ThinkFast Think = "fast" // it is told that it has thought already
	ThinkOn   Think = "on"
)

// Options are what a prompt has beside its messages.
type Options struct {
	Think     Think      // "" is ThinkOff
	Footer    string     // at the end of the last user's message: see Effort
	Functions []Function // that the model may call
	MustCall  bool       // the answer is a call
}

// Effort returns the options of a reasoning effort as the OpenAI API names them: none, minimal, low,
// medium, high and above.
func Effort(effort string) (think Think, footer string, err error) {
	switch effort {
	case "none", "minimal":
		return ThinkFast, "", nil
	case "low":
		return ThinkOn, " (think a bit)", nil
	case "medium":
		return ThinkOn, " (think)", nil
	case "high", "xhigh":
		return ThinkOn, " (think a lot)", nil
	}
	return "", "", fmt.Errorf("reasoning effort %q: want none, minimal, low, medium, high or xhigh", effort)
}

// Template is a form of conversations.
type Template struct {
	Name     string
	Stops    []string // strings that end an answer
	Trained  bool     // the form is one that models are trained to answer in
	thinking bool
	plain    bool
}

var (
	G1    = &Template{Name: "g1", Stops: []string{"\n\nUser:", "\n\nSystem:"}, Trained: true, thinking: true}
	World = &Template{Name: "world", Stops: []string{"\n\n"}, Trained: true}
	Plain = &Template{Name: "plain", plain: true}
)

var templates = []*Template{G1, World, Plain}

// Named returns the template of a name. "auto" is the one that a model of this kind is likely to be
// trained on.
func Named(name string, kind rwkv.Kind) (*Template, error) {
	if name == "auto" {
		switch {
		case kind.Vocabulary() != "world":
			return Plain, nil
		case kind == rwkv.RWKV7:
			return G1, nil
		}
		return World, nil
	}
	names := []string{"auto"}
	for _, t := range templates {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return nil, fmt.Errorf("template %q: want one of %s", name, strings.Join(names, ", "))
}

// Join is what stands between an answer, which ends where its text does, and the next message.
const Join = "\n\n"

// Clean returns a message's text without what would end the message: blank lines, and space around
// it.
func Clean(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	for strings.Contains(s, "\n\n") {
		s = strings.ReplaceAll(s, "\n\n", "\n")
	}
	return strings.TrimSpace(s)
}

// Prompt returns the text that asks for the answer to messages, in parts that are to be encoded one
// by one: in the World vocabulary that gives the whole text's ids. If the last message is the
// assistant's, the answer goes on with it.
func (t *Template) Prompt(messages []Message, o Options) (parts []string, err error) {
	if len(messages) == 0 {
		return nil, errors.New("no messages")
	}
	if o.Think != "" && !slices.Contains([]Think{ThinkOff, ThinkFast, ThinkOn}, o.Think) {
		return nil, fmt.Errorf("think %q: want off, fast or on", o.Think)
	}
	if t.plain {
		var contents []string
		for _, m := range messages {
			contents = append(contents, m.Content)
		}
		return []string{strings.Join(contents, "\n")}, nil
	}
	lastUser := -1
	for i, m := range messages {
		if m.Role == User {
			lastUser = i
		}
	}
	last := len(messages) - 1
	goOn := messages[last].Role == Assistant && len(messages[last].Calls) == 0
	functions := o.Functions
	for i, m := range messages {
		if i == last && goOn {
			break
		}
		if len(functions) > 0 && m.Role != System && m.Role != Developer {
			text, err := tools("", functions)
			if err != nil {
				return nil, err
			}
			parts, functions = append(parts, text), nil
		}
		var part string
		switch m.Role {
		case System, Developer:
			part = "System: " + Clean(m.Content) + "\n\n"
			if len(functions) > 0 {
				if part, err = tools(Clean(m.Content), functions); err != nil {
					return nil, err
				}
				functions = nil
			}
		case User:
			part = "User: " + Clean(m.Content)
			if i == lastUser && t.thinking {
				part += o.Footer
			}
			part += "\n\n"
		case Assistant:
			if part, err = answer(m); err != nil {
				return nil, err
			}
		case Tool:
			part = "User: Function output:\n" + Clean(m.Content) + "\n\n"
		default:
			return nil, fmt.Errorf("message %d: role %q: want system, developer, user, assistant or tool", i, m.Role)
		}
		parts = append(parts, part)
	}
	end := "Assistant:"
	switch {
	case goOn:
		if text := spoken(messages[last].Content); text != "" {
			end += " " + text
		}
	case o.MustCall:
		end += " ```json\n"
	case t.thinking && o.Think == ThinkFast:
		end += " <think>\n</think"
	case t.thinking && o.Think == ThinkOn:
		end += " <think"
	}
	return append(parts, end), nil
}

// answer returns the part of an assistant's message.
func answer(m Message) (string, error) {
	text := spoken(m.Content)
	for _, c := range m.Calls {
		call, err := json.Marshal(c)
		if err != nil {
			return "", fmt.Errorf("the call of %q: %w", c.Name, err)
		}
		if text != "" {
			text += "\n"
		}
		text += "```json\n" + string(call) + "\n```"
	}
	return "Assistant: " + text + "\n\n", nil
}

// spoken returns an answer without its thoughts, and without what would begin another turn in it.
func spoken(content string) string {
	if _, after, ok := strings.Cut(content, "</think>"); ok {
		content = after
	}
	content = strings.TrimSpace(strings.ReplaceAll(content, "\r\n", "\n"))
	for _, role := range []string{"User:", "System:", "Assistant:"} {
		for strings.Contains(content, "\n\n"+role) {
			content = strings.ReplaceAll(content, "\n\n"+role, "\n"+role)
		}
	}
	return content
}

// tools returns the system's part with the functions that the model may call.
func tools(system string, functions []Function) (string, error) {
	var lines []string
	for _, f := range functions {
		b, err := json.Marshal(f)
		if err != nil {
			return "", fmt.Errorf("function %q: %w", f.Name, err)
		}
		lines = append(lines, string(b))
	}
	if system != "" {
		system += "\n"
	}
	return "System: " + system + "Tools:\n[\n" + strings.Join(lines, ",\n") + "\n]\nReturn only a JSON function call.\n\n", nil
}
