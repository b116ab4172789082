"""A decoder as an ONNX graph with an explicit KV cache, of plain operators.

Inputs input_ids [batch, seq], attention_mask [batch, past + seq], position_ids [batch, seq] and
past_key_values.<i>.key|value [batch, kv_heads, past, head_dim]; outputs logits [batch, seq,
vocabulary], present.<i>.key|value [batch, kv_heads, past + seq, head_dim], and query.<i> [batch,
query_heads, seq, head_dim], which a runtime computes in any case and copies only for who asks. Keys
and queries are taken behind the rotary embedding, queries before they are scaled.
"""

import math

import numpy as np
from onnx import TensorProto

from turboquant_tools import __version__
from turboquant_tools.graph_builder import GraphBuilder

# Finite: a row that sees nothing (left padding) must not become NaN.
MASKED = np.float32(np.finfo(np.float32).min)


def build_decoder(spec, load, positions, weights_file, location):
    """The model. load(name) gives a weight as a float32 array; its bytes go to weights_file, which
    the model names `location`. Positions from `positions` up are out of the graph's reach."""
    return _Decoder(spec, load, positions, GraphBuilder(weights_file, location)).build()


class _Decoder:
    def __init__(self, spec, load, positions, graph):
        self.spec = spec
        self.load = load
        self.positions = positions
        self.graph = graph
        self.masks = {}  # is local -> mask
        self.turns = {}  # is local -> (cosines, sines) of the tokens

    def build(self):
        spec = self.spec
        states = self._embed()
        self._prepare_masks()
        self._prepare_rope()
        for layer in range(spec.layers):
            states = self._layer(layer, states)
        states = self._norm(states, "norm")
        self._head(states)
        return self.graph.model(self._inputs(), self._outputs(),
                                f"turboquant-tools {__version__}")

    # The parts before the layers.

    def _weight(self, name):
        return self.graph.weight(name, self.load(name))

    def _embed(self):
        op = self.graph.op
        states = op("Gather", self._weight("embedding.weight"), "input_ids")
        if self.spec.embedding_scale is not None:
            states = op("Mul", states, self.graph.real(self.spec.embedding_scale))
        if self.spec.rope is None:
            positions = self.load("positions.weight")[:self.positions]
            learned = self.graph.weight("positions.weight", positions)
            states = op("Add", states, op("Gather", learned, "position_ids"))
        return states

    def _prepare_masks(self):
        """What is added to logits, [batch, 1, seq, past + seq]: 0 where a query sees a key."""
        graph, op = self.graph, self.graph.op
        seq = op("Gather", op("Shape", "input_ids"), graph.integer(1), axis=0)
        total = op("Gather", op("Shape", "attention_mask"), graph.integer(1), axis=0)
        past = op("Sub", total, seq)
        step = graph.integer(1)
        queries = op("Unsqueeze", op("Range", past, total, step), graph.integers(1))
        keys = op("Unsqueeze", op("Range", graph.integer(0), total, step), graph.integers(0))
        real = op("Cast", "attention_mask", to=TensorProto.BOOL)
        real = op("Unsqueeze", real, graph.integers(1, 2))
        seen = op("LessOrEqual", keys, queries)
        if len(self.spec.local_layers) < self.spec.layers:
            self.masks[False] = self._mask(op("And", seen, real))
        if self.spec.local_layers:
            near = op("Less", op("Sub", queries, keys), graph.integer(self.spec.window))
            self.masks[True] = self._mask(op("And", op("And", seen, near), real))

    def _mask(self, seen):
        return self.graph.op("Where", seen, self.graph.real(0.0), self.graph.real(MASKED))

    def _prepare_rope(self):
        """Gathers the rows of the tables, [batch, 1, seq, rotary_dim / 2], once for all layers."""
        if self.spec.rope is None:
            return
        for is_local in self.masks:
            differs = is_local and self.spec.local_rope is not None
            rope = self.spec.local_rope if differs else self.spec.rope
            if is_local and not differs and False in self.turns:
                self.turns[True] = self.turns[False]
                continue
            kind = "local" if differs else "global"
            self.turns[is_local] = tuple(
                self._rows_of_positions(f"rope.{kind}.{part}", table)
                for part, table in zip(("cosines", "sines"), rope.tables(self.positions)))

    def _rows_of_positions(self, name, table):
        rows = self.graph.op("Gather", self.graph.weight(name, table), "position_ids")
        return self.graph.op("Unsqueeze", rows, self.graph.integers(1))

    # A layer.

    def _layer(self, layer, states):
        op, prefix = self.graph.op, f"layers.{layer}."
        attended = self._attention(layer, self._norm(states, prefix + "attention_norm"))
        if self.spec.sandwich_norms:
            attended = self._norm(attended, prefix + "post_attention_norm")
        states = op("Add", states, attended)
        mixed = self._mlp(prefix, self._norm(states, prefix + "mlp_norm"))
        if self.spec.sandwich_norms:
            mixed = self._norm(mixed, prefix + "post_mlp_norm")
        return op("Add", states, mixed)

    def _norm(self, states, name):
        graph, op = self.graph, self.graph.op
        weight = self._weight(f"{name}.weight")
        if self.spec.norm == "layer":
            return op("LayerNormalization", states, weight, self._weight(f"{name}.bias"), axis=-1,
                      epsilon=self.spec.epsilon)
        square = op("ReduceMean", op("Pow", states, graph.real(2.0)), axes=[-1], keepdims=1)
        root = op("Sqrt", op("Add", square, graph.real(self.spec.epsilon)))  # runtimes fuse these
        return op("Mul", op("Div", states, root), weight)

    def _linear(self, states, name):
        weight = self.graph.weight(f"{name}.weight", self.load(f"{name}.weight").T)
        states = self.graph.op("MatMul", states, weight)
        if name.rsplit(".", 1)[1] in self.spec.biases:
            states = self.graph.op("Add", states, self._weight(f"{name}.bias"))
        return states

    def _heads(self, states, name, heads):
        """A linear map, then [batch, heads, seq, head_dim]."""
        shape = self.graph.integers(0, 0, heads, self.spec.head_dim)
        rows = self.graph.op("Reshape", self._linear(states, name), shape)
        return self.graph.op("Transpose", rows, perm=[0, 2, 1, 3])

    def _rotate(self, rows, is_local, output=None):
        """Turns coordinate i with i + rotary_dim / 2; those behind rotary_dim stay."""
        graph, op = self.graph, self.graph.op
        cosines, sines = self.turns[is_local]
        half, head_dim = self.spec.rope.rotary_dim // 2, self.spec.head_dim

        def part(begin, end):
            return op("Slice", rows, graph.integers(begin), graph.integers(end), graph.integers(-1))

        first, second = part(0, half), part(half, 2 * half)
        turned = [op("Sub", op("Mul", first, cosines), op("Mul", second, sines)),
                  op("Add", op("Mul", second, cosines), op("Mul", first, sines))]
        if 2 * half < head_dim:
            turned.append(part(2 * half, head_dim))
        return op("Concat", *turned, axis=-1, output=output)

    def _queries_keys_values(self, layer, states):
        spec, prefix = self.spec, f"layers.{layer}."
        queries = self._heads(states, prefix + "q_proj", spec.query_heads)
        keys = self._heads(states, prefix + "k_proj", spec.kv_heads)
        values = self._heads(states, prefix + "v_proj", spec.kv_heads)
        if spec.query_key_norms:
            queries = self._norm(queries, prefix + "q_norm")
            keys = self._norm(keys, prefix + "k_norm")
        if spec.rope is None:
            return self.graph.op("Identity", queries, output=f"query.{layer}"), keys, values
        is_local = layer in spec.local_layers
        queries = self._rotate(queries, is_local, output=f"query.{layer}")
        return queries, self._rotate(keys, is_local), values

    def _attention(self, layer, states):
        """Five axes [batch, kv_heads, group, seq, head_dim]: heads of a group share keys by
        broadcasting, which copies nothing."""
        spec, graph, op = self.spec, self.graph, self.graph.op
        queries, keys, values = self._queries_keys_values(layer, states)
        keys = op("Concat", f"past_key_values.{layer}.key", keys, axis=2,
                  output=f"present.{layer}.key")
        values = op("Concat", f"past_key_values.{layer}.value", values, axis=2,
                    output=f"present.{layer}.value")
        queries = op("Mul", queries, graph.real(spec.logit_scale()))
        queries = op("Reshape", queries,
                     graph.integers(0, spec.kv_heads, spec.group, -1, spec.head_dim))
        group_axis = graph.integers(2)
        across = op("Transpose", op("Unsqueeze", keys, group_axis), perm=[0, 1, 2, 4, 3])
        mask = op("Unsqueeze", self.masks[layer in spec.local_layers], group_axis)
        weights = op("Softmax", op("Add", op("MatMul", queries, across), mask), axis=-1)
        attended = op("MatMul", weights, op("Unsqueeze", values, group_axis))
        attended = op("Reshape", attended, graph.integers(0, spec.query_heads, -1, spec.head_dim))
        attended = op("Transpose", attended, perm=[0, 2, 1, 3])
        attended = op("Reshape", attended, graph.integers(0, 0, spec.query_heads * spec.head_dim))
        return self._linear(attended, f"layers.{layer}.o_proj")

    def _mlp(self, prefix, states):
        up = self._linear(states, prefix + "up_proj")
        if self.spec.gated_mlp:
            gate = self._activate(self._linear(states, prefix + "gate_proj"))
            up = self.graph.op("Mul", gate, up)
        else:
            up = self._activate(up)
        return self._linear(up, prefix + "down_proj")

    def _activate(self, states):
        graph, op = self.graph, self.graph.op
        if self.spec.activation == "silu":
            return op("Mul", states, op("Sigmoid", states))
        cube = op("Mul", op("Mul", states, states), states)
        inner = op("Add", states, op("Mul", cube, graph.real(0.044715)))
        tangent = op("Tanh", op("Mul", inner, graph.real(math.sqrt(2.0 / math.pi))))
        return op("Mul", op("Mul", states, graph.real(0.5)), op("Add", tangent, graph.real(1.0)))

    # The ends.

    def _head(self, states):
        """A tied head reads the embedding's own rows (transB): they stand in the file once."""
        spec, graph, op = self.spec, self.graph, self.graph.op
        head = "embedding.weight" if spec.tied_head else self._weight("head.weight")
        rows = op("Reshape", states, graph.integers(-1, spec.hidden))
        logits = op("Gemm", rows, head, transB=1)
        shape = op("Concat", op("Shape", "input_ids"), graph.integers(spec.vocabulary), axis=0)
        op("Reshape", logits, shape, output="logits")

    def _cache(self, name, tokens):
        shape = ["batch", self.spec.kv_heads, tokens, self.spec.head_dim]
        return [(f"{name}.{layer}.{part}", TensorProto.FLOAT, shape)
                for layer in range(self.spec.layers) for part in ("key", "value")]

    def _inputs(self):
        integers = [("input_ids", TensorProto.INT64, ["batch", "seq"]),
                    ("attention_mask", TensorProto.INT64, ["batch", "past + seq"]),
                    ("position_ids", TensorProto.INT64, ["batch", "seq"])]
        return integers + self._cache("past_key_values", "past")

    def _outputs(self):
        spec = self.spec
        queries = [(f"query.{layer}", TensorProto.FLOAT,
                    ["batch", spec.query_heads, "seq", spec.head_dim])
                   for layer in range(spec.layers)]
        logits = ("logits", TensorProto.FLOAT, ["batch", "seq", spec.vocabulary])
        return [logits, *self._cache("present", "past + seq"), *queries]
