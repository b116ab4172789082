"""Decode attention of ONNX Runtime's GroupQueryAttention on the CPU: 32 query heads, 8 KV heads,
head_dim 128, one token, past and present in one buffer, one thread.

One JSON line per result: ns per (query head x cached token); minima over repetitions. `error` is the
relative L2 distance of a head's output from exact attention: a check that the attention is done.
"""

import json
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

QUERY_HEADS, KV_HEADS, DIM = 32, 8, 128
STORED = {"f32": (TensorProto.FLOAT, 32), "f16": (TensorProto.FLOAT16, 16),
          "int8": (TensorProto.INT8, 8), "int4": (TensorProto.UINT8, 4)}


def make_model(kind):
    stored = STORED[kind][0]
    number = TensorProto.FLOAT16 if kind == "f16" else TensorProto.FLOAT
    width = DIM // 2 if kind == "int4" else DIM
    attributes = {"num_heads": QUERY_HEADS, "kv_num_heads": KV_HEADS}
    names = ["query", "key", "value", "past_key", "past_value", "seqlens_k", "total"]
    info = helper.make_tensor_value_info
    cache = [1, KV_HEADS, "capacity", width]
    inputs = [info("query", number, [1, 1, QUERY_HEADS * DIM]),
              info("key", number, [1, 1, KV_HEADS * DIM]),
              info("value", number, [1, 1, KV_HEADS * DIM]),
              info("past_key", stored, cache), info("past_value", stored, cache),
              info("seqlens_k", TensorProto.INT32, [1]), info("total", TensorProto.INT32, [1])]
    if kind in ("int8", "int4"):
        attributes.update(k_quant_type="PER_CHANNEL", v_quant_type="PER_CHANNEL",
                          kv_cache_bit_width=STORED[kind][1])
        names += [""] * 5 + ["k_scale", "v_scale"]
        inputs += [info(name, TensorProto.FLOAT, [KV_HEADS, 1, DIM])
                   for name in ("k_scale", "v_scale")]
    node = helper.make_node("GroupQueryAttention", names, ["out", "present_key", "present_value"],
                            domain="com.microsoft", **attributes)
    outputs = [info("out", number, [1, 1, QUERY_HEADS * DIM]),
               info("present_key", stored, cache), info("present_value", stored, cache)]
    graph = helper.make_graph([node], "attention", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18),
                                                    helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 10
    return model.SerializeToString()


def store(rows, kind):
    """rows [1, heads, tokens, dim] as the cache holds them, and their scales [heads, 1, dim]."""
    if kind in ("f32", "f16"):
        return rows.astype(np.float32 if kind == "f32" else np.float16), None
    top = 127 if kind == "int8" else 7
    scales = (np.abs(rows).max(axis=(0, 2)) / top).astype(np.float32)[:, None, :]
    codes = np.clip(np.rint(rows / scales[None]), -top - 1, top).astype(np.int8)
    if kind == "int8":
        return codes, scales
    nibbles = (codes + 8).astype(np.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4), scales


def exact_head(query, keys, values):
    scores = keys @ query / np.sqrt(DIM)
    weights = np.exp(scores - scores.max())
    return weights / weights.sum() @ values


def measure(kind, tokens):
    generator = np.random.default_rng(3)
    keys, values = (generator.standard_normal((1, KV_HEADS, tokens, DIM), dtype=np.float32)
                    for _ in range(2))
    query = generator.standard_normal((1, 1, QUERY_HEADS * DIM), dtype=np.float32)
    number = np.float16 if kind == "f16" else np.float32
    past_keys, key_scales = store(keys, kind)
    past_values, value_scales = store(values, kind)
    feed = {"query": query.astype(number),
            "key": keys[:, :, -1].reshape(1, 1, -1).astype(number),
            "value": values[:, :, -1].reshape(1, 1, -1).astype(number),
            "past_key": past_keys, "past_value": past_values,
            "seqlens_k": np.array([tokens - 1], np.int32), "total": np.array([tokens], np.int32)}
    if key_scales is not None:
        feed.update(k_scale=key_scales, v_scale=value_scales)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(make_model(kind), options,
                                           providers=["CPUExecutionProvider"])
    bound = {name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
             for name, array in feed.items()}
    out = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, QUERY_HEADS * DIM), number))
    binding = session.io_binding()
    for name, value in bound.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_ortvalue_output("present_key", bound["past_key"])
    binding.bind_ortvalue_output("present_value", bound["past_value"])
    binding.bind_ortvalue_output("out", out)
    best, begun, runs = float("inf"), time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - begun < 1.5:
        started = time.perf_counter_ns()
        session.run_with_iobinding(binding)
        best = min(best, time.perf_counter_ns() - started)
        runs += 1
    got = out.numpy().astype(np.float64).reshape(QUERY_HEADS, DIM)[-1]
    exact = exact_head(query.reshape(QUERY_HEADS, DIM)[-1], keys[0, -1], values[0, -1])
    print(json.dumps({"peer": f"onnxruntime {kind}", "what": "attention", "bits": STORED[kind][1],
                      "rows": tokens,
                      "ns": round(best / (QUERY_HEADS * tokens), 4),
                      "bytes": 2 * KV_HEADS * DIM * STORED[kind][1] // 8,
                      "error": round(float(np.linalg.norm(got - exact) / np.linalg.norm(exact)), 4)}),
          flush=True)


def main():
    onnxruntime.set_default_logger_severity(3)
    for kind in STORED:
        for tokens in (4096, 32768):
            measure(kind, tokens)


main()
