"""Runs a bundle in ONNX Runtime, for tests."""

import json

import numpy as np
import onnxruntime


class BundleSession:
    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.layers = config.get("num_hidden_layers", config.get("n_layer"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # a refused position is an answer here, not news
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options,
                                                    providers=["CPUExecutionProvider"])
        caches = [value for value in self.session.get_inputs() if value.name.startswith("past")]
        self.kv_heads, self.head_dim = caches[0].shape[1], caches[0].shape[3]

    def run(self, ids, past=None, mask=None, positions=None, queries=False):
        """Logits, the cache (keys and values of layer 0, of layer 1, ...), and the queries."""
        ids = np.atleast_2d(np.asarray(ids, np.int64))
        batch, tokens = ids.shape
        if past is None:
            empty = np.zeros((batch, self.kv_heads, 0, self.head_dim), np.float32)
            past = [empty] * 2 * self.layers
        before = past[0].shape[2]
        every = np.tile(np.arange(before, before + tokens, dtype=np.int64), (batch, 1))
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones((batch, before + tokens), np.int64) if mask is None else mask,
            "position_ids": every if positions is None else positions,
        }
        cache = [f"{layer}.{part}" for layer in range(self.layers) for part in ("key", "value")]
        feed |= {f"past_key_values.{name}": rows for name, rows in zip(cache, past)}
        wanted = ["logits"] + [f"present.{name}" for name in cache]
        wanted += [f"query.{layer}" for layer in range(self.layers)] if queries else []
        answers = self.session.run(wanted, feed)
        return answers[0], answers[1:1 + len(cache)], answers[1 + len(cache):]
