// Package rwkv runs RWKV language models and their relatives from PyTorch checkpoints: it is the one
// package that knows the checkpoints' tensor names.
//
//	model, err := rwkv.Open("out/ckpt-500.pt") // or demo.Model(), of package rwkv/demo
//	tok, err := model.Tokenizer() // with import _ "microrwkv/tokenizer/gpt2"
//	for piece, err := range model.Generate(ctx, tok, "One day", rwkv.MaxTokens(50)) {
//		fmt.Print(piece)
//	}
//
// A [Model] is weights, read-only once loaded; goroutines share it. [Model.Forward] gives the logits
// of every position, [Model.Score] loss, perplexity and auxiliary losses. A [State] is all that
// changes while a sequence is read or written, a value to clone, save and restore. A [Batch]
// writes many sequences together, each exactly as it would be alone.
//
// # Kinds
//
// What a checkpoint is follows from its tensors:
//
//   - [Reference], the published MicroRWKV: its rules are not causal, so that each further token
//     computes the sequence again. A State is its tokens.
//   - [Causal], MicroRWKV with causal rules: a top-level "variant" says so. A token costs the same
//     however many came before.
//   - [X051a], nanoRWKV. As Causal.
//   - [RWKV4], the official RWKV-4 models: Pile, Raven, World. As Causal, without a limit of the context,
//     like all that follow.
//   - [RWKV5], the official RWKV-5 "Eagle" models: versions 5.0, with both forms of its bonus, 5.1 and
//     5.2.
//   - [RWKV6], the official RWKV-6 "Finch" models.
//   - [RWKV7], the official RWKV-7 "Goose" models, and RWKV-7a with DeepEmbed.
//
// The official models come as the official .pth, in folders of Hugging Face's and in web-rwkv's layout:
// see [Open] and [LayoutOf]. [InitialState], [LoRA] and [Bone] open them with what was trained on top.
//
// # Adding a kind
//
// A kind is one file in this package, and in package nn what layers it has that others don't. The
// file has
//
//   - a family, listed in families: how checkpoints of the kind are told from others, what their
//     shapes and model_args say of the Config, what a valid Config is;
//   - its describe, which puts the layers together and describes each parameter once: name, shape,
//     random values, and the layer's field that it lives in. That loads, makes, lists and saves them;
//   - a block: forward on the rows of a batch, and the state of its layers, if the kind streams.
//
// Another layout of the official models is a row of the table layouts; a file that only looks like one
// of them is a row of refusals.
//
// Everything else is there for all kinds: opening, conversion of weights, Forward, Score, States and
// their files, batches, sampling, the programs. The file x051a.go is the shortest example. Golden
// cases of the kind belong in testdata/golden, and its formulas into the float64 oracle of the tests.
package rwkv
