"""Keys, values and queries of a bundle, from the outputs that the exporters give it."""

import json
import pathlib

import numpy as np
import onnxruntime
import tokenizers

from turboquant_tools.bundle import MODEL
from turboquant_tools.errors import ToolError
from turboquant_tools.rope import Rope, checked_scaling


class BundleSource:
    """A bundle that has outputs query.<layer>."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        config = _read_config(folder)
        self.name = config.get("_name_or_path") or folder.name
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._session = onnxruntime.InferenceSession(folder / MODEL,
                                                         providers=["CPUExecutionProvider"])
        except Exception as error:  # both libraries raise bare exceptions of their own
            raise ToolError(f"{folder} is not a bundle that runs: {error}") from error
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        if "query.0" not in outputs:
            raise ToolError(f"{folder} has no outputs query.<layer>: turboquant-tools exports "
                            f"bundles that do")
        caches = [value for value in self._session.get_inputs()
                  if value.name.startswith("past_key_values.")]
        self._empty = {value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
                       for value in caches}
        self.layers = len(caches) // 2
        self.kv_heads, self.head_dim = caches[0].shape[1], caches[0].shape[3]
        self.query_heads = outputs["query.0"][1]
        self.context = config.get("max_position_embeddings") or config["n_positions"]
        self._config = config

    def encode(self, text):
        return self._tokenizer.encode(text).ids

    def knows_rope(self):
        return True

    def rope_of(self, layer):
        """The Rope of a layer, None for learned positions."""
        config = self._config
        if "rope_theta" not in config:
            return None
        rotary_dim = round(config.get("partial_rotary_factor", 1.0) * self.head_dim)
        kinds = config.get("layer_types") or ["full_attention"] * self.layers
        if kinds[layer] == "sliding_attention" and "rope_local_base_freq" in config:
            return Rope(config["rope_local_base_freq"], rotary_dim)
        return Rope(config["rope_theta"], rotary_dim, checked_scaling(config.get("rope_scaling")))

    def capture(self, ids, layers, show):
        """Runs the tokens and calls show(layer, keys, values, queries) for the layers asked for:
        float32 [heads, tokens, head_dim], keys and queries behind the rotary embedding."""
        tokens = len(ids)
        feed = self._empty | {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, tokens), np.int64),
            "position_ids": np.arange(tokens, dtype=np.int64)[None],
        }
        layers = sorted(layers)
        wanted = [name for layer in layers for name in
                  (f"present.{layer}.key", f"present.{layer}.value", f"query.{layer}")]
        rows = [output[0] for output in self._session.run(wanted, feed)]
        for number, layer in enumerate(layers):
            show(layer, *rows[3 * number:3 * number + 3])


def _read_config(folder):
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ToolError(f"{folder} is not a bundle: {error}") from error
