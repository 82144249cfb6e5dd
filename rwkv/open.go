package rwkv

import (
	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// OpenOption sets how a checkpoint is opened.
type OpenOption func(*openOptions)

type openOptions struct {
	kind       Kind
	convert    bool // the matrices to dtype
	dtype      tensor.DType
	skipChecks bool
	background bool // check while the model is used
	key        []string
	opaque     bool
	progress   func(done, total int64)
	companions []companion
	onDisk     bool // files may lie beside the checkpoint

	precision ProductPrecision

	ofBlocks ActivationFormat   // beside quantized weights
	ofFloats tensor.Activations // beside other ones
}

// activations returns what products make of their activations beside a weight of type d.
func (o *openOptions) activations(d tensor.DType) tensor.Activations {
	if block, _ := d.Block(); block > 1 {
		return o.ofBlocks.beside(d)
	}
	return o.ofFloats
}

// AsKind says which kind a checkpoint is that doesn't say so itself: the weights alone can't tell
// Reference from Causal.
func AsKind(k Kind) OpenOption { return func(o *openOptions) { o.kind = k } }

// SkipChecks leaves out the checks of every weight for damage (CRC), NaN and Inf, which read the
// whole model once. The checks of names, shapes and sizes stay.
func SkipChecks() OpenOption { return func(o *openOptions) { o.skipChecks = true } }

// CheckInBackground lets Open return as soon as names, shapes and sizes are checked: every weight is checked
// for damage, NaN and Inf while the model is already used, on CPUs that it uses too. Until then a damaged file
// may make wrong numbers; when damage is found, all later calls of the model return the error that Open would
// have returned. Model.Checked waits for the end. What Progress calls is called from another goroutine.
func CheckInBackground() OpenOption { return func(o *openOptions) { o.background = true } }

// Key says under which key of the file the weights are, or under which keys one inside the other.
// Without it they are looked for.
func Key(keys ...string) OpenOption { return func(o *openOptions) { o.key = keys } }

// Opaque opens a file that has values of unknown classes beside the weights: see checkpoint.Opaque.
func Opaque() OpenOption { return func(o *openOptions) { o.opaque = true } }

// Progress calls f now and then while weights are checked or converted, with bytes done and to do,
// from one goroutine at a time.
func Progress(f func(done, total int64)) OpenOption { return func(o *openOptions) { o.progress = f } }

// WeightsAs converts the weight matrices to dtype, which takes memory of its own; without it they
// stay as the file has them, mapped and widened as they are used. BF16 halves what F32 takes, and
// rounds.
func WeightsAs(dtype tensor.DType) OpenOption {
	return func(o *openOptions) { o.convert, o.dtype = true, dtype }
}

// Open opens a checkpoint: a .pt or .pth of torch.save, a .safetensors file or .st, a .gguf of llama.cpp's, or a folder of
// Hugging Face's with one or several such files. What it holds is found out from its tensors: see Kind.
// Of a config.json beside them only what the tensors can't tell is used. The weights are mapped, not read: they take no memory of
// their own, and the file must not be changed while the model is in use. Close gives it back.
//
// An error names the file and everything that is wrong with it: missing, extra and misshapen
// tensors, values of model_args that make no sense, damage, NaN and Inf.
func Open(path string, opts ...OpenOption) (*Model, error) {
	o := newOpenOptions(opts)
	o.onDisk = true
	path, err := ModelFile(path)
	if err != nil {
		return nil, err
	}
	f, err := checkpoint.Open(path, o.fileOptions()...)
	if err != nil {
		return nil, err
	}
	m, err := load(f, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	m.path = path
	return m, nil
}

func newOpenOptions(opts []OpenOption) *openOptions {
	o := &openOptions{}
	for _, set := range opts {
		set(o)
	}
	return o
}

// fileOptions returns the options that concern the file.
func (o *openOptions) fileOptions() (opts []checkpoint.Option) {
	if len(o.key) > 0 {
		opts = append(opts, checkpoint.Key(o.key...))
	}
	if o.opaque {
		opts = append(opts, checkpoint.Opaque())
	}
	return opts
}

// OpenBytes is Open of a file's content, which errors call name. The weights are views of data, which
// must not be changed while the model is in use. Closing the model does nothing.
func OpenBytes(name string, data []byte, opts ...OpenOption) (*Model, error) {
	o := newOpenOptions(opts)
	f, err := checkpoint.OpenBytes(name, data, o.fileOptions()...)
	if err != nil {
		return nil, err
	}
	m, err := load(f, o)
	if err != nil {
		return nil, err
	}
	m.file = nil
	return m, nil
}
