#!/usr/bin/env python3
"""Makes the tiny decoder of tests/onnx: graphs, tokenizer, configuration, and what they must give.

Two layers, four query heads on two KV heads, RoPE, softmax attention; random weights. The golden
logits come from NumPy in float64, not from the graph. Needs numpy, onnx and tokenizers.

Usage: make_tiny_decoder.py [FOLDER]      (default: tests/onnx/tiny)
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper

LAYERS, HEADS, KV_HEADS, DIM, HIDDEN, INNER = 2, 4, 2, 16, 32, 48
VOCABULARY, POSITIONS, THETA, EPSILON = 300, 384, 10000.0, 1e-5
BOS, EOS = 298, 299

TEXTS = ["The cache keeps keys and values of every token that was read.",
         "Tokens, tokens, tokens: 12345 of them; and a cache that keeps them all.",
         "Schlüssel und Werte: ein Zwischenspeicher für jedes Token.",
         "a cache is a cache is a cache", "", " leading space", "two\n\nlines\tand a tab",
         "emoji \U0001f511 key, \u65e5\u672c\u8a9e and caf\u00e9", "<s>not a start</s>"]


def weights():
    random = np.random.default_rng(7)

    def matrix(rows, columns, gain=1.0):
        return (random.standard_normal((rows, columns)) * gain / np.sqrt(rows)).astype(np.float32)

    tensors = {"embedding": random.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32)}
    for layer in range(LAYERS):
        tensors[f"q.{layer}"] = matrix(HIDDEN, HEADS * DIM, 1.5)
        tensors[f"k.{layer}"] = matrix(HIDDEN, KV_HEADS * DIM, 1.5)
        tensors[f"v.{layer}"] = matrix(HIDDEN, KV_HEADS * DIM)
        tensors[f"o.{layer}"] = matrix(HEADS * DIM, HIDDEN)
        tensors[f"up.{layer}"] = matrix(HIDDEN, INNER)
        tensors[f"down.{layer}"] = matrix(INNER, HIDDEN)
    tensors["head"] = matrix(HIDDEN, VOCABULARY, 2.0)
    return tensors


def turns():
    angles = np.outer(np.arange(POSITIONS), THETA ** (-np.arange(0, DIM, 2) / DIM))
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles), np.sin(angles)


def golden_logits(tensors, ids, half):
    """The forward pass over all ids at once; `half` rounds keys and values as an f16 cache does."""
    cos, sin = (table[:len(ids), None, :] for table in turns())
    cast = (lambda x: x.astype(np.float16).astype(np.float64)) if half else (lambda x: x)

    def normalized(x):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)

    def rotated(x):
        low, high = x[..., :DIM // 2], x[..., DIM // 2:]
        return x * cos + np.concatenate([-high, low], -1) * sin

    x = tensors["embedding"].astype(np.float64)[ids]
    hidden_from = np.triu(np.ones((len(ids), len(ids)), bool), 1)
    for layer in range(LAYERS):
        h = normalized(x)
        q = rotated((h @ tensors[f"q.{layer}"]).reshape(len(ids), HEADS, DIM))
        k = cast(rotated((h @ tensors[f"k.{layer}"]).reshape(len(ids), KV_HEADS, DIM)))
        v = cast((h @ tensors[f"v.{layer}"]).reshape(len(ids), KV_HEADS, DIM))
        k, v = (np.repeat(y, HEADS // KV_HEADS, axis=1) for y in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(DIM)
        scores[:, hidden_from] = -np.inf
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", weight, v).reshape(len(ids), -1) @ tensors[f"o.{layer}"]
        h = normalized(x) @ tensors[f"up.{layer}"]
        x = x + np.maximum(h, 0.0) @ tensors[f"down.{layer}"]
    return normalized(x) @ tensors["head"]


class Graph:
    """Nodes and initializers; every method returns the name of its output."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def tensor(self, name, values):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def constant(self, values, dtype=np.int64):
        return self.tensor(f"constant_{len(self.initializers)}", np.array(values, dtype))

    def node(self, kind, *inputs, out=None, **attributes):
        out = out or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out


def build(tensors, half=False, optional=False, new_only=False):
    """`half`: f16 pasts and logits. `optional`: all optional inputs, each of which spoils the logits
    where it is not what it must be. `new_only`: presents hold the step's tokens only, which breaks
    the contract."""
    g = Graph()
    number = TensorProto.FLOAT16 if half else TensorProto.FLOAT

    def norm(x):
        mean = g.node("ReduceMean", g.node("Mul", x, x), axes=[-1], keepdims=1)
        return g.node("Div", x, g.node("Sqrt", g.node("Add", mean, g.constant(EPSILON, np.float32))))

    def heads(x, name, count):
        y = g.node("MatMul", x, name)
        y = g.node("Reshape", y, g.constant([0, 0, count, DIM]))
        return g.node("Transpose", y, perm=[0, 2, 1, 3])

    def part(x, first, last):
        return g.node("Slice", x, g.constant([first]), g.constant([last]), g.constant([-1]))

    def cast(x, to):
        return g.node("Cast", x, to=to) if half else x

    for name, values in tensors.items():
        g.tensor(name, values)
    count = g.node("Gather", g.node("Shape", "input_ids"), g.constant(1), axis=0)
    total = g.node("Gather", g.node("Shape", "attention_mask"), g.constant(1), axis=0)
    past = g.node("Sub", total, count)
    places = g.node("Range", past, total, g.constant(1))
    seen = g.node("LessOrEqual", g.node("Unsqueeze", g.node("Range", g.constant(0), total,
                                                              g.constant(1)), g.constant([0])),
                  g.node("Unsqueeze", places, g.constant([1])))
    seen = g.node("And", seen, g.node("Cast", g.node("Unsqueeze", "attention_mask",
                                                      g.constant([1, 2])), to=TensorProto.BOOL))
    bias = g.node("Where", seen, g.constant(0.0, np.float32), g.constant(-3e38, np.float32))
    cos, sin = (g.node("Unsqueeze", g.node("Gather", g.tensor(name, table.astype(np.float32)),
                                           "position_ids"), g.constant([1]))
                for name, table in zip(("cos", "sin"), turns()))

    def rotate(x):
        turned = g.node("Concat", g.node("Neg", part(x, DIM // 2, DIM)), part(x, 0, DIM // 2), axis=-1)
        return g.node("Add", g.node("Mul", x, cos), g.node("Mul", turned, sin))

    def repeat(x):
        x = g.node("Expand", g.node("Unsqueeze", x, g.constant([2])),
                   g.constant([1, 1, HEADS // KV_HEADS, 1, 1]))
        return g.node("Reshape", x, g.constant([0, HEADS, -1, DIM]))

    x = g.node("Gather", "embedding", "input_ids")
    for layer in range(LAYERS):
        h = norm(x)
        q = rotate(heads(h, f"q.{layer}", HEADS))
        g.node("Identity", q, out=f"query.{layer}")
        sides = []
        for side, new in (("key", rotate(heads(h, f"k.{layer}", KV_HEADS))),
                          ("value", heads(h, f"v.{layer}", KV_HEADS))):
            present = f"present.{layer}.{side}"
            new = cast(new, TensorProto.FLOAT16)
            whole = g.node("Concat", f"past_key_values.{layer}.{side}", new, axis=2,
                           out=None if new_only else present)
            if new_only:
                g.node("Identity", new, out=present)
            sides.append(repeat(cast(whole, TensorProto.FLOAT)))
        scores = g.node("MatMul", g.node("Mul", q, g.constant(DIM ** -0.5, np.float32)),
                        g.node("Transpose", sides[0], perm=[0, 1, 3, 2]))
        weight = g.node("Softmax", g.node("Add", scores, bias), axis=-1)
        out = g.node("Transpose", g.node("MatMul", weight, sides[1]), perm=[0, 2, 1, 3])
        out = g.node("Reshape", out, g.constant([0, 0, HEADS * DIM]))
        x = g.node("Add", x, g.node("MatMul", out, f"o.{layer}"))
        h = g.node("Relu", g.node("MatMul", norm(x), f"up.{layer}"))
        x = g.node("Add", x, g.node("MatMul", h, f"down.{layer}"))
    logits = g.node("MatMul", norm(x), "head")
    inputs = [("input_ids", TensorProto.INT64, ["batch", "tokens"]),
              ("attention_mask", TensorProto.INT64, ["batch", "total"]),
              ("position_ids", TensorProto.INT64, ["batch", "tokens"])]
    if optional:
        inputs += [("cache_position", TensorProto.INT64, ["tokens"]),
                   ("token_type_ids", TensorProto.INT64, ["batch", "tokens"]),
                   ("use_cache_branch", TensorProto.BOOL, [1])]
        flag = g.node("Cast", g.node("Xor", "use_cache_branch", g.node("Greater", past, g.constant(0))),
                      to=TensorProto.INT64)
        place = g.node("Abs", g.node("Sub", "cache_position", places))
        wrong = g.node("Add", g.node("Add", place, flag), "token_type_ids")
        wrong = g.node("Unsqueeze", g.node("Cast", wrong, to=TensorProto.FLOAT), g.constant([2]))
        logits = g.node("Add", logits, wrong)
    logits = cast(logits, TensorProto.FLOAT16)
    g.node("Identity", logits, out="logits")
    sides = [(layer, side) for layer in range(LAYERS) for side in ("key", "value")]
    rows = ["batch", KV_HEADS, "past", DIM]
    inputs += [(f"past_key_values.{layer}.{side}", number, rows) for layer, side in sides]
    outputs = [("logits", number, ["batch", "tokens", VOCABULARY])]
    outputs += [(f"present.{layer}.{side}", number, ["batch", KV_HEADS, "total", DIM])
                for layer, side in sides]
    outputs += [(f"query.{layer}", TensorProto.FLOAT, ["batch", HEADS, "tokens", DIM])
                for layer in range(LAYERS)]
    value_info = [[helper.make_tensor_value_info(*t) for t in side] for side in (inputs, outputs)]
    graph = helper.make_graph(g.nodes, "tiny", *value_info, g.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="make_tiny_decoder")
    onnx.checker.check_model(model)
    return model


def make_tokenizer():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS[:4] * 2, trainer)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    assert tokenizer.token_to_id("</s>") == EOS, tokenizer.get_vocab_size()
    return tokenizer


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests/onnx/tiny"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = weights()
    for name, options in {"plain": {}, "new_only": {"new_only": True},
                          "optional": {"half": True, "optional": True}}.items():
        # The graphs share one file of weights. onnx appends to one that is there.
        (folder / "weights.bin").unlink(missing_ok=True)
        onnx.save_model(build(tensors, **options), folder / f"{name}.onnx",
                        save_as_external_data=True, location="weights.bin", size_threshold=1024)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"_name_or_path": "tiny", "model_type": "llama", "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": DIM,
              "hidden_size": HIDDEN, "vocab_size": VOCABULARY, "rope_theta": THETA,
              "max_position_embeddings": POSITIONS, "bos_token_id": BOS, "eos_token_id": EOS}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    ids = np.random.default_rng(3).integers(0, VOCABULARY, 16).tolist()
    golden = {"ids": ids, "texts": [{"text": t, "ids": tokenizer.encode(t).ids,
                                     "decoded": tokenizer.decode(tokenizer.encode(t).ids)}
                                    for t in TEXTS]}
    for name, half in (("logits", False), ("logits_f16", True)):
        logits = golden_logits(tensors, ids, half)
        # Every tenth logit is enough to tell.
        golden[name] = [[round(float(x), 6) for x in row[::10]] for row in logits]
    greedy = list(ids)
    for _ in range(12):
        greedy.append(int(golden_logits(tensors, greedy, False)[-1].argmax()))
    golden["greedy"] = greedy[len(ids):]
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
