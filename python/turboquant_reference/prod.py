"""TurboQuant-Prod: MSE codes at one bit less, and the sign sketch of what they left over."""

import math

import numpy as np

from .codebook import make_codebook
from .mse import Quantizer, to_f16
from .qjl import Sketch, direction
from .rotation import rotate, rotation_matrix, round_signs


class ProdQuantizer:
    def __init__(self, dim, bits, rounds, seed, kind, sketch_rows):
        self.signs = round_signs(dim, rounds, seed, stage=0)
        self.mse = Quantizer(make_codebook(dim, bits - 1), self.signs)
        self.sketch = Sketch(dim, sketch_rows, kind, seed)
        self.matrix = rotation_matrix(dim, self.signs)

    def centroids(self, codes):
        """On the scale of a unit row, float32."""
        sigma = 1.0 / math.sqrt(self.mse.dim)
        centroids = self.mse.codebook.levels[codes] * self.mse.codebook.step * sigma
        return centroids.astype(np.float32)

    def encode(self, row):
        """Codes, norm, negative signs, residual norm relative to the unit row, sign margin."""
        codes, scales = self.mse.encode(row, search=False)
        residual = rotate(direction(row)[0], self.signs) - self.centroids(codes)
        negative, residual_norm, margin = self.sketch.encode(residual)
        return codes, scales["norm"], negative, residual_norm, margin

    def decode(self, codes, norm, negative, residual_norm):
        """n · Πᵀ (c + constant · gamma · Sᵀ signs), with the numbers as f16 stores them."""
        residual = self.sketch.decode(negative, to_f16(residual_norm))
        return float(to_f16(norm)) * (self.matrix.T @ (self.centroids(codes) + residual))
