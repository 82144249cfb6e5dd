// Package serve answers HTTP requests of OpenAI's API with RWKV models, and makes their states values
// that clients save, branch and hand over.
//
//	server, err := serve.New([]serve.Model{{Name: "demo", Model: model, Tokenizer: tok}}, serve.Config{})
//	http.Handle("/", server)
//	defer server.Shutdown(ctx)
//
// The handler has no connection of its own: [NewHTTPServer] gives one the limits that a server in
// public needs. All requests to a model share one rwkv.Batch, and each gets exactly the tokens that
// it would get alone. States are kept in a [Store].
package serve
