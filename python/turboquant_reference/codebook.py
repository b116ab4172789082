"""Lloyd-Max codebooks of one coordinate, and the integer levels that stand for them.

All lengths are in units of sigma = 1/sqrt(dim).
"""

import math
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.polynomial.legendre import leggauss

_NODES, _WEIGHTS = leggauss(32)

# From 64 dims on: positive levels and their step, frozen.
FROZEN = {
    1: ([127], 0.0062826),
    2: ([33, 110], 0.0137304),
    3: ([10, 31, 55, 88], 0.0244456),
    4: ([5, 15, 25, 36, 48, 62, 79, 104], 0.0262169),
}
UNIFORM_STEP = 0.0308
FINE_STEP = 1.0 / 1024.0
FIRST_GAUSSIAN_DIM = 64


class Density:
    """Of one coordinate of a uniform point on the unit sphere of `dim`, times sqrt(dim); N(0, 1)
    for dim None. Moments by Gauss-Legendre on panels of an angle u, z = sqrt(dim) sin u, in which
    the sphere's density is a power of cos u."""

    def __init__(self, dim=None):
        self.dim = dim
        self.limit = 12.0 if dim is None else math.sqrt(dim)

    def moments(self, edges):
        """∫ 1, z and z² over every cell between ascending edges: [cells × 3]."""
        if self.dim is None:
            scale, u_edges = 1.0, edges
        else:
            scale = math.sqrt(self.dim)
            u_edges = np.arcsin(np.clip(edges / scale, -1.0, 1.0))
        widths = np.diff(u_edges)[:, None, None]
        panels = math.ceil(4.0 * scale * np.max(widths))
        u = (np.arange(panels)[:, None] + 0.5 + 0.5 * _NODES) / panels
        u = u_edges[:-1, None, None] + widths * u
        if self.dim is None:
            z, density = u, np.exp(-0.5 * u * u) / math.sqrt(2.0 * math.pi)
        else:
            constant = math.exp(math.lgamma(self.dim / 2) - math.lgamma((self.dim - 1) / 2))
            z = scale * np.sin(u)
            density = constant / math.sqrt(math.pi) * np.cos(u) ** (self.dim - 2)
        mass = widths / (2.0 * panels) * _WEIGHTS * density
        return np.stack([np.sum(mass * z**power, axis=(1, 2)) for power in (0, 1, 2)], axis=1)

    def density(self, z):
        if self.dim is None:
            return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        constant = math.exp(math.lgamma(self.dim / 2) - math.lgamma((self.dim - 1) / 2))
        return constant / math.sqrt(math.pi * self.dim) * (1.0 - z * z / self.dim) ** (
            0.5 * (self.dim - 3))

    def cells(self, centroids):
        """Moments 0, 1, 2 of every cell of ascending positive centroids, the first from 0."""
        edges = np.concatenate([[0.0], 0.5 * (centroids[1:] + centroids[:-1]), [self.limit]])
        return edges, self.moments(edges)

    def distortion(self, centroids):
        """Mean squared error of ±centroids."""
        _, moments = self.cells(centroids)
        errors = moments[:, 2] - 2.0 * centroids * moments[:, 1] + centroids**2 * moments[:, 0]
        return 2.0 * float(np.sum(errors))


def _start(density, bits):
    """Quantiles of N(0, 3), the density that optimal centroids of N(0, 1) follow, bent into the
    support of a sphere."""
    from statistics import NormalDist
    half = 1 << (bits - 1)
    normal = NormalDist(sigma=math.sqrt(3.0))
    z = np.array([normal.inv_cdf(0.5 + (i + 0.5) / (2 * half)) for i in range(half)])
    return z / np.hypot(1.0, z / density.limit)


def lloyd_max(density, bits):
    """Positive centroids of the fixpoint: each the mean of its cell. Newton on
    centroid · mass - first moment = 0 with its full Jacobian, Lloyd's step where that leaves the
    order."""
    centroids = _start(density, bits)
    half = len(centroids)
    for _ in range(2000):
        edges, moments = density.cells(centroids)
        residual = centroids * moments[:, 0] - moments[:, 1]
        jacobian = np.diag(moments[:, 0])
        for i in range(half - 1):  # the boundary between i and i + 1 moves by half of either
            f = 0.5 * density.density(edges[i + 1])
            for j in (i, i + 1):
                jacobian[i, j] += f * (centroids[i] - edges[i + 1])
                jacobian[i + 1, j] -= f * (centroids[i + 1] - edges[i + 1])
        moved = centroids - np.linalg.solve(jacobian, residual)
        positive = np.all(np.linalg.eigvalsh(0.5 * (jacobian + jacobian.T)) > 0.0)
        if not positive or moved[0] <= 0.0 or moved[-1] >= density.limit or np.any(
                np.diff(moved) <= 0.0):
            moved = moments[:, 1] / moments[:, 0]
        step = np.max(np.abs(moved - centroids))
        centroids = moved
        if step < 1e-12:
            return centroids
    raise RuntimeError("Lloyd-Max did not converge")


def _fit_step(density, levels, step):
    """The step at which levels · step has the smallest distortion: the fixpoint of E z·level /
    E level² over the cells that the step makes, by Aitken's extrapolation of two rounds."""

    def improve(step):
        _, moments = density.cells(levels * step)
        return float(np.sum(levels * moments[:, 1]) / np.sum(levels**2 * moments[:, 0]))

    for _ in range(100):
        first = improve(step)
        second = improve(first)
        bend = second - 2.0 * first + step
        if abs(first - step) < 1e-15 or bend == 0.0:
            return second
        step = step - (first - step) ** 2 / bend
    raise RuntimeError("the step did not converge")


def fit_levels(density, bits):
    """int8 levels up to 4 bits: for every top = 64…127 the centroids rounded to top/largest, the
    step at its fixpoint; the smallest distortion wins, the smaller top on a tie. Proportional
    levels (21 70 and 33 110) are such a tie, so a gain below 1e-12 is none."""
    centroids = lloyd_max(density, bits)
    if bits == 1:
        return [127], float(centroids[0]) / 127
    best = None
    for top in range(64, 128):
        levels = np.round(top * centroids / centroids[-1])
        step = _fit_step(density, levels, centroids[-1] / top)
        distortion = density.distortion(levels * step)
        if best is None or distortion < best[0] * (1.0 - 1e-12):
            best = (distortion, levels.astype(int).tolist(), step)
    return best[1], best[2]


@dataclass(frozen=True)
class Codebook:
    """Centroid i is levels[i] · step sigma, ascending."""

    dim: int
    bits: int
    levels: np.ndarray = field(repr=False)
    step: float

    def boundary(self, i):
        return 0.5 * (int(self.levels[i]) + int(self.levels[i + 1])) * self.step

    def fingerprint(self):
        """CRC-32 of the int16 levels and the binary64 step, little-endian."""
        crc = zlib.crc32(self.levels.astype("<i2").tobytes())
        return zlib.crc32(np.array(self.step, dtype="<f8").tobytes(), crc)


def make_codebook(dim, bits, uniform=False):
    if uniform:
        assert bits == 8
        return Codebook(dim, 8, np.arange(-127, 128), UNIFORM_STEP)
    density = Density(dim if dim < FIRST_GAUSSIAN_DIM else None)
    if bits >= 5:
        centroids = lloyd_max(density, bits)
        levels, step = np.rint(1024.0 * centroids).astype(int).tolist(), FINE_STEP
    elif dim >= FIRST_GAUSSIAN_DIM:
        levels, step = FROZEN[bits]
    else:
        levels, step = fit_levels(density, bits)
        step = float(np.float32(step))  # the last bits of a fit depend on the platform's libm
    both = np.array([-level for level in reversed(levels)] + list(levels))
    return Codebook(dim, bits, both, step)
