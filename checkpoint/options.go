package checkpoint

// An Option sets how a file is opened.
type Option func(*options)

type options struct {
	key      []string
	unmapped bool
	opaque   bool
	shard    bool // it is one of an index's files, and no index itself
}

// Key says where in the file's nested dicts and lists the tensors are, "ema" for one. Without it
// that is "model", "state_dict" or "model_state_dict", or the top if there are tensors; else all
// tensors of the file are taken, under names that say where they are, but for what optimizers keep.
func Key(keys ...string) Option { return func(o *options) { o.key = keys } }

// Opaque reads the weights of a file that has values of classes beside them that are unknown here, which
// is an error else: such values are shown as what they are, "a megatron.core.enums.AttnMaskType" for one.
// Nothing of a file is run in either case.
func Opaque() Option { return func(o *options) { o.opaque = true } }

// Unmapped reads tensors into memory when they are asked for, instead of mapping the file: for
// files that others may change or cut short meanwhile.
func Unmapped() Option { return func(o *options) { o.unmapped = true } }
