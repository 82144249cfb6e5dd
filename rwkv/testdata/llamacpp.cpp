// What llamacpp.py asks of llama.cpp: the logits of a sequence, or the tokens of a text.
//
//	llamacpp MODEL.gguf logits < ids     ids as text; writes V, then T·V float32
//	llamacpp MODEL.gguf tokens < text    prints ids
#include "llama.h"

#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

int main(int argc, char ** argv) {
    if (argc != 3) {
        return 2;
    }
    const bool tokens = std::string(argv[2]) == "tokens";
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level >= GGML_LOG_LEVEL_ERROR) {
            fputs(text, stderr);
        }
    }, nullptr);
    llama_backend_init();
    auto mp = llama_model_default_params();
    mp.vocab_only = tokens;
    llama_model * model = llama_model_load_from_file(argv[1], mp);
    if (model == nullptr) {
        return 1;
    }
    const llama_vocab * vocab = llama_model_get_vocab(model);
    if (tokens) {
        const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
        std::vector<llama_token> ids(text.size() + 8);
        const int n = llama_tokenize(vocab, text.data(), text.size(), ids.data(), ids.size(), false, false);
        for (int i = 0; i < n; i++) {
            printf("%d\n", ids[i]);
        }
        return n < 0;
    }
    std::vector<llama_token> ids{std::istream_iterator<llama_token>(std::cin), {}};
    auto cp = llama_context_default_params();
    cp.n_ctx = 2 * ids.size();
    cp.n_batch = cp.n_ubatch = ids.size();
    cp.n_threads = cp.n_threads_batch = 2;
    llama_context * ctx = llama_init_from_model(model, cp);
    if (ctx == nullptr) {
        return 1;
    }
    llama_batch b = llama_batch_init(ids.size(), 0, 1);
    b.n_tokens = ids.size();
    for (int i = 0; i < b.n_tokens; i++) {
        b.token[i] = ids[i];
        b.pos[i] = i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = 0;
        b.logits[i] = 1;
    }
    if (llama_decode(ctx, b) != 0) {
        return 1;
    }
    const int size = llama_vocab_n_tokens(vocab);
    fwrite(&size, 4, 1, stdout);
    for (int i = 0; i < b.n_tokens; i++) {
        fwrite(llama_get_logits_ith(ctx, i), 4, size, stdout);
    }
    return fflush(stdout) != 0;
}
