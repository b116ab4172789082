"""Keys, values and queries of a Hugging Face causal language model, taken where its layers call the
attention function: fused and separate projections look the same there."""

import torch
import transformers
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from turboquant_tools.errors import ToolError
from turboquant_tools.hf_decoder import FAMILIES, read_ropes
from turboquant_tools.hf_loading import load_model, load_tokenizer


class HuggingFaceSource:
    """A model whose layers can be looked into."""

    def __init__(self, name, *, device="auto", dtype="auto", revision=None,
                 trust_remote_code=False):
        options = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
        # By name, as transformers hands nothing of ours to its attention functions.
        attention = f"turboquant_capture_{id(self)}"
        transformers.AttentionInterface.register(attention, self._attend)
        AttentionMaskInterface.register(attention, sdpa_mask)
        self._show = None  # what _attend() calls, while capture() runs
        self.name = str(name)
        self._tokenizer = load_tokenizer(name, **options)
        self._device = _device(device)
        self._model = load_model(name, dtype=dtype, attn_implementation=attention,
                                 **options).to(self._device)
        config = self._model.config.get_text_config()
        self.layers = config.num_hidden_layers
        self.kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.query_heads = config.num_attention_heads
        self.head_dim = (getattr(config, "head_dim", None) or
                         config.hidden_size // config.num_attention_heads)
        self.context = config.max_position_embeddings
        self._ropes = _known_ropes(config)

    def encode(self, text):
        return self._tokenizer(text, verbose=False)["input_ids"]

    def knows_rope(self):
        """Whether rope_of() can be asked: not of models whose rotary embedding is unknown here."""
        return self._ropes is not None

    def rope_of(self, layer):
        """The Rope of a layer, None for learned positions."""
        rope, local_rope, local_layers = self._ropes
        return local_rope if layer in local_layers and local_rope is not None else rope

    def capture(self, ids, layers, show):
        """Runs the tokens and calls show(layer, keys, values, queries) for the layers asked for:
        float32 [heads, tokens, head_dim], keys and queries behind the rotary embedding."""
        seen = set()

        def show_chosen(layer, *rows):
            if layer in layers:
                seen.add(layer)
                show(layer, *(row[0].to("cpu").float().numpy() for row in rows))

        self._show = show_chosen
        try:
            with torch.inference_mode():
                self._model.base_model(torch.tensor([ids], device=self._device), use_cache=False)
        finally:
            self._show = None
        if seen != set(layers):
            raise ToolError(f"layers {sorted(set(layers) - seen)} of {self.name} do not call "
                            f"transformers' attention function")

    def _attend(self, module, query, key, value, attention_mask, **options):
        if self._show is not None:
            self._show(module.layer_idx, key, value, query)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _known_ropes(config):
    """None for families, and for scalings of the embedding, that are not known here."""
    if config.model_type not in FAMILIES:
        return None
    try:
        return read_ropes(config)
    except ToolError:
        return None


def _device(name):
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
