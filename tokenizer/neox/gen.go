//go:build ignore

// Command gen packs the tokenizer that this package embeds:
//
//	go run gen.go 20B_tokenizer.json
//
// The file is the tokenizer.json of huggingface.co/EleutherAI/gpt-neox-20b, and 20B_tokenizer.json of
// the Python package rwkv.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: go run gen.go 20B_tokenizer.json")
	}
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var small, packed bytes.Buffer
	if err := json.Compact(&small, data); err != nil {
		log.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(small.Bytes())
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = os.WriteFile("tokenizer.json.gz", packed.Bytes(), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}
