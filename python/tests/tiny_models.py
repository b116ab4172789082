"""Random decoders of a few thousand weights, and the GGUF files that converters would make of them.

Weights are in the order of Hugging Face's classes: linear maps [out, in], rotary coordinate i
turning with i + head_dim / 2.
"""

import math
from dataclasses import dataclass, field

import gguf
import numpy as np

HIDDEN, QUERY_HEADS, KV_HEADS, MLP_WIDTH, CONTEXT = 32, 4, 2, 64, 48
EPSILON = 1e-5
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GGUF_NAMES = {"attention_norm": "attn_norm", "q_proj": "attn_q", "k_proj": "attn_k",
              "v_proj": "attn_v", "o_proj": "attn_output", "q_norm": "attn_q_norm",
              "k_norm": "attn_k_norm", "post_attention_norm": "post_attention_norm",
              "mlp_norm": "ffn_norm", "gate_proj": "ffn_gate", "up_proj": "ffn_up",
              "down_proj": "ffn_down", "post_mlp_norm": "post_ffw_norm"}


@dataclass
class TinyDecoder:
    family: str
    layers: int
    head_dim: int
    vocabulary: int
    theta: float
    tied: bool = True
    window: int | None = None
    theta_local: float | None = None
    frequency_divisors: np.ndarray | None = None  # what scaling makes of the global frequencies
    scaling_metadata: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)

    def is_local(self, layer):
        return self.window is not None and (layer + 1) % 6 != 0


def tiny_decoder(family, vocabulary, seed=7, **changes):
    shape = {"layers": 2, "head_dim": HIDDEN // QUERY_HEADS, "theta": 10000.0}
    if family == "gemma3":  # seven layers, so that one of them is global; a head_dim of its own
        shape = {"layers": 7, "head_dim": 16, "theta": 1e6, "window": 4, "theta_local": 10000.0}
    decoder = TinyDecoder(family=family, vocabulary=vocabulary, **(shape | changes))
    random = np.random.default_rng(seed)

    def linear(out, width):
        return (random.standard_normal((out, width)) / math.sqrt(width)).astype(np.float32)

    def vector(size, mean):
        return (mean + 0.2 * random.standard_normal(size)).astype(np.float32)

    weights = decoder.weights
    weights["embedding.weight"] = linear(vocabulary, HIDDEN)
    for layer in range(decoder.layers):
        for name, content in _layer_weights(decoder, linear, vector):
            weights[f"layers.{layer}.{name}"] = content
    weights["norm.weight"] = vector(HIDDEN, 1.0)
    if not decoder.tied:
        weights["head.weight"] = linear(vocabulary, HIDDEN)
    return decoder


def _layer_weights(decoder, linear, vector):
    query_width, kv_width = QUERY_HEADS * decoder.head_dim, KV_HEADS * decoder.head_dim
    shapes = {"q_proj": (query_width, HIDDEN), "k_proj": (kv_width, HIDDEN),
              "v_proj": (kv_width, HIDDEN), "o_proj": (HIDDEN, query_width),
              "gate_proj": (MLP_WIDTH, HIDDEN), "up_proj": (MLP_WIDTH, HIDDEN),
              "down_proj": (HIDDEN, MLP_WIDTH)}
    for name, shape in shapes.items():
        yield f"{name}.weight", linear(*shape)
    if decoder.family == "qwen2":
        for name in ("q_proj", "k_proj", "v_proj"):
            yield f"{name}.bias", vector(shapes[name][0], 0.5)
    norms = {"attention_norm": HIDDEN, "mlp_norm": HIDDEN}
    if decoder.family in ("qwen3", "gemma3"):
        norms |= {"q_norm": decoder.head_dim, "k_norm": decoder.head_dim}
    if decoder.family == "gemma3":
        norms |= {"post_attention_norm": HIDDEN, "post_mlp_norm": HIDDEN}
    for name, size in norms.items():
        yield f"{name}.weight", vector(size, 1.0)


def gguf_tensors(decoder):
    """GGUF's name -> array, as converters write them."""
    tensors = {}
    for name, weight in decoder.weights.items():
        part = name.split(".")[-2]
        if name.startswith("layers."):
            _, layer, part, kind = name.split(".")
            if decoder.family == "llama" and part in ("q_proj", "k_proj"):
                weight = interleaved(weight, decoder.head_dim)
            tensors[f"blk.{layer}.{GGUF_NAMES[part]}.{kind}"] = weight
        else:
            top = {"embedding": "token_embd", "norm": "output_norm", "head": "output"}[part]
            tensors[f"{top}.weight"] = weight
    return tensors


def interleaved(weight, head_dim):
    """Row i and row i + head_dim / 2 of a head become its rows 2 i and 2 i + 1."""
    heads = weight.shape[0] // head_dim
    order = [head * head_dim + half * head_dim // 2 + i
             for head in range(heads) for i in range(head_dim // 2) for half in (0, 1)]
    return np.ascontiguousarray(weight[order])


def gguf_metadata(decoder, vocabulary_metadata):
    """Key -> value, "{}" standing for the family."""
    metadata = {
        "general.name": f"tiny {decoder.family}",
        "{}.block_count": decoder.layers,
        "{}.context_length": CONTEXT,
        "{}.embedding_length": HIDDEN,
        "{}.feed_forward_length": MLP_WIDTH,
        "{}.attention.head_count": QUERY_HEADS,
        "{}.attention.head_count_kv": KV_HEADS,
        "{}.attention.layer_norm_rms_epsilon": EPSILON,
        "{}.rope.freq_base": decoder.theta,
    }
    if decoder.head_dim != HIDDEN // QUERY_HEADS:
        metadata["{}.attention.key_length"] = decoder.head_dim
        metadata["{}.attention.value_length"] = decoder.head_dim
    if decoder.window is not None:
        metadata["{}.attention.sliding_window"] = decoder.window
    return metadata | decoder.scaling_metadata | vocabulary_metadata


def write_gguf(path, family, metadata, tensors, quantized=None):
    """quantized: a gguf.GGMLQuantizationType for every matrix."""
    writer = gguf.GGUFWriter(path, family)
    for key, content in metadata.items():
        _add(writer, key.replace("{}", family), content)
    for name, tensor in tensors.items():
        if quantized is not None and tensor.ndim == 2:
            packed = gguf.quants.quantize(tensor, quantized)
            writer.add_tensor(name, packed, raw_dtype=quantized)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer, key, content):
    if isinstance(content, bool):
        writer.add_bool(key, content)
    elif isinstance(content, int):
        writer.add_uint32(key, content)
    elif isinstance(content, float):
        writer.add_float32(key, content)
    elif isinstance(content, str):
        writer.add_string(key, content)
    else:
        writer.add_array(key, content)


def byte_vocabulary():
    """The smallest byte-level vocabulary: 256 bytes, no merges, two control tokens."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    characters = {byte: chr(byte) for byte in visible}
    characters |= {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    tokens = [characters[byte] for byte in range(256)] + ["<|begin|>", "<|end|>", "ab"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 256 + [3, 3, 1],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 257,
    }


def write_tiny(path, decoder, quantized=None):
    """The GGUF file of a tiny decoder with the byte vocabulary."""
    metadata = gguf_metadata(decoder, byte_vocabulary())
    return write_gguf(path, decoder.family, metadata, gguf_tensors(decoder), quantized)
