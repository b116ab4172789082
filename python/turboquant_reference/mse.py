"""TurboQuant-MSE: rows to codes and scales, back to rows, and scores of queries in digits."""

import math
from dataclasses import dataclass

import numpy as np

from .codebook import Codebook
from .rotation import growth, rotate_unnormalised

GRID_PER_SIGMA = 4096
GRID_MAX = 32767
# .80 .83 .86 .89 .92 .95 .98 1.0 1.03 1.06 1.09 1.13 1.17 1.21 1.26 1.30 in Q14.
CANDIDATES_Q14 = [round(c * 16384) for c in (0.80, 0.83, 0.86, 0.89, 0.92, 0.95, 0.98, 1.0, 1.03,
                                             1.06, 1.09, 1.13, 1.17, 1.21, 1.26, 1.30)]
SCALES = ("norm", "matched", "least-squares", "unbiased")


def norm_squared(row):
    """16 sums in turn, then pairwise, in float64."""
    padded = np.zeros(-(-row.size // 16) * 16)
    padded[:row.size] = row
    sums = np.zeros(16)
    for group in (padded * padded).reshape(-1, 16):
        sums = sums + group
    while sums.size > 1:
        sums = sums[0::2] + sums[1::2]
    return float(sums[0])


def prescale_exponent(norm):
    """Rows with a norm outside [2^-40, 2^40] are multiplied by 2^-this first."""
    if 2.0**-40 <= norm <= 2.0**40:
        return 0
    return min(max(math.frexp(norm)[1] - 1, -126), 126)


@dataclass(frozen=True)
class Quantizer:
    codebook: Codebook
    signs: list  # of the rotation's rounds

    @property
    def dim(self):
        return self.codebook.dim

    @property
    def sigma_step(self):
        """A level on the scale of a unit row."""
        return self.codebook.step / math.sqrt(self.dim)

    def thresholds(self):
        boundaries = [self.codebook.boundary(i) for i in range(len(self.codebook.levels) - 1)]
        return np.array([math.floor(GRID_PER_SIGMA * boundary) for boundary in boundaries])

    def grid(self, row):
        """Rotated coordinates in integers, 4096 to a sigma; and the row's norm."""
        norm = math.sqrt(norm_squared(row))
        if norm == 0.0:
            return None, 0.0
        exponent = prescale_exponent(norm)
        row = row * np.float32(2.0**-exponent)
        gain = np.float32(GRID_PER_SIGMA * math.sqrt(self.dim) / growth(self.dim, len(self.signs)) /
                          math.ldexp(norm, -exponent))
        y = rotate_unnormalised(row, self.signs) * gain
        return np.rint(np.clip(y, -GRID_MAX, GRID_MAX)).astype(np.int64), norm

    def nearest(self, grid):
        """Upper cell exactly where the coordinate is beyond the threshold."""
        return np.sum(grid[:, None] > self.thresholds()[None, :], axis=1)

    def sums(self, grid, codes):
        levels = self.codebook.levels[codes].astype(np.int64)
        return int(np.sum(grid * levels)), int(np.sum(levels * levels))

    def search(self, grid):
        """Codes of the pre-scale with the best cosine, the first on a tie."""
        best = None
        for q14 in CANDIDATES_Q14:
            scaled = np.clip((grid * q14 + 8192) >> 14, -GRID_MAX - 1, GRID_MAX)
            codes = self.nearest(scaled)
            grid_level, level_level = self.sums(grid, codes)
            cosine = -1.0
            if grid_level > 0:
                cosine = float(grid_level) * float(grid_level) / float(level_level)
            if best is None or cosine > best[0]:
                best = (cosine, codes)
        return best[1]

    def encode(self, row, search):
        """Codes and the four scales, each before it is rounded to its type."""
        grid, norm = self.grid(row)
        if grid is None:
            return np.zeros(self.dim, dtype=np.int64), dict.fromkeys(SCALES, 0.0)
        codes = self.search(grid) if search else self.nearest(grid)
        grid_level, level_level = self.sums(grid, codes)
        inner = grid_level * (self.sigma_step / (GRID_PER_SIGMA * math.sqrt(self.dim)))
        centroid_norm2 = level_level * (self.sigma_step * self.sigma_step)
        return codes, {
            "norm": norm,
            "matched": norm / math.sqrt(centroid_norm2),
            "least-squares": norm * inner / centroid_norm2,
            "unbiased": norm / inner,
        }

    def decode(self, codes, scale, matrix):
        """scale · Πᵀ centroids in float64, Π as a matrix."""
        return float(scale) * (matrix.T @ (self.codebook.levels[codes] * self.sigma_step))

    def query_digits(self, query, digits):
        """Integers of two 7-bit digits (±8127) or one (±63), and what a sum times a scale is
        multiplied by."""
        largest_digit = np.float32(8127 if digits == 2 else 63)
        norm = math.sqrt(norm_squared(query))
        exponent = prescale_exponent(norm)
        rotated = rotate_unnormalised(query * np.float32(2.0**-exponent), self.signs)
        largest = np.max(np.abs(rotated))
        inverse_step = np.float32(float(largest_digit) / float(largest))
        integers = np.rint(np.clip(rotated * inverse_step, -largest_digit, largest_digit))
        step = float(largest) / float(largest_digit)
        factor = np.float32(
            math.ldexp(step / growth(self.dim, len(self.signs)) * self.sigma_step, exponent))
        return integers.astype(np.int64), factor

    def score(self, integers, factor, codes, scale):
        total = int(np.sum(integers * self.codebook.levels[codes].astype(np.int64)))
        return np.float32(total) * factor * np.float32(scale)


def to_f16(number):
    """A stored scale: to float32 first, then to binary16, both to nearest even."""
    return np.float32(number).astype(np.float16)


def pack(codes, bits):
    """Code j in bits [j·bits, (j+1)·bits) of a little-endian stream."""
    planes = (np.asarray(codes)[:, None] >> np.arange(bits)) & 1
    return np.packbits(planes.reshape(-1).astype(np.uint8), bitorder="little").tobytes()


def unpack(packed, bits, count):
    planes = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")
    return planes[:count * bits].reshape(count, bits) @ (1 << np.arange(bits))


