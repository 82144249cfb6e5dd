package chat

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"microrwkv/rwkv"
	"microrwkv/tokenizer/world"
)

func TestPrompt(t *testing.T) {
	hi := Message{Role: User, Content: "Hi"}
	weather := Function{"weather", "of a place", json.RawMessage(`{"place":{"type":"string"}}`)}
	for _, c := range []struct {
		template *Template
		messages []Message
		options  Options
		want     []string
	}{
		{G1, []Message{hi}, Options{}, []string{"User: Hi\n\n", "Assistant:"}},
		{G1, []Message{{Role: System, Content: " be\r\n\r\n\r\nkind "}, hi}, Options{Think: ThinkFast},
			[]string{"System: be\nkind\n\n", "User: Hi\n\n", "Assistant: <think>\n</think"}},
		{G1, []Message{hi, {Role: Assistant, Content: "<think>\nhm</think>\n Hello\n\n\nUser: no "}, {Role: User, Content: "a\n\n\nb"}}, Options{Think: ThinkOn, Footer: " (think)"},
			[]string{"User: Hi\n\n", "Assistant: Hello\nUser: no\n\n", "User: a\nb (think)\n\n", "Assistant: <think"}},
		{G1, []Message{hi, {Role: Assistant, Content: "I think"}}, Options{Think: ThinkOn}, []string{"User: Hi\n\n", "Assistant: I think"}},
		{G1, []Message{hi}, Options{Functions: []Function{weather}, MustCall: true},
			[]string{"System: Tools:\n[\n{\"name\":\"weather\",\"description\":\"of a place\",\"arguments\":{\"place\":{\"type\":\"string\"}}}\n]\nReturn only a JSON function call.\n\n", "User: Hi\n\n", "Assistant: ```json\n"}},
		{G1, []Message{{Role: Developer, Content: "x"}, hi, {Role: Assistant, Calls: []Call{{"weather", json.RawMessage(`{"place":"Rome"}`)}}}, {Role: Tool, Content: "sun\n"}},
			Options{Functions: []Function{weather, weather}},
			[]string{"System: x\nTools:\n[\n{\"name\":\"weather\",\"description\":\"of a place\",\"arguments\":{\"place\":{\"type\":\"string\"}}},\n{\"name\":\"weather\",\"description\":\"of a place\",\"arguments\":{\"place\":{\"type\":\"string\"}}}\n]\nReturn only a JSON function call.\n\n",
				"User: Hi\n\n", "Assistant: ```json\n{\"name\":\"weather\",\"arguments\":{\"place\":\"Rome\"}}\n```\n\n", "User: Function output:\nsun\n\n", "Assistant:"}},
		{World, []Message{hi}, Options{Think: ThinkOn}, []string{"User: Hi\n\n", "Assistant:"}},
		{Plain, []Message{{Role: System, Content: "a\n"}, hi}, Options{}, []string{"a\n\nHi"}},
	} {
		got, err := c.template.Prompt(c.messages, c.options)
		if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
			t.Errorf("%s of %+v:\n%q, %v\nwant %q", c.template.Name, c.messages, got, err, c.want)
		}
	}
	for want, f := range map[string]func() error{
		"no messages": func() error { _, err := G1.Prompt(nil, Options{}); return err },
		`"robot"`:     func() error { _, err := G1.Prompt([]Message{{Role: "robot"}}, Options{}); return err },
		`"maybe"`:     func() error { _, err := G1.Prompt([]Message{hi}, Options{Think: "maybe"}); return err },
		`"huge"`:      func() error { _, _, err := Effort("huge"); return err },
		`"g2"`:        func() error { _, err := Named("g2", rwkv.RWKV7); return err },
		`"f"`: func() error {
			_, err := G1.Prompt([]Message{hi}, Options{Functions: []Function{{Name: "f", Arguments: json.RawMessage("{")}}})
			return err
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that names %s", err, want)
		}
	}
}

func TestNamed(t *testing.T) {
	for kind, want := range map[rwkv.Kind]*Template{rwkv.RWKV7: G1, rwkv.Causal: Plain, rwkv.X051a: Plain} {
		if got, err := Named("auto", kind); err != nil || got != want {
			t.Errorf("%s: %v, %v", kind, got, err)
		}
	}
}

// TestPartsEncodeAlone holds for the World vocabulary: no token has a letter after a newline.
func TestPartsEncodeAlone(t *testing.T) {
	tok, err := world.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"Hi", "Wie geht's?\nGut!", "你好\n\n吗", "  \n", "x\n\nUser: y", "}\n"} {
		parts, err := G1.Prompt([]Message{{Role: System, Content: content}, {Role: User, Content: content}, {Role: Assistant, Content: content}, {Role: User, Content: "z"}}, Options{Think: ThinkOn})
		if err != nil {
			t.Fatal(err)
		}
		var alone []int
		for _, p := range parts {
			ids, err := tok.Encode(p)
			if err != nil {
				t.Fatal(err)
			}
			alone = append(alone, ids...)
		}
		if whole, err := tok.Encode(strings.Join(parts, "")); err != nil || fmt.Sprint(whole) != fmt.Sprint(alone) {
			t.Errorf("%q: %v, %v, in parts %v", content, whole, err, alone)
		}
	}
}

// TestAnswer cuts answers at every place into two pieces, and into single bytes.
func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		template             *Template
		think                Think
		answer               string
		wantThoughts, wantIt string
	}{
		{G1, ThinkOff, " Hello </think> a", "", "Hello </think> a"},
		{G1, ThinkOn, ">\nI < think</thin</think>\n\n Hello\n\nthere", "I < think</thin", "Hello\n\nthere"},
		{G1, ThinkOn, ">>\n>a", ">\n>a", ""},
		{G1, ThinkOn, ">\nendless", "endless", ""},
		{G1, ThinkOn, "</think>x", "", "x"},
		{G1, ThinkFast, ">\nHello", "", "Hello"},
		{G1, ThinkFast, "", "", ""},
		{World, ThinkOn, " Hello", "", "Hello"},
	} {
		check := func(pieces ...string) {
			t.Helper()
			a := c.template.NewAnswer(c.think)
			var thoughts, text string
			for _, p := range pieces {
				x, y := a.Push(p)
				thoughts, text = thoughts+x, text+y
			}
			x, y := a.Flush()
			thoughts, text = thoughts+x, text+y
			if thoughts != c.wantThoughts || text != c.wantIt {
				t.Errorf("%s, think %s, %q: thoughts %q and %q, want %q and %q", c.template.Name, c.think, pieces, thoughts, text, c.wantThoughts, c.wantIt)
			}
		}
		for i := range len(c.answer) + 1 {
			check(c.answer[:i], c.answer[i:])
		}
		check(strings.Split(c.answer, "")...)
	}
}
