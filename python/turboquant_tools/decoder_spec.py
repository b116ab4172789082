"""What a decoder is made of, whatever file its weights come from."""

from dataclasses import dataclass

from turboquant_tools.rope import Rope

# Linear maps of a layer, below "layers.<i>.".
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class DecoderSpec:
    """Sizes and switches of a decoder, whose weights have the names of tensor_shapes()."""

    model_type: str  # of config.json
    architecture: str  # the class that Hugging Face gives such a model
    name: str
    layers: int
    hidden: int
    query_heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    vocabulary: int
    context: int
    epsilon: float
    rope: Rope | None  # None: learned positions
    local_rope: Rope | None = None  # of the layers with a sliding window, where theirs differs
    window: int | None = None  # tokens that a local layer sees, itself included
    local_layers: frozenset = frozenset()
    norm: str = "rms"  # or "layer", which has biases
    activation: str = "silu"  # or "gelu_tanh"
    gated_mlp: bool = True
    biases: frozenset = frozenset()  # those of LINEARS that have one
    query_key_norms: bool = False
    sandwich_norms: bool = False  # norms behind attention and MLP too
    embedding_scale: float | None = None
    query_scale: float | None = None  # None: 1 / sqrt(head_dim)
    tied_head: bool = True

    @property
    def group(self):
        """Query heads to each KV head."""
        return self.query_heads // self.kv_heads

    def logit_scale(self):
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    def layer_shapes(self):
        """Shapes of a layer's tensors by name below "layers.<i>."; linear maps are [out, in]."""
        hidden, kv_width = self.hidden, self.kv_heads * self.head_dim
        query_width = self.query_heads * self.head_dim
        linears = {
            "q_proj": (query_width, hidden),
            "k_proj": (kv_width, hidden),
            "v_proj": (kv_width, hidden),
            "o_proj": (hidden, query_width),
            "up_proj": (self.mlp_width, hidden),
            "down_proj": (hidden, self.mlp_width),
        }
        if self.gated_mlp:
            linears["gate_proj"] = (self.mlp_width, hidden)
        shapes = {f"{name}.weight": shape for name, shape in linears.items()}
        shapes |= {f"{name}.bias": linears[name][:1] for name in sorted(self.biases)}
        norms = {"attention_norm": hidden, "mlp_norm": hidden}
        if self.sandwich_norms:
            norms |= {"post_attention_norm": hidden, "post_mlp_norm": hidden}
        if self.query_key_norms:
            norms |= {"q_norm": self.head_dim, "k_norm": self.head_dim}
        for name, size in norms.items():
            shapes |= self._norm_shapes(name, size)
        return shapes

    def tensor_shapes(self):
        """Shapes of all weights by name, in the order in which a forward pass needs them."""
        shapes = {"embedding.weight": (self.vocabulary, self.hidden)}
        if self.rope is None:
            shapes["positions.weight"] = (self.context, self.hidden)
        for layer in range(self.layers):
            shapes |= {f"layers.{layer}.{name}": size for name, size in self.layer_shapes().items()}
        shapes |= self._norm_shapes("norm", self.hidden)
        if not self.tied_head:
            shapes["head.weight"] = (self.vocabulary, self.hidden)
        return shapes

    def _norm_shapes(self, name, size):
        shapes = {f"{name}.weight": (size,)}
        if self.norm == "layer":
            shapes[f"{name}.bias"] = (size,)
        return shapes
