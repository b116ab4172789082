"""Hugging Face causal language model -> bundle. Needs torch and transformers beside numpy and onnx.

Only the weights are taken from the model; the graph is the one that export-gguf makes.
"""

import pathlib

from turboquant_tools.bundle import new_folder, write_decoder, write_manifest, write_settings
from turboquant_tools.export_gguf import bounded_positions
from turboquant_tools.hf_decoder import HuggingFaceWeights, read_spec
from turboquant_tools.hf_loading import load_model, load_tokenizer, transformers
from turboquant_tools.progress import progress_bar


def export_decoder(model_name, folder, *, positions=None, replace=False, revision=None,
                   trust_remote_code=False):
    """Writes the bundle `folder` from a model folder or hub id; the folder appears only when it is
    complete."""
    options = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    with new_folder(folder, replace) as unfinished:
        model = load_model(model_name, dtype="auto", **options)
        spec = read_spec(model, str(model_name))
        positions = bounded_positions(spec, positions)
        _write_tokenizer(unfinished, load_tokenizer(model_name, **options), model, spec, positions)
        weights = HuggingFaceWeights(model, spec)
        with progress_bar(len(spec.tensor_shapes()), "export", "tensors") as bar:

            def load(name):
                bar.update(1)
                return weights.load(name)

            write_decoder(unfinished, spec, load, positions)
        write_manifest(unfinished, {
            "model": str(model_name),
            "revision": getattr(model.config, "_commit_hash", None),
            "transformers": transformers.__version__,
        })
    return pathlib.Path(folder)


def _write_tokenizer(folder, tokenizer, model, spec, positions):
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.save(str(folder / "tokenizer.json"), pretty=False)
    generation = {}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        generation[key] = getattr(model.generation_config, key, None)
        if generation[key] is None:
            generation[key] = getattr(model.config, key, None)
    tokens = {role: str(token) for role in ("bos", "eos", "pad", "unk")
              if (token := getattr(tokenizer, f"{role}_token", None)) is not None}
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
    write_settings(folder, spec, positions, generation, tokens, template)
