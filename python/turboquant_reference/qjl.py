"""The sign sketch (QJL): S row, its signs, and the estimate of an inner product from them."""

import math

import numpy as np

from .mse import norm_squared
from .random import stream_normals
from .rotation import dense_matrix, rotate, rotation_matrix, round_signs

FIRST_STAGE = 1  # of the first orthogonal matrix and of the Gaussian one
FURTHER_STAGES = 128
NORMALS_ROUND = 255
SMALLEST_HADAMARD_DIM = 32
HADAMARD_ROUNDS = 3


def direction(row):
    """row / norm, each coordinate rounded to float32 once; and the norm."""
    norm = math.sqrt(norm_squared(row))
    if norm == 0.0:
        return np.zeros_like(row), 0.0
    return (row.astype(np.float64) / norm).astype(np.float32), norm


class Sketch:
    """`rows` signs of a row of `dim`. Gaussian: S of independent N(0, 1). Orthogonal: rows of
    orthogonal matrices of length sqrt(dim), Hadamard of three rounds from 32 dims on, dense below."""

    def __init__(self, dim, rows, kind, seed):
        self.dim, self.rows, self.kind = dim, rows, kind
        self.rotations = []  # signs of Hadamard rounds, where they are used
        if kind == "gaussian":
            normals = stream_normals(rows * dim, seed, stage=FIRST_STAGE, round=NORMALS_ROUND)
            self.matrix = normals.astype(np.float32).astype(np.float64).reshape(rows, dim)
            self.constant = math.sqrt(math.pi / 2.0) / rows
            return
        matrices = []
        for which in range(-(-rows // dim)):
            stage = FIRST_STAGE if which == 0 else FURTHER_STAGES + which - 1
            if dim < SMALLEST_HADAMARD_DIM:
                matrices.append(dense_matrix(dim, seed, stage=stage))
            else:
                self.rotations.append(round_signs(dim, HADAMARD_ROUNDS, seed, stage=stage))
                matrices.append(rotation_matrix(dim, self.rotations[-1]))
        self.matrix = math.sqrt(dim) * np.concatenate(matrices)[:rows]
        # 1 / (rows · E|z|), z a coordinate of a uniform point on the sphere of radius sqrt(dim).
        gamma = math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
        self.constant = math.sqrt(math.pi / dim) * gamma / rows

    def project(self, row):
        """S row. In float32 through the rounds where the format does it so."""
        if not self.rotations:
            return self.matrix @ row.astype(np.float64)
        projected = np.concatenate([rotate(row, signs) for signs in self.rotations])
        return projected[:self.rows] * np.float32(math.sqrt(self.dim))

    def encode(self, row):
        """Negative signs as booleans, the norm, and the smallest |projection| (how near a sign was
        to flipping)."""
        unit, norm = direction(row)
        projected = self.project(unit)
        return projected < 0.0, norm, float(np.min(np.abs(projected)))

    def decode(self, negative, norm):
        return self.constant * float(norm) * (self.matrix.T @ np.where(negative, -1.0, 1.0))


def pack_signs(negative):
    """Sign j is bit j of a little-endian stream, 1 = negative."""
    return np.packbits(negative.astype(np.uint8), bitorder="little").tobytes()
