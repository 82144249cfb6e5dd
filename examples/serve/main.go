// Serve answers requests of OpenAI's API, and serves a page to chat on.
//
//	go run ./examples/serve --model RWKV-x070-World-0.4B.pth
//	curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{"messages":[{"role":"user","content":"Hi"}]}'
//
// Without --model it serves the embedded one. SIGTERM and Ctrl-C let it finish what it has begun; a second
// one ends it.
package main

import (
	"microrwkv/examples/internal/server"
	_ "microrwkv/rwkv/serve/redisstore"
)

func main() { server.Main() }
