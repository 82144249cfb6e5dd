// Package checkpoint reads and writes the files that weights come in: what torch.save writes, and
// safetensors. It knows names, shapes and dtypes, and nothing of models.
//
//	f, err := checkpoint.Open("ckpt.pt")
//	…
//	defer f.Close()
//	for _, name := range f.Names() {
//		info, _ := f.Info(name)                 // dtype, shape, …
//		w, err := f.Tensor(name)                // a view of the mapped file where that is possible
//	}
//	args, ok := f.Value("model_args")           // map[string]any
//	err = f.Verify(progress)                    // damage (CRC-32), NaN and Inf
//
// A checkpoint is a file from a stranger: nothing in it is ever run, nothing is allocated because
// the file says so, and what is wrong with it is an error that names file, tensor, got and want.
package checkpoint
