// Package train trains the models of package rwkv, from initial weights or from a checkpoint, on the
// CPU: kinds reference, causal, x051a, rwkv5, rwkv6 and rwkv7, of which rwkv5 and rwkv6 begin with a checkpoint
// (rwkv.Model.Trainee), for there are no initial weights for them, and RWKV-7a isn't trained. A dozen lines
// are a training program:
//
//	data, err := train.Open("input.txt", train.DataOptions{Tokenizer: "char"})
//	o := train.Defaults(rwkv.X051a)
//	o.MaxIters = 2000
//	model, err := rwkv.Fresh(rwkv.Config{Kind: rwkv.X051a, VocabSize: data.VocabSize, BlockSize: 64,
//		NumLayers: 4, NumHeads: 4, EmbedDim: 128}, 1)
//	t, err := train.New(model, o, data)
//	for t.Iter() < o.MaxIters {
//		report, err := t.Step(ctx)
//		…
//	}
//	err = t.Save("out/ckpt.pt")
//
// NewStates trains nothing but the states that sequences begin with, of all these kinds but reference.
//
// Losses, AdamW with its groups, the schedule and the checkpoints are those of nanoGPT, and for rwkv5 to
// rwkv7 those of RWKV-LM; checkpoints go on in PyTorch, and PyTorch's here. The same options give the same
// bits at any number of threads, and so do a run that is stopped and resumed and one that isn't. Nothing
// is printed; a step allocates nothing once warm.
package train
