"""Philox4x32-10 streams and the standard normals drawn from them."""

from statistics import NormalDist

import numpy as np

_WORD = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counters, key):
    """Ten rounds on counters [n × 4] of 32-bit words under a key of two (Salmon et al., 2011)."""
    c = np.array(counters, dtype=np.uint64).T
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(10):
        p0 = c[0] * np.uint64(0xD2511F53)  # 32 × 32 bits fit 64
        p1 = c[2] * np.uint64(0xCD9E8D57)
        c = np.stack([
            (p1 >> _HALF) ^ c[1] ^ k0,
            p1 & _WORD,
            (p0 >> _HALF) ^ c[3] ^ k1,
            p0 & _WORD,
        ])
        k0 = (k0 + np.uint64(0x9E3779B9)) & _WORD
        k1 = (k1 + np.uint64(0xBB67AE85)) & _WORD
    return c.T.astype(np.uint32)


def stream_words(count, seed, layer=0, head=0, side=0, stage=0, round=0):
    """First `count` words of a stream: the block number is the lower half of the counter, the
    stream's fields the upper."""
    stream = layer | head << 20 | side << 40 | stage << 48 | round << 56
    blocks = -(-count // 4)
    counters = np.zeros((blocks, 4), dtype=np.uint64)
    counters[:, 0] = np.arange(blocks)
    counters[:, 2] = stream & 0xFFFFFFFF
    counters[:, 3] = stream >> 32
    return philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[:count]


def stream_bits(count, seed, **stream):
    """Bit j is bit j % 32 of word j // 32; 1 is a negative sign."""
    words = stream_words(-(-count // 32), seed, **stream).astype("<u4")
    return np.unpackbits(words.view(np.uint8), bitorder="little")[:count]


def stream_uniforms(count, seed, **stream):
    """The middle of one of 2^52 cells of (0, 1), from two words, the low one first."""
    words = stream_words(2 * count, seed, **stream).astype(np.uint64).reshape(-1, 2)
    word = words[:, 0] | words[:, 1] << _HALF
    return ((word >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def stream_normals(count, seed, **stream):
    """N(0, 1) quantiles of the uniforms. Python's inv_cdf is Wichura's AS 241 as well."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(p) for p in stream_uniforms(count, seed, **stream)])
