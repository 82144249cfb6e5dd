package rwkv

import (
	"fmt"
	"strings"
)

// Files that look like models of this package and are something else: to run one as what it looks like
// would give nonsense.

// refusals are what tells such files, by what a tensor's name contains, and what they are.
var refusals = []struct{ part, what string }{
	{".lora_A", "a LoRA, not a model: it is merged into one while that is opened"},
	{".lora_B", "a LoRA, not a model: it is merged into one while that is opened"},
	{".disha", "a DiSHA (Bone) file, not a model: it is merged into one while that is opened"},
	{".att.qq", "RWKV-4a"},
	{".tiny_q", "RWKV-4b"},
	{".ffn.aa", "RWKV-4 with GLU"},
	{"head_q", "RWKV-4 with head_q"},
	{"pos_emb_x", "RWKV-4 with position embeddings"},
	{".ffnPre", "RWKV-4 with an FFN in place of the first time mix"},
	{".att.gate_w1", "RWKV-6a"},
	{".att.time_maa_rkvw_w1", "RWKV-6b or 6c"},
	{".qkv.", "RWKV-7b"},
	{".ffn.enn", "RWKV-8"},
}

// refuse returns an error if the file is one of those.
func (s *fileSource) refuse() error {
	const want = "want an official RWKV-4, 5, 6, 7 or 7a"
	if _, ok := s.file.Value("_strategy"); ok || hasAny(s, "_strategy", "") {
		return fmt.Errorf("_strategy: this file was converted by the rwkv package for one strategy: %s as published", want)
	}
	if !hasAny(s, "blocks.", "") {
		return nil // no official names: not these
	}
	for _, r := range refusals {
		for _, name := range s.names {
			if strings.Contains("."+name, r.part) {
				return fmt.Errorf("tensor %q: this is %s: %s", name, r.what, want)
			}
		}
	}
	if n := len(stateBlocks(s)); n > 0 && n == len(s.names) {
		return fmt.Errorf("tensor %q and no others but time_state: this is a tuned state, not a model: %s, which it can be opened with", s.names[0], want)
	}
	return nil
}
