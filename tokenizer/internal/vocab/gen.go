//go:build ignore

// Command gen packs the vocabularies that packages gpt2 and world embed:
//
//	go run gen.go r50k_base.tiktoken rwkv_vocab_v20230424.txt
//
// The first file is in the assets of github.com/pkoukk/tiktoken-go-loader, the second in the Python
// package rwkv. It writes gpt2.vocab and world.vocab; vocab.go's Unpack has the format.
package main

import (
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: go run gen.go r50k_base.tiktoken rwkv_vocab_v20230424.txt")
	}
	pack("../../gpt2/gpt2.vocab", 0, lines(os.Args[1], tiktokenLine))
	pack("../../world/world.vocab", 1, lines(os.Args[2], worldLine))
}

// lines parses each line of the file into an id and its bytes.
func lines(file string, parse func(line string) (id int, token string, err error)) map[int]string {
	data, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	tokens := map[int]string{}
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		id, token, err := parse(strings.TrimSuffix(line, "\r"))
		if err == nil && (token == "" || len(token) > 255) {
			err = fmt.Errorf("a token of %d bytes", len(token))
		}
		if err != nil {
			log.Fatalf("%s:%d: %v", file, i+1, err)
		}
		tokens[id] = token
	}
	return tokens
}

// tiktokenLine parses "base64 rank".
func tiktokenLine(line string) (int, string, error) {
	text, rank, _ := strings.Cut(line, " ")
	token, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return 0, "", err
	}
	id, err := strconv.Atoi(rank)
	return id, string(token), err
}

// worldLine parses "id literal length", the literal being Python's repr of a str or of bytes.
func worldLine(line string) (int, string, error) {
	first, last := strings.Index(line, " "), strings.LastIndex(line, " ")
	if first == last {
		return 0, "", fmt.Errorf("not three fields")
	}
	id, err := strconv.Atoi(line[:first])
	if err != nil {
		return 0, "", err
	}
	n, err := strconv.Atoi(line[last+1:])
	if err != nil {
		return 0, "", err
	}
	token, err := literal(line[first+1 : last])
	if err == nil && len(token) != n {
		err = fmt.Errorf("%q has %d bytes, want %d", token, len(token), n)
	}
	return id, token, err
}

// literal evaluates a Python str or bytes literal as repr writes it; a str becomes its UTF-8.
func literal(s string) (string, error) {
	body, isBytes := strings.CutPrefix(s, "b")
	if len(body) < 2 || body[0] != body[len(body)-1] || body[0] != '\'' && body[0] != '"' {
		return "", fmt.Errorf("%s is not quoted", s)
	}
	body = body[1 : len(body)-1]
	var out []byte
	for len(body) > 0 {
		if body[0] != '\\' {
			out, body = append(out, body[0]), body[1:]
			continue
		}
		if len(body) < 2 {
			return "", fmt.Errorf("%s ends in a backslash", s)
		}
		op := body[1]
		body = body[2:]
		if i := strings.IndexByte("tnr", op); i >= 0 {
			out = append(out, "\t\n\r"[i])
			continue
		}
		if strings.IndexByte(`\'"`, op) >= 0 {
			out = append(out, op)
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[op]
		if digits == 0 || len(body) < digits {
			return "", fmt.Errorf("%s has an unknown escape \\%c", s, op)
		}
		code, err := strconv.ParseUint(body[:digits], 16, 32)
		if err != nil {
			return "", err
		}
		if body = body[digits:]; isBytes {
			out = append(out, byte(code))
		} else {
			out = utf8.AppendRune(out, rune(code))
		}
	}
	return string(out), nil
}

// pack writes the tokens, whose ids must be first, first+1 and so on, each without what it shares
// with the one before.
func pack(file string, first int, tokens map[int]string) {
	var out []byte
	prev := ""
	for id := first; id < first+len(tokens); id++ {
		token, ok := tokens[id]
		if !ok {
			log.Fatalf("%s: no token %d", file, id)
		}
		shared := 0
		for shared < len(prev) && shared < len(token) && prev[shared] == token[shared] {
			shared++
		}
		out = append(out, byte(shared), byte(len(token)-shared))
		out = append(out, token[shared:]...)
		prev = token
	}
	if err := os.WriteFile(file, out, 0o644); err != nil {
		log.Fatal(err)
	}
}
