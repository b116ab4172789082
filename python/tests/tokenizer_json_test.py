"""The tokenizers that export-gguf writes, against ones made without it."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tiny_models import gguf_metadata, gguf_tensors, tiny_decoder, write_gguf
from turboquant_tools.errors import ToolError
from turboquant_tools.export_gguf import export_gguf

CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog doesn't mind; it's only 7 o'clock!",
    "In 2024 we've counted 1234567 foxes,  of which 99.5% WEREN'T brown.\n\n\tThey'd jumped...\r\n",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich — schön, ja?",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. 敏捷的棕色狐狸跳过懒狗。",
    "a =    8;\nb =    16;\nc =   5x + ½;\n" * 3,  # spaces before digits
    "def f(x):\n    return x**2  # squares\n\nclass A:\n        pass\n",
    "e\u0301 is é decomposed; ＡＢＣ are wide; 👩‍👩‍👧 is a family; \u00a0 is no space, nor \u3000.",
    "  leading and trailing  ", "", " ", "\n", "a", "<|begin|>hello<|end|> world",
]
SPECIAL = ["<|begin|>", "<|end|>"]

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern):
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


CUTS = {
    "gpt-2": byte_level(True),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                       byte_level(True)]),
    "qwen2": pre_tokenizers.Sequence([split(QWEN2), byte_level(False)]),
    "llama-bpe": pre_tokenizers.Sequence([split(QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")),
                                          byte_level(False)]),
}


def trained_byte_level(cut):
    """A tokenizer of Hugging Face's library, trained on the corpus."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC() if cut == "qwen2" else None
    tokenizer.pre_tokenizer = CUTS[cut]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_level_metadata(tokenizer, cut):
    content = json.loads(tokenizer.to_str())
    tokens = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in content["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


def exported_tokenizer(folder, metadata, **changes):
    metadata = metadata | changes
    decoder = tiny_decoder("llama", len(metadata["tokenizer.ggml.tokens"]))
    write_gguf(folder / "tiny.gguf", "llama", gguf_metadata(decoder, metadata),
               gguf_tensors(decoder))
    bundle = export_gguf(folder / "tiny.gguf", folder / "bundle")
    return tokenizers.Tokenizer.from_file(str(bundle / "tokenizer.json"))


@pytest.mark.parametrize("cut", CUTS)
def test_byte_level_equals_the_library(tmp_path, cut):
    expected = trained_byte_level(cut)
    actual = exported_tokenizer(tmp_path, byte_level_metadata(expected, cut),
                                **{"tokenizer.ggml.add_bos_token": False})
    for text in CORPUS:
        ids = expected.encode(text).ids
        assert actual.encode(text).ids == ids, text
        assert actual.decode(ids) == expected.decode(ids)


def test_begin_and_end_are_added_when_the_file_says_so(tmp_path):
    metadata = byte_level_metadata(trained_byte_level("llama-bpe"), "llama-bpe")
    usual = exported_tokenizer(tmp_path, metadata)  # llama-bpe has a beginning unless told not to
    bare = usual.encode("fox", add_special_tokens=False).ids
    assert usual.encode("fox").ids == [0, *bare]
    assert usual.encode("fox", "fox").ids == [0, *bare, 0, *bare]
    (tmp_path / "both").mkdir()
    both = exported_tokenizer(tmp_path / "both", metadata, **{"tokenizer.ggml.add_eos_token": True})
    assert both.encode("fox").ids == [0, *bare, 1]


# SentencePiece.

LEFT_TO_BYTES = "敏捷👩é"
PIECES = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]


def sentence_piece_metadata(adds_space):
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator([text for text in CORPUS if "<" not in text], trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    made = ["".join(merge) for merge in learned["merges"]]
    letters = sorted(set(learned["vocab"]) - set(made) - set(LEFT_TO_BYTES))
    made = [token for token in made if not set(token) & set(LEFT_TO_BYTES)]
    tokens = PIECES + made + letters
    scores = [0.0] * len(PIECES) + [-float(rank) for rank in range(len(made) + len(letters))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - len(PIECES)),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": adds_space,
    }


def sentence_piece_ids(metadata, text):
    """SentencePiece's definition: the best scored pair of neighbours becomes one, again and again,
    the leftmost on a tie; what is no token in the end is spelled in bytes."""
    tokens = metadata["tokenizer.ggml.tokens"]
    rank = {token: number for number, token in enumerate(tokens) if number >= len(PIECES)}
    marked = text.replace(" ", "\u2581")
    if metadata["tokenizer.ggml.add_space_prefix"] and text:
        marked = "\u2581" + marked
    parts = list(marked)
    while True:
        pairs = [(rank[left + right], place) for place, (left, right) in
                 enumerate(zip(parts, parts[1:])) if left + right in rank]
        if not pairs:
            break
        place = min(pairs)[1]
        parts[place:place + 2] = [parts[place] + parts[place + 1]]
    ids = [1]
    for part in parts:
        ids += [rank[part]] if part in rank else [3 + byte for byte in part.encode()]
    return ids


@pytest.mark.parametrize("adds_space", [True, False])
def test_sentence_piece_equals_its_definition(tmp_path, adds_space):
    metadata = sentence_piece_metadata(adds_space)
    tokenizer = exported_tokenizer(tmp_path, metadata)
    for text in CORPUS[:-1]:
        ids = sentence_piece_ids(metadata, text)
        assert tokenizer.encode(text).ids == ids, text
        assert tokenizer.decode(ids) == text
    assert tokenizer.encode("</s>").ids == [1, 2]


@pytest.mark.parametrize("changes, message", [
    ({"tokenizer.ggml.scores": [1.0, 2.0]}, "2 scores for"),
    ({"tokenizer.ggml.tokens": ["a"] * 259}, "258 tokens are there twice"),
])
def test_broken_vocabularies_are_refused(tmp_path, changes, message):
    metadata = sentence_piece_metadata(True)
    if "tokenizer.ggml.tokens" in changes:
        changes |= {"tokenizer.ggml.token_type": [1] * 259}
    with pytest.raises(ToolError, match=message):
        exported_tokenizer(tmp_path, metadata, **changes)
