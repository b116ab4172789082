"""Decoders as Hugging Face's transformers loads them: what config and weights say."""

import numpy as np

from turboquant_tools.decoder_spec import LINEARS, DecoderSpec
from turboquant_tools.errors import ToolError
from turboquant_tools.rope import Rope, checked_scaling

_ROTARY = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
FAMILIES = (*_ROTARY, "gpt2")

_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}

_TOP_NAMES = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_LAYER_NAMES = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
                "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
_LAYER_NAMES |= {name: f"self_attn.{name}" for name in LINEARS[:4]}
_LAYER_NAMES |= {name: f"mlp.{name}" for name in LINEARS[4:]}
_SANDWICH_NAMES = {"post_attention_norm": "post_attention_layernorm",
                   "mlp_norm": "pre_feedforward_layernorm",
                   "post_mlp_norm": "post_feedforward_layernorm"}

_GPT2_TOP_NAMES = {"embedding": "transformer.wte", "positions": "transformer.wpe",
                   "norm": "transformer.ln_f", "head": "lm_head"}
_GPT2_LAYER_NAMES = {"attention_norm": "ln_1", "mlp_norm": "ln_2", "q_proj": "attn.c_attn",
                     "k_proj": "attn.c_attn", "v_proj": "attn.c_attn", "o_proj": "attn.c_proj",
                     "up_proj": "mlp.c_fc", "down_proj": "mlp.c_proj"}
_GPT2_FUSED = ("q_proj", "k_proj", "v_proj")


def read_spec(model, name):
    """The decoder that a model of transformers is."""
    config = model.config
    if config.model_type not in FAMILIES:
        raise ToolError(f"{name} is of type '{config.model_type}'; "
                        f"supported are {', '.join(FAMILIES)}")
    parameters = dict(model.named_parameters())
    spec = (_gpt2_spec if config.model_type == "gpt2" else _rotary_spec)(config, parameters, name)
    _check_parameters(spec, parameters, name)
    return spec


def read_ropes(config):
    """Rope of the global layers, that of the local ones if it differs, and which layers are local.
    Rope is None for a model with learned positions."""
    if config.model_type == "gpt2":
        return None, None, frozenset()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        has_window = getattr(config, "sliding_window", None) is not None
        kinds = ["sliding_attention" if has_window else "full_attention"] * config.num_hidden_layers
    if unknown := set(kinds) - {"sliding_attention", "full_attention"}:
        raise ToolError(f"layers of type '{sorted(unknown)[0]}' are not supported")
    local = frozenset(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")
    parameters = config.rope_parameters
    if "full_attention" not in parameters:
        return _rope(config, parameters), None, local
    return (_rope(config, parameters["full_attention"]),
            _rope(config, parameters["sliding_attention"]), local)


def _rope(config, parameters):
    factor = parameters.get("partial_rotary_factor") or 1.0
    if factor != 1.0:
        raise ToolError(f"a rotary embedding of {factor:g} of the head is not supported in a "
                        f"{config.model_type}")
    scaling = {key: content for key, content in parameters.items() if key != "rope_theta"}
    return Rope(float(parameters["rope_theta"]), _head_dim(config), checked_scaling(scaling))


def _head_dim(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _rotary_spec(config, parameters, name):
    is_gemma = config.model_type == "gemma3_text"
    for switch in ("final_logit_softcapping", "attn_logit_softcapping",
                   "use_bidirectional_attention"):
        if getattr(config, switch, None):
            raise ToolError(f"{name}: {switch} is not supported")
    rope, local_rope, local_layers = read_ropes(config)
    biased = [part for part in LINEARS
              if f"model.layers.0.{_LAYER_NAMES[part]}.bias" in parameters]
    return DecoderSpec(
        model_type=config.model_type,
        architecture=(config.architectures or ["unknown"])[0],
        name=name,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        query_heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=_head_dim(config),
        mlp_width=config.intermediate_size,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        epsilon=config.rms_norm_eps,
        rope=rope,
        local_rope=local_rope,
        window=config.sliding_window if local_layers else None,
        local_layers=local_layers,
        activation=_activation(config.hidden_activation if is_gemma else config.hidden_act),
        biases=frozenset(biased),
        query_key_norms="model.layers.0.self_attn.q_norm.weight" in parameters,
        sandwich_norms=is_gemma,
        embedding_scale=config.hidden_size**0.5 if is_gemma else None,
        query_scale=config.query_pre_attn_scalar**-0.5 if is_gemma else None,
        tied_head=config.tie_word_embeddings,
    )


def _gpt2_spec(config, _, name):
    if config.scale_attn_by_inverse_layer_idx or config.add_cross_attention:
        raise ToolError(f"{name}: scale_attn_by_inverse_layer_idx and add_cross_attention are not "
                        f"supported")
    return DecoderSpec(
        model_type="gpt2",
        architecture="GPT2LMHeadModel",
        name=name,
        layers=config.n_layer,
        hidden=config.n_embd,
        query_heads=config.n_head,
        kv_heads=config.n_head,
        head_dim=config.n_embd // config.n_head,
        mlp_width=config.n_inner or 4 * config.n_embd,
        vocabulary=config.vocab_size,
        context=config.n_positions,
        epsilon=config.layer_norm_epsilon,
        rope=None,
        norm="layer",
        activation=_activation(config.activation_function),
        gated_mlp=False,
        biases=frozenset(LINEARS) - {"gate_proj"},
        query_scale=None if config.scale_attn_weights else 1.0,
        tied_head=config.tie_word_embeddings,
    )


def _activation(name):
    if name not in _ACTIVATIONS:
        raise ToolError(f"activation '{name}' is not supported; "
                        f"there are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _parameter_name(spec, name):
    *prefix, part, kind = name.split(".")
    is_gpt2 = spec.model_type == "gpt2"
    if not prefix:
        return f"{(_GPT2_TOP_NAMES if is_gpt2 else _TOP_NAMES)[part]}.{kind}"
    names = _GPT2_LAYER_NAMES if is_gpt2 else _LAYER_NAMES
    if spec.sandwich_norms:
        names = names | _SANDWICH_NAMES
    return f"{'transformer.h' if is_gpt2 else 'model.layers'}.{prefix[1]}.{names[part]}.{kind}"


def _check_parameters(spec, parameters, name):
    """A parameter that the spec has no place for would be left out in silence."""
    expected = {_parameter_name(spec, part) for part in spec.tensor_shapes()}
    if missing := sorted(expected - parameters.keys()):
        raise ToolError(f"{name}: parameter '{missing[0]}' is missing")
    if unknown := sorted(parameters.keys() - expected):
        raise ToolError(f"{name}: {len(unknown)} parameters have no place in a {spec.model_type}: "
                        f"{', '.join(unknown[:4])}")


class HuggingFaceWeights:
    """The weights of a model of transformers by our names, one at a time as float32."""

    def __init__(self, model, spec):
        self._parameters = dict(model.named_parameters())
        self._spec = spec
        self._shapes = spec.tensor_shapes()

    def load(self, name):
        parameter = self._parameters[_parameter_name(self._spec, name)]
        weight = parameter.detach().to("cpu").float().numpy()
        part = name.split(".")[-2]
        if self._spec.model_type == "gpt2":
            weight = self._of_gpt2(weight, name, part)
        elif self._spec.model_type == "gemma3_text" and part.endswith("norm"):
            weight = weight + np.float32(1.0)  # Gemma keeps what its norms differ from 1 by
        if weight.shape != self._shapes[name]:
            raise ToolError(f"{self._spec.name}: '{name}' has shape {list(weight.shape)}, "
                            f"must be {list(self._shapes[name])}")
        return weight

    def _of_gpt2(self, weight, name, part):
        """GPT-2 keeps linear maps as [in, out], and those of attention in one."""
        if part in _GPT2_FUSED:
            weight = np.split(weight, 3, axis=-1)[_GPT2_FUSED.index(part)]
        is_linear = part in LINEARS and name.endswith(".weight")
        return weight.T if is_linear else weight
