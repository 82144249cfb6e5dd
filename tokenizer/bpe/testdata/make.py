"""Makes the golden data of package bpe with Hugging Face's tokenizers library: small tokenizers with the
split patterns of GPT-2, Llama 3 and Qwen, and what they make of texts.

    pip install tokenizers==0.23.3 && python make.py
"""
import json, random
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA.replace("{1,3}", "")
corpus = open(__file__).read().splitlines(True) * 3 + [
    "One day, Lily found a box.\n\n", "It's 1234567 o'clock, they'll say; WE'RE here!!!\r\n", "naïve café, Ünïcödé, “quotes” …\n", "日本語のテキスト\n",
    "    def f(x):\n\t\treturn x\n", "the end of the day, the day of the end. " * 4]
atoms = ["a", "B", "the", " ", "  ", "\n", "\r\n", "\t", "'", "'s", "'S", "'ſ", "'LL", "'re", "1", "12", "1234", "½", "٣", "é", "e\u0301", "Å", "日本", "ß", "ſ",
         "!", "...", "—", "\u00a0", "\u2003", "\u0085", "\x00", "😀", "👩‍👧", "한", "<|endoftext|>", "<|x|>", "[new]", "code"]
random.seed(1)
texts = ["", "One day", "It's o'clock, THEY'LL go", " \n  x", "a \n", "  \n\n  b  ", "12345678", "x  ", "   ", "end<|endoftext|>start", "\u212b and A\u030a", "!!\n\n?\r\n"]
texts += ["".join(random.choice(atoms) for _ in range(random.randint(1, 14))) for _ in range(120)]

def make(name, pre, norm=None, ignore=False):
    t = Tokenizer(models.BPE(ignore_merges=ignore))
    t.pre_tokenizer, t.decoder, t.post_processor = pre, decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    if norm: t.normalizer = norm
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=420, show_progress=False, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken("<|x|>", special=True, normalized=False)])
    t.add_tokens([AddedToken("[new]", normalized=True), AddedToken("    ", normalized=True), AddedToken("  ", normalized=True), AddedToken("\u212b", normalized=True), AddedToken("code", normalized=False)])
    t.save(f"{name}.tokenizer.json", pretty=False)
    json.dump([{"text": s, "ids": t.encode(s).ids, "decoded": t.decode(t.encode(s).ids), "pieces": [s[a:b] for _, (a, b) in pre.pre_tokenize_str(s)]} for s in texts], open(f"{name}.json", "w"), separators=(",", ":"))

split = lambda p: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
make("gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False))
make("llama", split(LLAMA), ignore=True)
make("qwen", split(QWEN), norm=normalizers.NFC())
