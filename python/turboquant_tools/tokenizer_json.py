"""tokenizer.json from the vocabulary of a GGUF file: byte-level BPE, and SentencePiece's BPE."""

from turboquant_tools.errors import ToolError

CONTROL, USER_DEFINED, NORMAL = 3, 4, 1
SPACE = "\u2581"  # SentencePiece's mark

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tokenizer_json(file, vocabulary):
    """The content of tokenizer.json for a GgufFile whose embedding has `vocabulary` rows."""
    tokens = file.list_of("tokenizer.ggml.tokens", str)
    types = file.list_of("tokenizer.ggml.token_type", int, [NORMAL] * len(tokens))
    ids = {token: number for number, token in enumerate(tokens)}
    if len(tokens) != vocabulary or len(types) != vocabulary:
        raise ToolError(f"{file.path}: {len(tokens)} tokens of {len(types)} types for an embedding "
                        f"of {vocabulary} rows")
    if len(ids) != len(tokens):
        raise ToolError(f"{file.path}: {len(tokens) - len(ids)} tokens are there twice")
    kind = file.text("tokenizer.ggml.model")
    if kind == "gpt2":
        parts = _byte_level(file, ids)
    elif kind == "llama":
        parts = _sentence_piece(file, ids, types)
    else:
        raise ToolError(f"{file.path}: tokenizer of kind '{kind}'; supported are gpt2 and llama")
    begin_is_usual = kind == "llama" or file.text("tokenizer.ggml.pre", "") == "llama-bpe"
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(tokens, types),
        "post_processor": _post_processor(file, tokens, begin_is_usual),
        **parts,
    }


def special_tokens(file):
    """Role -> id of bos, eos, pad and unk; those that the file does not name are absent."""
    size = len(file.list_of("tokenizer.ggml.tokens", str))
    found = {}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"),
                      ("eot", "eot")):
        number = file.integer(f"tokenizer.ggml.{key}_token_id", None, least=0)
        if number is None:
            continue
        if number >= size:
            raise ToolError(f"{file.path}: metadata 'tokenizer.ggml.{key}_token_id' is {number}, "
                            f"but there are {size} tokens")
        found[role] = number
    return found


def _added_tokens(tokens, types):
    return [{
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": kind == CONTROL,
    } for number, (token, kind) in enumerate(zip(tokens, types)) if kind in (CONTROL, USER_DEFINED)]


def _post_processor(file, tokens, begin_is_usual):
    """Puts the tokens around a text that the model expects there."""
    roles = special_tokens(file)
    begin = file.flag("tokenizer.ggml.add_bos_token", begin_is_usual) and "bos" in roles
    end = file.flag("tokenizer.ggml.add_eos_token", False) and "eos" in roles
    if not begin and not end:
        return None
    around = {role: tokens[roles[role]] for role, used in (("bos", begin), ("eos", end)) if used}

    def template(text, type_id):
        parts = [{"Sequence": {"id": text, "type_id": type_id}}]
        if begin:
            parts.insert(0, {"SpecialToken": {"id": around["bos"], "type_id": type_id}})
        if end:
            parts.append({"SpecialToken": {"id": around["eos"], "type_id": type_id}})
        return parts

    return {
        "type": "TemplateProcessing",
        "single": template("A", 0),
        "pair": template("A", 0) + template("B", 1),
        "special_tokens": {token: {"id": token, "ids": [roles[role]], "tokens": [token]}
                           for role, token in around.items()},
    }


def _bpe(ids, merges, **options):
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **options,
        "vocab": ids,
        "merges": merges,
    }


# Byte-level BPE.


def _byte_level_part(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": use_regex}


def _split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


# How texts are cut into words, by GGUF's name for it -> normalizer, pre-tokenizers, whether a word
# that is a token needs no merges.
_CUTS = {
    "gpt-2": (None, [_byte_level_part(True)], False),
    "smollm": (None, [{"type": "Digits", "individual_digits": True}, _byte_level_part(True)],
               False),
    "llama-bpe": (None, [_split("|".join([_CONTRACTIONS, _WORDS, r"\p{N}{1,3}", _REST])),
                         _byte_level_part(False)], True),
    "qwen2": ({"type": "NFC"}, [_split("|".join([_CONTRACTIONS, _WORDS, r"\p{N}", _REST])),
                                _byte_level_part(False)], False),
}


def _byte_level(file, ids):
    name = file.text("tokenizer.ggml.pre")
    if name not in _CUTS:
        raise ToolError(f"{file.path}: texts are cut into words by '{name}'; "
                        f"supported are {', '.join(_CUTS)}")
    normalizer, cuts, ignore_merges = _CUTS[name]
    merges = [merge.split(" ") for merge in file.list_of("tokenizer.ggml.merges", str)]
    for merge in merges:
        if len(merge) != 2 or not {*merge, "".join(merge)} <= ids.keys():
            raise ToolError(f"{file.path}: merge '{' '.join(merge)}' is not of two tokens to one")
    return {
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts} if len(cuts) > 1 else cuts[0],
        "decoder": _byte_level_part(True),
        "model": _bpe(ids, merges, ignore_merges=ignore_merges),
    }


# SentencePiece's BPE.


def _sentence_piece(file, ids, types):
    adds_space = file.flag("tokenizer.ggml.add_space_prefix", True)
    to_marks = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    to_spaces = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    decoders = [to_spaces, {"type": "ByteFallback"}, {"type": "Fuse"}]
    normalizer, cut = to_marks, {"type": "Split", "pattern": {"String": " "},
                                 "behavior": "MergedWithPrevious", "invert": False}
    if adds_space:
        normalizer = {"type": "Sequence",
                      "normalizers": [{"type": "Prepend", "prepend": SPACE}, to_marks]}
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        cut = None
    roles = special_tokens(file)
    unknown = next((token for token, number in ids.items() if number == roles.get("unk", 0)), None)
    return {
        "normalizer": normalizer,
        "pre_tokenizer": cut,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(ids, _merges_of_scores(file, ids, types), unk_token=unknown, fuse_unk=True,
                      byte_fallback=True),
    }


def _merges_of_scores(file, ids, types):
    """Every way to make a token of two others, the better scored token first."""
    scores = file.list_of("tokenizer.ggml.scores", float)
    if len(scores) != len(ids):
        raise ToolError(f"{file.path}: {len(scores)} scores for {len(ids)} tokens")
    merges = []
    for token, number in ids.items():
        if types[number] != NORMAL:
            continue
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        halves = [pair for pair in halves if pair[0] in ids and pair[1] in ids]
        halves.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges += [(scores[number], pair) for pair in halves]
    merges.sort(key=lambda merge: (merge[0], len(merge[1][0]), len(merge[1][1])), reverse=True)
    return [list(pair) for _, pair in merges]
