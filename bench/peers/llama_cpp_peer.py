"""Decode attention of ggml's CPU backend, as llama.cpp and ik_llama.cpp call it: 32 query heads, 8 KV
heads, head_dim 128, one token, a mask, one thread.
usage: llama_cpp_peer.py NAME LIBGGML

One JSON line per result: ns per (query head x cached token); minima over repetitions. Flash attention
over caches that lie as llama.cpp keeps them, a token's heads side by side, and head by head; for f16
also the two matrix products that it makes without flash attention, which wants a V cache of floats.
`error` is the relative L2 distance from exact attention. The distance from attention over the rows as
the cache holds them is asserted: a check that the attention is done.
"""

import ctypes
import json
import sys
import time

import numpy as np

QUERY_HEADS, KV_HEADS, DIM = 32, 8, 128
MASK_ROWS = 16  # ik_llama.cpp wants the mask padded to them
F32, F16 = 0, 1  # enum ggml_type
TYPES = {"f16": F16, "q4_0": 2, "q8_0": 8}
CACHES = (("f16", "f16"), ("q8_0", "q8_0"), ("q8_0", "q4_0"), ("q4_0", "q4_0"))
# Orders of the axes (head, token, coordinate) in memory, of keys and of values.
HEAD_BY_HEAD, TOKEN_BY_TOKEN, TRANSPOSED = (0, 1, 2), (1, 0, 2), (0, 2, 1)
WAYS = {"its layout": (TOKEN_BY_TOKEN, TOKEN_BY_TOKEN), "head by head": (HEAD_BY_HEAD, HEAD_BY_HEAD),
        "no flash": (TOKEN_BY_TOKEN, TRANSPOSED)}
# How far from attention over the held rows: queries are rounded to 8 bits for quantized keys, and
# llama.cpp sums f16 values in f16.
LIMIT = .05


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def load(path):
    ggml = ctypes.CDLL(path)
    pointer, integer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_float, ctypes.c_int64
    for name, result, arguments in (
            ("ggml_init", pointer, [InitParams]),
            ("ggml_free", None, [pointer]),
            ("ggml_new_tensor_4d", pointer, [pointer, integer] + [size] * 4),
            ("ggml_permute", pointer, [pointer, pointer] + [integer] * 4),
            ("ggml_flash_attn_ext", pointer, [pointer] * 5 + [number] * 3),
            ("ggml_mul_mat", pointer, [pointer] * 3),
            ("ggml_soft_max_ext", pointer, [pointer] * 3 + [number] * 2),
            ("ggml_get_data", pointer, [pointer]),
            ("ggml_nbytes", ctypes.c_size_t, [pointer]),
            ("ggml_row_size", ctypes.c_size_t, [integer, size]),
            ("ggml_quantize_chunk", ctypes.c_size_t, [integer, pointer, pointer] + [size] * 3 + [pointer]),
            ("ggml_new_graph", pointer, [pointer]),
            ("ggml_build_forward_expand", None, [pointer, pointer]),
            ("ggml_backend_cpu_init", pointer, []),
            ("ggml_backend_cpu_set_n_threads", None, [pointer, integer]),
            ("ggml_backend_graph_compute", integer, [pointer, pointer])):
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    return ggml


def view(ggml, tensor):
    """The bytes of a tensor as an array that shares them."""
    size = ggml.ggml_nbytes(tensor)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(ggml.ggml_get_data(tensor)))


def held_rows(stored, kind, shape):
    """What the bytes of a cache mean, as f32."""
    if kind == "f16":
        return stored.view(np.float16).astype(np.float32).reshape(shape)
    blocks = stored.reshape(-1, 34 if kind == "q8_0" else 18)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    codes = blocks[:, 2:]
    if kind == "q8_0":
        codes = codes.view(np.int8)
    else:
        codes = np.concatenate([codes & 15, codes >> 4], axis=1).astype(np.float32) - 8
    return (codes * scales).reshape(shape)


def attention(queries, keys, values):
    """queries [32, dim], keys and values [8, tokens, dim]; query heads 4 i to 4 i + 3 share KV head i."""
    grouped = queries.reshape(KV_HEADS, QUERY_HEADS // KV_HEADS, DIM)
    logits = grouped @ keys.transpose(0, 2, 1) / np.float32(np.sqrt(DIM))
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True) @ values).reshape(QUERY_HEADS, DIM)


def distance(got, expected):
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def store(ggml, context, rows, kind, order):
    """rows [8, tokens, dim] in a tensor of the context, its axes in that order; and what it then holds."""
    ordered = np.ascontiguousarray(rows.transpose(order))
    tensor = ggml.ggml_new_tensor_4d(context, TYPES[kind], *ordered.shape[::-1], 1)
    ggml.ggml_quantize_chunk(TYPES[kind], ordered.ctypes.data, ggml.ggml_get_data(tensor), 0,
                             ordered.shape[0] * ordered.shape[1], ordered.shape[2], None)
    return tensor, held_rows(view(ggml, tensor), kind, ordered.shape).transpose(np.argsort(order))


def measure(ggml, backend, name, kinds, way, tokens):
    generator = np.random.default_rng(3)
    keys, values = (generator.standard_normal((KV_HEADS, tokens, DIM), dtype=np.float32) for _ in range(2))
    queries = generator.standard_normal((QUERY_HEADS, DIM), dtype=np.float32)
    token_bytes = KV_HEADS * sum(ggml.ggml_row_size(TYPES[kind], DIM) for kind in kinds)
    scratch = tokens * (2 * MASK_ROWS + 8 * QUERY_HEADS) + (8 << 20)
    context = ggml.ggml_init(InitParams(tokens * token_bytes + scratch, None, False))
    query = ggml.ggml_new_tensor_4d(context, F32, DIM, 1, QUERY_HEADS, 1)
    view(ggml, query)[:] = queries.view(np.uint8).reshape(-1)
    mask = ggml.ggml_new_tensor_4d(context, F16, tokens, MASK_ROWS, 1, 1)
    view(ggml, mask)[:] = 0

    key_order, value_order = WAYS[way]
    key, held_keys = store(ggml, context, keys, kinds[0], key_order)
    value, held_values = store(ggml, context, values, kinds[1], value_order)
    if key_order == TOKEN_BY_TOKEN:
        key = ggml.ggml_permute(context, key, 0, 2, 1, 3)
    if value_order == TOKEN_BY_TOKEN:
        value = ggml.ggml_permute(context, value, 0, 2, 1, 3)
    if value_order == TRANSPOSED:
        logits = ggml.ggml_mul_mat(context, key, query)
        weights = ggml.ggml_soft_max_ext(context, logits, mask, DIM ** -.5, 0)
        out = ggml.ggml_mul_mat(context, value, weights)
    else:
        out = ggml.ggml_flash_attn_ext(context, query, key, value, mask, DIM ** -.5, 0, 0)
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, out)

    best, begun, runs = float("inf"), time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - begun < 1:
        started = time.perf_counter_ns()
        status = ggml.ggml_backend_graph_compute(backend, graph)
        best = min(best, time.perf_counter_ns() - started)
        assert status == 0, status
        runs += 1
    got = view(ggml, out).view(np.float32).reshape(QUERY_HEADS, DIM).copy()
    ggml.ggml_free(context)
    held_error = distance(got, attention(queries, held_keys, held_values))
    assert held_error < LIMIT, (name, kinds, way, tokens, held_error)
    label = kinds[0] if kinds[0] == kinds[1] else "/".join(kinds)
    print(json.dumps({"peer": f"{name} {label}, {way}", "what": "attention",
                      "bits": token_bytes * 4 / KV_HEADS / DIM, "rows": tokens,
                      "ns": round(best / (QUERY_HEADS * tokens), 4), "bytes": token_bytes,
                      "held_error": round(held_error, 5),
                      "error": round(distance(got, attention(queries, keys, values)), 4)}), flush=True)


def main():
    name, path = sys.argv[1:]
    ggml = load(path)
    backend = ggml.ggml_backend_cpu_init()
    ggml.ggml_backend_cpu_set_n_threads(backend, 1)
    for kinds in CACHES:
        for way in WAYS:
            if way != "no flash" or kinds == ("f16", "f16"):
                for tokens in (4096, 32768):
                    measure(ggml, backend, name, kinds, way, tokens)


main()
