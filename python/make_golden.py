#!/usr/bin/env python3
"""Writes tests/golden/*.json with the NumPy reference. Needs numpy.

    python3 python/make_golden.py [folder]

Floats stand as the hexadecimal digits of their bits (float32 big-endian: 3f800000 is 1), bytes as
hexadecimal digits in order, so that nothing is lost to printing.
"""

import json
import pathlib
import sys

import numpy as np

from turboquant_reference import codebook, mse, prod, qjl
from turboquant_reference.random import philox4x32, stream_bits, stream_normals, stream_words
from turboquant_reference.rotation import (dense_matrix, rotate, rotation_matrix, round_signs)

SEED = 42
TEST_STAGE = 15
DIMS = (2, 3, 5, 17, 64, 80, 96, 112, 128, 130, 192)
MSE_DIMS = (2, 3, 5, 17, 64, 80, 128, 130, 192)
SIGN_MARGIN = 1e-4

# Random123's published answers for philox4x32-10: counter, key, result.
PUBLISHED_PHILOX = (
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
)


def f32(values):
    return np.asarray(values, dtype=np.float32).astype(">f4").tobytes().hex()


def f16(values):
    return np.asarray(values, dtype=np.float16).astype(">f2").tobytes().hex()


def test_rows(count, dim, seed):
    normals = stream_normals(count * dim, seed, stage=TEST_STAGE)
    return normals.astype(np.float32).reshape(count, dim)


def random_golden():
    for counter, key, expected in PUBLISHED_PHILOX:
        assert philox4x32([counter], key)[0].tolist() == expected
    streams = []
    for seed, stream in ((0, {}), (42, {"stage": 1}), (2**64 - 1, {
            "layer": 2**20 - 1, "head": 2**20 - 1, "side": 255, "stage": 255, "round": 255
    }), (0x0123456789ABCDEF, {"layer": 31, "head": 7, "side": 1, "stage": 0, "round": 2})):
        streams.append({
            "seed": seed,
            **{name: stream.get(name, 0) for name in ("layer", "head", "side", "stage", "round")},
            "words": [f"{word:08x}" for word in stream_words(18, seed, **stream)],
            "bits": "".join(str(bit) for bit in stream_bits(70, seed, **stream)),
            "normals": stream_normals(24, seed, **stream).tolist(),
        })
    return {"streams": streams}


def rotation_golden():
    hadamard = []
    for dim in DIMS:
        row = test_rows(1, dim, seed=1000 + dim)[0]
        signs = round_signs(dim, 3, SEED)
        cases = []
        for rounds in (1, 2, 3):
            rotated = rotate(row, signs[:rounds])
            exact = rotation_matrix(dim, signs[:rounds]) @ row
            assert np.max(np.abs(rotated - exact)) < 2e-6 * np.linalg.norm(row)
            cases.append(f32(rotated))
        hadamard.append({
            "dim": dim, "seed": SEED, "row": f32(row), "rotated": cases,
            # Negative signs of all three rounds, packed.
            "negative": np.packbits(np.concatenate(signs) < 0.0, bitorder="little").tobytes().hex(),
            "sign_count": sum(len(sign) for sign in signs),
        })
    dense = [{"dim": dim, "seed": 7, "layer": 3, "head": 2, "side": 1,
              "matrix": f32(dense_matrix(dim, 7, layer=3, head=2, side=1, stage=0))}
             for dim in (2, 3, 16)]
    return {"hadamard": hadamard, "dense": dense}


def codebook_golden():
    books = []
    for dim in (2, 3, 5, 17, 32, 63, 64):
        for bits, uniform in [(bits, False) for bits in range(1, 9)] + [(8, True)]:
            book = codebook.make_codebook(dim, bits, uniform)
            books.append({
                "dim": dim, "bits": bits, "uniform": uniform, "step": book.step,
                "fingerprint": book.fingerprint(),
                "levels": book.levels[len(book.levels) // 2:].tolist(),  # the rest mirrors them
            })
    optima = []
    for dim in (2, 5, 32, 63, None):  # None: N(0, 1)
        density = codebook.Density(dim)
        for bits in range(1, 9):
            centroids = codebook.lloyd_max(density, bits)
            shown = centroids if bits <= 5 else np.concatenate([centroids[:2], centroids[-2:]])
            optima.append({"dim": dim, "bits": bits, "positive_centroids": shown.tolist(),
                           "distortion": density.distortion(centroids)})
    return {"codebooks": books, "optima": optima}


def mse_rows(number, dim):
    """A normal row; one too short or too long to be rotated as it is; one of a single coordinate."""
    rows = test_rows(3, dim, seed=2000 + dim)
    rows[1] *= np.float32(3e-36 if number % 2 else 2.0**100)
    rows[2] = 0.0
    rows[2, dim // 2] = -1.75
    return rows


def mse_case(rows, query, quantizer, uniform, with_details):
    """Codes in canonical form, row after row; scales of all rows, one kind after the other, and
    those of row 0 as f16 (the other rows' need not fit)."""
    bits = quantizer.codebook.bits
    case = {"bits": bits, "uniform": uniform}
    for key, search in (("plain", False), ("search", True)):
        encoded = [quantizer.encode(row, search) for row in rows]
        scales = [[row_scales[name] for _, row_scales in encoded] for name in mse.SCALES]
        case[key] = {
            "codes": "".join(mse.pack(codes, bits).hex() for codes, _ in encoded),
            "scales": f32(scales),
            "scales_f16": f16([mse.to_f16(of_kind[0]) for of_kind in scales]),
        }
    if with_details:  # of the codes found last, with the unbiased scale
        matrix = rotation_matrix(quantizer.dim, quantizer.signs)
        stored = [(codes, np.float32(row_scales["unbiased"])) for codes, row_scales in encoded]
        case["decoded"] = f32([quantizer.decode(codes, scale, matrix) for codes, scale in stored])
        prepared = [quantizer.query_digits(query, digits) for digits in (1, 2)]
        case["scores"] = f32([[quantizer.score(integers, factor, codes, scale)
                               for codes, scale in stored] for integers, factor in prepared])
    return case


def mse_golden(number, dim):
    """Rows of one dim through every codebook, one of them also decoded and scored."""
    rows = mse_rows(number, dim)
    query = test_rows(1, dim, seed=3000 + dim)[0]
    rounds = 1 + number % 3
    signs = round_signs(dim, rounds, SEED)
    widths = [(bits, False) for bits in range(1, 9)] + [(8, True)]
    cases = [
        mse_case(rows, query, mse.Quantizer(codebook.make_codebook(dim, bits, uniform), signs),
                 uniform, with_details=width == number % len(widths))
        for width, (bits, uniform) in enumerate(widths)
    ]
    return {"dim": dim, "rounds": rounds, "seed": SEED, "rows": f32(rows), "query": f32(query),
            "cases": cases}


def sketch_row(dim, encode):
    """The first test row none of whose signs is a matter of rounding, and what `encode` makes of
    it (the margin last)."""
    for seed in range(4000 + dim, 5000 + dim):
        row = test_rows(1, dim, seed)[0]
        encoded = encode(row)
        if encoded[-1] > SIGN_MARGIN:
            return row, encoded
    raise RuntimeError("no row with a margin")


def sketch_golden():
    sketches, prods = [], []
    for dim, sketch_rows, kind in ((5, 5, "orthogonal"), (5, 12, "orthogonal"),
                                   (5, 11, "gaussian"), (80, 80, "orthogonal"),
                                   (64, 100, "orthogonal"), (64, 70, "gaussian")):
        sketch = qjl.Sketch(dim, sketch_rows, kind, SEED)
        row, (negative, norm, _) = sketch_row(dim, sketch.encode)
        sketches.append({
            "dim": dim, "sketch_rows": sketch_rows, "kind": kind, "seed": SEED,
            "constant": sketch.constant, "row": f32(row), "signs": qjl.pack_signs(negative).hex(),
            "norm_f32": f32(norm), "norm_f16": f16(mse.to_f16(norm)),
            "decoded": f32(sketch.decode(negative, mse.to_f16(norm))),
        })
    for dim, bits, rounds, kind, sketch_rows in ((5, 3, 2, "orthogonal", 5),
                                                 (64, 2, 1, "gaussian", 64),
                                                 (80, 4, 2, "orthogonal", 80),
                                                 (128, 3, 3, "orthogonal", 150)):
        quantizer = prod.ProdQuantizer(dim, bits, rounds, SEED, kind, sketch_rows)
        row, (codes, norm, negative, residual_norm, _) = sketch_row(dim, quantizer.encode)
        prods.append({
            "dim": dim, "bits": bits, "rounds": rounds, "kind": kind, "sketch_rows": sketch_rows,
            "seed": SEED, "row": f32(row), "codes": mse.pack(codes, bits - 1).hex(),
            "norm_f16": f16(mse.to_f16(norm)), "signs": qjl.pack_signs(negative).hex(),
            "residual_norm_f16": f16(mse.to_f16(residual_norm)),
            "decoded": f32(quantizer.decode(codes, norm, negative, residual_norm)),
        })
    return {"sketches": sketches, "prods": prods}


def write(path, golden):
    """One case a line, so that a change shows where it is."""
    text = json.dumps(golden)
    for opening in ('{"seed"', '{"dim"', '{"bits"'):
        text = text.replace(opening, "\n" + opening)
    path.write_text(text + "\n", encoding="ascii")
    print(f"{path.name}: {path.stat().st_size} bytes")


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "random.json", random_golden())
    write(folder / "rotation.json", rotation_golden())
    write(folder / "codebook.json", codebook_golden())
    write(folder / "mse.json", {
        "candidates_q14": mse.CANDIDATES_Q14,
        "dims": [mse_golden(i, dim) for i, dim in enumerate(MSE_DIMS)],
    })
    write(folder / "sketch.json", sketch_golden())


if __name__ == "__main__":
    main()
