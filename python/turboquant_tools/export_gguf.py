"""GGUF file -> bundle. Needs numpy, gguf and onnx; holds one dequantized tensor at a time."""

import dataclasses
import hashlib
import pathlib

from turboquant_tools.bundle import (new_folder, write_decoder, write_json, write_manifest,
                                     write_settings)
from turboquant_tools.errors import ToolError
from turboquant_tools.gguf_decoder import GgufWeights, read_spec
from turboquant_tools.gguf_file import GgufFile
from turboquant_tools.progress import progress_bar
from turboquant_tools.tokenizer_json import special_tokens, tokenizer_json

# The rotary tables reach so far by default: 16 MiB of them at head_dim 64.
DEFAULT_POSITIONS = 32768


def export_gguf(path, folder, *, name=None, positions=None, replace=False, source=None):
    """Writes the bundle `folder` from the file `path`; the folder appears only when it is complete.
    name is the model's in config.json, by default the file's own; positions bounds the context, by
    default the model's, at most 32768."""
    path, folder = pathlib.Path(path), pathlib.Path(folder)
    with new_folder(folder, replace) as unfinished:
        file = GgufFile(path)
        spec = read_spec(file)
        spec = dataclasses.replace(spec, name=name or spec.name)
        positions = bounded_positions(spec, positions)
        tokenizer = tokenizer_json(file, spec.vocabulary)
        write_json(unfinished / "tokenizer.json", tokenizer, indent=None)
        _write_settings(unfinished, file, spec, positions)
        _write_decoder(unfinished, file, spec, positions)
        write_manifest(unfinished, {"file": path.name, "sha256": _sha256(path)} | (source or {}))
    return folder


def bounded_positions(spec, positions):
    """How many positions a bundle reaches: what is asked for, at most the model's context."""
    if positions is None:
        return min(spec.context, DEFAULT_POSITIONS)
    if not 1 <= positions <= spec.context:
        raise ToolError(f"--max-positions must be 1 to {spec.context}, the model's context, "
                        f"got {positions}")
    return positions


def _write_decoder(folder, file, spec, positions):
    weights = GgufWeights(file, spec)
    with progress_bar(len(spec.tensor_shapes()), "export", "tensors") as bar:

        def load(name):
            bar.update(1)
            return weights.load(name)

        write_decoder(folder, spec, load, positions)


def _write_settings(folder, file, spec, positions):
    texts = file.list_of("tokenizer.ggml.tokens", str)
    roles = special_tokens(file)
    ends = list(dict.fromkeys(roles[role] for role in ("eos", "eot") if role in roles))
    generation = {
        "bos_token_id": roles.get("bos"),
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "pad_token_id": roles.get("pad"),
    }
    tokens = {role: texts[number] for role, number in roles.items() if role != "eot"}
    write_settings(folder, spec, positions, generation, tokens,
                   file.text("tokenizer.chat_template", None))


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
