"""Encoding and searching with FAISS's quantized flat indexes, dim 128, one thread.

One JSON line per result: ns per row, or per (query x row); minima over repetitions. FAISS's types
hold no rotation, so that of the rows is timed by itself and named in the table.
"""

import json
import time

import faiss
import numpy as np

DIM = 128
TOP = 10
ROWS = (4096, 262144)

faiss.omp_set_num_threads(1)
generator = np.random.default_rng(1)
rows = generator.standard_normal((ROWS[-1], DIM), dtype=np.float32)
queries = generator.standard_normal((8, DIM), dtype=np.float32)


def shortest(run, least, seconds):
    best, begun, runs = float("inf"), time.perf_counter(), 0
    while runs < least or time.perf_counter() - begun < seconds:
        started = time.perf_counter_ns()
        run()
        best = min(best, time.perf_counter_ns() - started)
        runs += 1
    return best


def report(name, what, bits, count, query_count, ns, size):
    print(json.dumps({"peer": f"faiss {name}", "what": what, "bits": bits, "rows": count,
                      "queries": query_count, "ns": round(ns, 4), "bytes": size}), flush=True)


def measure(name, bits, index, batch=10000):
    index.train(rows[:20000])
    size = index.code_size

    def encode():
        index.reset()
        index.add(rows[:batch])

    report(name, "encode", bits, batch, 0, shortest(encode, 2, 1.0) / batch, size)
    for count in ROWS:
        index.reset()
        index.add(rows[:count])
        for query_count in (1, 8):
            ns = shortest(lambda: index.search(queries[:query_count], TOP), 3, 0.7)
            report(name, "search", bits, count, query_count, ns / count / query_count, size)


def main():
    inner = faiss.METRIC_INNER_PRODUCT
    rotation = faiss.RandomRotationMatrix(DIM, DIM)
    rotation.init(1)
    ns = shortest(lambda: rotation.apply(rows[:10000]), 3, 1.0) / 10000
    report("rotation alone", "encode", 32, 10000, 0, ns, 4 * DIM)
    for bits in (2, 3, 4):
        kind = getattr(faiss.ScalarQuantizer, f"QT_{bits}bit_tqmse", None)
        if kind is not None:
            measure("TurboQuant-MSE", bits, faiss.IndexScalarQuantizer(DIM, kind, inner))
    for bits, pieces in ((2, 64), (4, 128)):
        measure("PQFastScan", bits, faiss.IndexPQFastScan(DIM, pieces, 4, inner), 4096)
    measure("RaBitQFastScan", 1, faiss.IndexRaBitQFastScan(DIM, inner, 32, 1))


main()
