"""The seeded orthogonal maps: Hadamard rounds for every dim, and the dense Haar matrix."""

import math

import numpy as np

from .random import stream_bits, stream_normals

DENSE_ROUND = 255


def largest_power_of_two(dim):
    return 1 << (dim.bit_length() - 1)


def round_signs(dim, rounds, seed, **stream):
    """+1 or -1 per round: dim of them, then p further ones where dim is no power of two."""
    p = largest_power_of_two(dim)
    count = dim if p == dim else dim + p
    return [
        1.0 - 2.0 * stream_bits(count, seed, round=round_number, **stream)
        for round_number in range(rounds)
    ]


def _butterflies(x):
    """In place, float32: (a, b) -> (a + b, a - b) for stride 1, 2, ..."""
    stride = 1
    while stride < x.size:
        pairs = x.reshape(-1, 2, stride)
        a, b = pairs[:, 0].copy(), pairs[:, 1].copy()
        pairs[:, 0] = a + b
        pairs[:, 1] = a - b
        stride *= 2


def rotate_unnormalised(row, signs):
    """One row as the kernels do it, in float32. A power-of-two dim has grown by dim^(rounds/2)."""
    x = np.array(row, dtype=np.float32)
    dim, p = x.size, largest_power_of_two(x.size)
    normalise = np.float32(1.0 / math.sqrt(p))
    for round_sign in signs:
        round_sign = round_sign.astype(np.float32)
        x *= round_sign[:dim]
        _butterflies(x[:p])
        if p == dim:
            continue
        x[:p] *= normalise
        tail = x[dim - p:]
        tail *= round_sign[dim:]
        _butterflies(tail)
        tail *= normalise
        x = np.concatenate([x[0::2], x[1::2]])
    return x


def growth(dim, rounds):
    """By how much rotate_unnormalised lengthens a row."""
    if largest_power_of_two(dim) != dim:
        return 1.0
    grown = 1.0
    for _ in range(rounds):
        grown *= math.sqrt(dim)
    return grown


def rotate(row, signs):
    """Π row in float32; the growth of a power-of-two dim is taken back by one multiplication."""
    x = rotate_unnormalised(row, signs)
    dim = x.size
    if largest_power_of_two(dim) == dim:
        halvings = (dim.bit_length() - 1) * len(signs)
        x *= np.float32(math.ldexp(math.sqrt(0.5) if halvings % 2 else 1.0, -(halvings // 2)))
    return x


def _sylvester(n):
    h = np.ones((1, 1))
    while h.shape[0] < n:
        h = np.block([[h, h], [h, -h]])
    return h / math.sqrt(n)


def rotation_matrix(dim, signs):
    """Π itself in float64, composed of matrices: what rotate() has to agree with."""
    p = largest_power_of_two(dim)
    h = _sylvester(p)
    matrix = np.eye(dim)
    for round_sign in signs:
        matrix = round_sign[:dim, None] * matrix
        matrix[:p] = h @ matrix[:p]
        if p == dim:
            continue
        matrix[dim - p:] = h @ (round_sign[dim:, None] * matrix[dim - p:])
        matrix = np.concatenate([matrix[0::2], matrix[1::2]])
    return matrix


def dense_matrix(dim, seed, **stream):
    """Q of A = L Q, L lower triangular with a positive diagonal, A of normals row by row."""
    normals = stream_normals(dim * dim, seed, round=DENSE_ROUND, **stream).reshape(dim, dim)
    q, r = np.linalg.qr(normals.T)
    return (q * np.sign(np.diag(r))).T
