"""Keys, values and queries of chosen layers and heads over a text -> trace files.

A source is a HuggingFaceSource or a BundleSource. A trace holds samples of one length, so each
length has a file of its own.
"""

import json
import pathlib
from dataclasses import dataclass

import numpy as np

from turboquant_tools.errors import ToolError
from turboquant_tools.progress import progress_bar
from turboquant_tools.trace_file import TraceFile

_PROMPT_KEYS = ("prompt", "text", "input", "question")


@dataclass(frozen=True)
class KvChoice:
    """What of a model goes to the traces. Heads are KV heads; each has the queries of all query
    heads that share it, or of the first one only."""

    layers: tuple = (0,)
    heads: tuple = (0,)
    rope: str = "post"  # or "pre": before the rotary embedding
    query_stride: int = 64
    first_query_head_only: bool = False


def read_prompts(path):
    """The prompts of a .txt file, one a line, or of a .jsonl file with prompt, text, input or
    question."""
    path = pathlib.Path(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix != ".jsonl":
        return [line for line in lines if line.strip()]
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            prompts.append(next(record[key] for key in _PROMPT_KEYS if key in record))
        except (ValueError, TypeError, StopIteration):
            raise ToolError(f"{path}:{number} is no JSON object with one of "
                            f"{', '.join(_PROMPT_KEYS)}") from None
    return prompts


def samples_of_text(source, text, tokens, count):
    """At most `count` consecutive pieces of `tokens` tokens each."""
    ids = source.encode(text)
    if len(ids) < tokens:
        raise ToolError(f"the text has {len(ids)} tokens, fewer than one sample of {tokens}")
    return [ids[begin:begin + tokens] for begin in range(0, len(ids) - tokens + 1, tokens)][:count]


def samples_of_prompts(source, prompts, tokens, count):
    """The tokens of each of at most `count` prompts, cut at `tokens`."""
    samples = [source.encode(prompt)[:tokens] for prompt in prompts[:count]]
    return [ids for ids in samples if ids]


def export_kv(source, samples, path, choice, *, suite=""):
    """Writes the traces; returns their paths. With samples of several lengths path.safetensors
    becomes path-<tokens>.safetensors for each."""
    path = pathlib.Path(path)
    _check_choice(source, samples, choice)
    metadata = _metadata(source, choice, suite)
    by_length = {}
    for ids in samples:
        by_length.setdefault(len(ids), []).append(ids)
    written = []
    with progress_bar(len(samples), "export", "samples") as bar:
        for tokens, group in sorted(by_length.items()):
            target = path if len(by_length) == 1 else path.with_stem(f"{path.stem}-{tokens}")
            _write_trace(source, group, target, choice, metadata, bar)
            written.append(target)
    return written


def _check_choice(source, samples, choice):
    if not samples:
        raise ToolError("there are no tokens to run")
    for what, chosen, size in (("layer", choice.layers, source.layers),
                               ("KV head", choice.heads, source.kv_heads)):
        if not chosen or any(not 0 <= number < size for number in chosen):
            raise ToolError(f"{what}s must be 0 to {size - 1}, got {list(chosen)}")
    longest = max(len(ids) for ids in samples)
    if longest > source.context:
        raise ToolError(f"a sample has {longest} tokens, the model's context is {source.context}")
    if choice.query_stride < 1:
        raise ToolError(f"--query-stride must be 1 or more, got {choice.query_stride}")


def _metadata(source, choice, suite):
    shared = {"model": source.name, "benchmark": "kv-trace", "suite": suite,
              "note": f"keys and queries {choice.rope}-RoPE, every {choice.query_stride}th query"}
    if not source.knows_rope():
        if choice.rope == "pre":
            raise ToolError(f"the rotary embedding of {source.name} is not known here, "
                            f"so only --rope post can be exported")
        return shared
    ropes = {str(source.rope_of(layer)): source.rope_of(layer) for layer in choice.layers}
    if len(ropes) > 1:
        raise ToolError(f"layers {list(choice.layers)} have {len(ropes)} different rotary "
                        f"embeddings, but a trace declares one: choose layers of one kind")
    rope = next(iter(ropes.values()))
    if rope is None:
        if choice.rope == "pre":
            raise ToolError(f"{source.name} has no rotary embedding, so there is no --rope pre")
        return shared | {"note": f"no rotary embedding, every {choice.query_stride}th query"}
    if rope.scaling is not None:  # a trace can declare a plain one only
        return shared | {"note": f"{shared['note']}, RoPE scaled by {rope.scaling['rope_type']}"}
    return shared | {"rope": choice.rope, "rope_theta": f"{rope.theta:.17g}",
                     "rope_pairing": "half", "rotary_dim": str(rope.rotary_dim),
                     "first_position": "0"}


def _write_trace(source, group, path, choice, metadata, bar):
    """One file of samples of one length."""
    tokens = len(group[0])
    asked = np.unique(np.append(np.arange(0, tokens, choice.query_stride), tokens - 1))
    shared_by = source.query_heads // source.kv_heads
    taken = 1 if choice.first_query_head_only else shared_by
    heads = [(layer, head) for layer in choice.layers for head in choice.heads]
    with TraceFile(path, heads, len(group), np.tile(asked, taken), tokens, source.head_dim,
                   metadata) as trace:
        for sample, ids in enumerate(group):

            def put(layer, keys, values, queries, sample=sample):
                if choice.rope == "pre":
                    keys, queries = (_turned_back(source.rope_of(layer), rows)
                                     for rows in (keys, queries))
                for head in choice.heads:
                    first = head * shared_by
                    rows = queries[first:first + taken, asked].reshape(-1, source.head_dim)
                    trace.put(sample, layer, head, keys[head], values[head], rows)

            source.capture(ids, set(choice.layers), put)
            bar.update(1)


def _turned_back(rope, rows):
    """Rows [heads, tokens, head_dim] of positions 0, 1, ... as they were before the embedding."""
    cosines, sines = rope.tables(rows.shape[1])
    half = rope.rotary_dim // 2
    first, second, rest = rows[..., :half], rows[..., half:2 * half], rows[..., 2 * half:]
    turned = (first * cosines + second * sines, second * cosines - first * sines)
    return np.concatenate([*turned, rest], axis=-1)
