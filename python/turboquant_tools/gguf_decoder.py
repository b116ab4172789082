"""The decoders in GGUF files: families llama, qwen2, qwen3 and gemma3."""

import numpy as np

from turboquant_tools.decoder_spec import LINEARS, DecoderSpec
from turboquant_tools.errors import ToolError
from turboquant_tools.rope import Rope, scaling_of_factors

# Family -> (model_type and class of config.json).
FAMILIES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
}

# Of Gemma 3, and not in its metadata: every sixth layer sees all tokens, the others turn with a
# theta of their own; the model of 62 layers scales its queries by another width.
GEMMA3_PATTERN = 6
GEMMA3_LOCAL_THETA = 10000.0
GEMMA3_LAYERS_WITH_OWN_SCALE = 62

ROPE_FACTORS = "rope_freqs.weight"

_TOP_NAMES = {
    "embedding.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "head.weight": "output.weight",
}
_LAYER_NAMES = {
    "attention_norm": "attn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "post_attention_norm": "post_attention_norm",
    "mlp_norm": "ffn_norm",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "post_mlp_norm": "post_ffw_norm",
}


def gguf_name(name):
    """The name that GGUF has for one of ours: "layers.3.q_proj.bias" is "blk.3.attn_q.bias"."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, layer, part, kind = name.split(".")
    return f"blk.{layer}.{_LAYER_NAMES[part]}.{kind}"


def read_spec(file):
    """The decoder that a GgufFile describes. Its tensors are checked: all that the family needs, in
    the right shapes, and none beside them."""
    if file.architecture not in FAMILIES:
        raise ToolError(f"{file.path} is of architecture '{file.architecture}'; "
                        f"supported are {', '.join(FAMILIES)}")
    spec = _spec_of(file)
    _check_tensors(file, spec)
    return spec


def _spec_of(file):
    is_gemma = file.architecture == "gemma3"
    model_type, architecture = FAMILIES[file.architecture]
    hidden = file.integer("{}.embedding_length")
    query_heads = file.integer("{}.attention.head_count")
    head_dim = file.integer("{}.attention.key_length", hidden // query_heads)
    layers = file.integer("{}.block_count")
    if layers > len(file.tensor_names()):
        raise ToolError(f"{file.path}: metadata says {layers} layers, "
                        f"but there are only {len(file.tensor_names())} tensors")
    spec = DecoderSpec(
        model_type=model_type,
        architecture=architecture,
        name=file.text("general.name", file.path.stem),
        layers=layers,
        hidden=hidden,
        query_heads=query_heads,
        kv_heads=file.integer("{}.attention.head_count_kv", query_heads),
        head_dim=head_dim,
        mlp_width=file.integer("{}.feed_forward_length"),
        vocabulary=file.shape("token_embd.weight")[0],
        context=file.integer("{}.context_length"),
        epsilon=file.real("{}.attention.layer_norm_rms_epsilon"),
        rope=_read_rope(file, head_dim),
        activation="gelu_tanh" if is_gemma else "silu",
        biases=_read_biases(file),
        query_key_norms=file.architecture in ("qwen3", "gemma3"),
        sandwich_norms=is_gemma,
        tied_head="output.weight" not in file,
        **(_gemma_parts(file, layers, hidden, query_heads, head_dim) if is_gemma else {}),
    )
    _check_sizes(file, spec)
    return spec


def _gemma_parts(file, layers, hidden, query_heads, head_dim):
    scaled_width = hidden // query_heads if layers == GEMMA3_LAYERS_WITH_OWN_SCALE else head_dim
    return {
        "local_rope": Rope(GEMMA3_LOCAL_THETA, head_dim),
        "window": file.integer("{}.attention.sliding_window"),
        "local_layers": frozenset(layer for layer in range(layers)
                                  if (layer + 1) % GEMMA3_PATTERN != 0),
        "embedding_scale": hidden**0.5,
        "query_scale": scaled_width**-0.5,
    }


def _read_biases(file):
    found = {name for name in LINEARS if gguf_name(f"layers.0.{name}.bias") in file}
    if file.architecture == "qwen2":
        found |= {"q_proj", "k_proj", "v_proj"}
    return frozenset(found)


def _read_rope(file, head_dim):
    theta = file.real("{}.rope.freq_base", 10000.0)
    rotary_dim = file.integer("{}.rope.dimension_count", head_dim, least=2)
    if rotary_dim % 2 != 0 or rotary_dim > head_dim:
        raise ToolError(f"{file.path}: rotary embedding of {rotary_dim} dims, "
                        f"must be even and at most head_dim {head_dim}")
    if file.architecture == "llama" and rotary_dim != head_dim:
        raise ToolError(f"{file.path}: rotary embedding of {rotary_dim} of {head_dim} dims is not "
                        f"supported in a llama")
    kind = file.text("{}.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise ToolError(f"{file.path}: rotary embedding is scaled by '{kind}'; "
                        f"supported are linear and the factors of Llama 3")
    if ROPE_FACTORS in file:
        scaling = scaling_of_factors(file.weight(ROPE_FACTORS), theta, rotary_dim)
    elif kind == "linear":
        scaling = {"rope_type": "linear", "factor": file.real("{}.rope.scaling.factor")}
    else:
        scaling = None
    return Rope(theta, rotary_dim, scaling)


def _check_sizes(file, spec):
    if spec.query_heads % spec.kv_heads != 0:
        raise ToolError(f"{file.path}: {spec.query_heads} query heads are no multiple of "
                        f"{spec.kv_heads} KV heads")
    if file.integer("{}.attention.value_length", spec.head_dim) != spec.head_dim:
        raise ToolError(f"{file.path}: values of another dim than keys are not supported")
    if spec.window is None and file.integer("{}.attention.sliding_window", None) is not None:
        raise ToolError(f"{file.path}: a sliding window in a {file.architecture} is not supported")


def _check_tensors(file, spec):
    expected = {gguf_name(name): shape for name, shape in spec.tensor_shapes().items()}
    for name, shape in expected.items():
        if file.shape(name) != shape:
            raise ToolError(f"{file.path}: tensor '{name}' has shape {list(file.shape(name))}, "
                            f"must be {list(shape)}")
    unknown = sorted(file.tensor_names() - expected.keys() - {ROPE_FACTORS})
    if unknown:
        raise ToolError(f"{file.path}: {len(unknown)} tensors are of no use to a "
                        f"{file.architecture}, so it is another model: {', '.join(unknown[:4])}")


class GgufWeights:
    """The weights of a GgufFile by our names, in the order of coordinates that Hugging Face has."""

    def __init__(self, file, spec):
        self._file = file
        self._spec = spec

    def load(self, name):
        weight = self._file.weight(gguf_name(name))
        part = name.split(".")[-2]
        if self._file.architecture == "llama" and part in ("q_proj", "k_proj"):
            return _half_pairing(weight, self._spec.head_dim)
        return weight


def _half_pairing(rows, head_dim):
    """A llama in GGUF turns coordinate 2 i with 2 i + 1; back to i with i + head_dim / 2."""
    pairs = rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))
