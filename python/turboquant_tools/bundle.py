"""A bundle: the folder that holds a decoder, its tokenizer and its configuration."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile

import onnx

from turboquant_tools import __version__
from turboquant_tools.decoder_graph import build_decoder
from turboquant_tools.errors import ToolError

MODEL, WEIGHTS = "model.onnx", "model.onnx_data"
MANIFEST = "turboquant_bundle.json"
BUNDLE_VERSION = 1  # rises when bundles of older exporters should be made anew


@contextlib.contextmanager
def new_folder(folder, replace):
    """An empty folder that takes the name `folder` when the block ends, and is gone if it fails."""
    folder = pathlib.Path(folder).absolute()
    if folder.exists() and not replace:
        raise ToolError(f"{folder} is there already (--force replaces a bundle)")
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ToolError(f"{folder} holds no bundle of ours, so it is not replaced")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        yield unfinished
        replaced = unfinished.with_name(unfinished.name + ".old")
        if folder.exists():
            os.rename(folder, replaced)
        os.rename(unfinished, folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def write_decoder(folder, spec, load, positions):
    """model.onnx and its weights; load(name) gives a weight as float32 of the spec's shape."""
    with open(folder / WEIGHTS, "wb") as weights_file:
        model = build_decoder(spec, load, positions, weights_file, WEIGHTS)
    onnx.save_model(model, folder / MODEL)
    onnx.checker.check_model(folder / MODEL)


def write_json(path, content, indent=1):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=indent)
        file.write("\n")


def write_settings(folder, spec, positions, generation, tokens, chat_template):
    """config.json, generation_config.json and tokenizer_config.json. generation: bos_token_id,
    eos_token_id (a number or several) and pad_token_id; tokens: texts of bos, eos, pad and unk."""
    write_json(folder / "config.json", config_json(spec, positions) | generation)
    write_json(folder / "generation_config.json", generation)
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions,
                 "clean_up_tokenization_spaces": False}
    tokenizer |= {f"{role}_token": token for role, token in tokens.items()}
    if chat_template is not None:
        tokenizer["chat_template"] = chat_template
    write_json(folder / "tokenizer_config.json", tokenizer)


def write_manifest(folder, source):
    write_json(folder / MANIFEST, {
        "exporter": f"turboquant-tools {__version__}",
        "bundle_version": BUNDLE_VERSION,
        "source": source,
    })


def config_json(spec, positions):
    """What Hugging Face's class for spec.model_type would read, but for the special tokens."""
    config = {
        "_name_or_path": spec.name,
        "architectures": [spec.architecture],
        "model_type": spec.model_type,
        "torch_dtype": "float32",
        "vocab_size": spec.vocabulary,
        "tie_word_embeddings": spec.tied_head,
    }
    if spec.model_type == "gpt2":
        return config | _gpt2_config(spec, positions)
    config |= {
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.query_heads,
        "num_key_value_heads": spec.kv_heads,
        "hidden_size": spec.hidden,
        "head_dim": spec.head_dim,
        "intermediate_size": spec.mlp_width,
        "max_position_embeddings": positions,
        "rms_norm_eps": spec.epsilon,
        "attention_bias": "q_proj" in spec.biases,
        "mlp_bias": "up_proj" in spec.biases,
        "rope_theta": spec.rope.theta,
        "partial_rotary_factor": spec.rope.rotary_dim / spec.head_dim,
        "rope_scaling": spec.rope.scaling,
    }
    activation = "gelu_pytorch_tanh" if spec.activation == "gelu_tanh" else spec.activation
    config["hidden_activation" if spec.model_type == "gemma3_text" else "hidden_act"] = activation
    if spec.local_layers:
        config |= _window_config(spec)
    return config


def _window_config(spec):
    kinds = ["sliding_attention" if layer in spec.local_layers else "full_attention"
             for layer in range(spec.layers)]
    config = {"sliding_window": spec.window, "layer_types": kinds}
    if spec.model_type == "qwen2" or spec.model_type == "qwen3":
        config["use_sliding_window"] = True
    if spec.local_rope is not None:
        config["rope_local_base_freq"] = spec.local_rope.theta
    if spec.query_scale is not None:
        config["query_pre_attn_scalar"] = round(spec.query_scale**-2)
    return config


def _gpt2_config(spec, positions):
    return {
        "n_layer": spec.layers,
        "n_head": spec.query_heads,
        "n_embd": spec.hidden,
        "n_inner": spec.mlp_width,
        "n_positions": positions,
        "layer_norm_epsilon": spec.epsilon,
        "activation_function": "gelu_new",
    }
