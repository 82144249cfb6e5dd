// Blob is the program of examples/serve with stores of objects linked in, a module of its own for what these
// need:
//
//	cd examples/serve/blob && go run . --store dir:/var/cache/microrwkv --store 's3://bucket?region=eu-central-1'
//
// Another of gocloud.dev's drivers is one more import and its scheme.
package main

import (
	_ "gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob"

	"microrwkv/examples/internal/server"
	"microrwkv/rwkv/serve"
	"microrwkv/rwkv/serve/blobstore"
	_ "microrwkv/rwkv/serve/redisstore"
)

func main() {
	for _, scheme := range []string{"s3", "file"} {
		serve.RegisterStore(scheme, blobstore.Open)
	}
	server.Main()
}
