package rwkv

// InitialState x
func InitialState(path string) OpenOption { return func(o *openOptions) {} }

// LoRA x
func LoRA(path string, alpha float64) OpenOption { return func(o *openOptions) {} }

// Bone x
func Bone(path string) OpenOption { return func(o *openOptions) {} }
