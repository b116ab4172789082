"""Rotary position embedding: frequencies, and the two scalings that config.json and we know."""

import math
from dataclasses import dataclass

import numpy as np

from turboquant_tools.errors import ToolError

# What every Llama 3 uses; GGUF keeps only the factors that follow from them.
LLAMA3_LOW_FACTOR = 1.0
LLAMA3_HIGH_FACTOR = 4.0
LLAMA3_ORIGINAL_POSITIONS = 8192


@dataclass(frozen=True)
class Rope:
    """Turns the first rotary_dim coordinates of a head; coordinate i with i + rotary_dim / 2."""

    theta: float
    rotary_dim: int
    scaling: dict | None = None  # as rope_scaling of config.json: rope_type, factor, ...

    def inverse_frequencies(self):
        """Radians a position, rotary_dim / 2 of them, float64."""
        exponents = np.arange(0, self.rotary_dim, 2, dtype=np.float64) / self.rotary_dim
        frequencies = self.theta**-exponents
        if self.scaling is None:
            return frequencies
        if self.scaling["rope_type"] == "linear":
            return frequencies / self.scaling["factor"]
        return frequencies / llama3_factors(frequencies, self.scaling)

    def tables(self, positions):
        """Cosines and sines [positions, rotary_dim / 2], float32 of float64 angles."""
        angles = np.outer(np.arange(positions, dtype=np.float64), self.inverse_frequencies())
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def llama3_scaling(factor, low=LLAMA3_LOW_FACTOR, high=LLAMA3_HIGH_FACTOR,
                   original_positions=LLAMA3_ORIGINAL_POSITIONS):
    return {
        "rope_type": "llama3",
        "factor": float(factor),
        "low_freq_factor": float(low),
        "high_freq_factor": float(high),
        "original_max_position_embeddings": int(original_positions),
    }


def llama3_factors(frequencies, scaling):
    """What Llama 3 divides each frequency by: 1 for short waves, `factor` for long ones, and in
    between a mean weighted by where the wave's length lies."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    waves = scaling["original_max_position_embeddings"] * frequencies / (2.0 * math.pi)
    share = np.clip((waves - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1.0 - share) / scaling["factor"] + share)


def scaling_of_factors(factors, theta, rotary_dim):
    """The llama3 scaling that gives these factors, which is all that GGUF keeps of it."""
    if len(factors) != rotary_dim // 2 or not np.all(np.isfinite(factors)) or np.min(factors) < 1:
        raise ToolError(f"tensor 'rope_freqs.weight' must hold {rotary_dim // 2} finite numbers "
                        f"from 1 up, one for each pair of {rotary_dim} rotary dims")
    scaling = llama3_scaling(np.max(factors))
    expected = llama3_factors(Rope(theta, rotary_dim).inverse_frequencies(), scaling)
    worst = float(np.max(np.abs(expected / factors - 1.0)))
    if worst > 1e-3:
        raise ToolError(
            f"tensor 'rope_freqs.weight' is off llama3's rule by {worst:.3g} (factor "
            f"{scaling['factor']:g}, low 1, high 4, 8192 positions); config.json knows no other")
    return scaling


def checked_scaling(scaling):
    """rope_scaling of a config.json in the form of Rope.scaling; None where nothing is scaled."""
    if not scaling:
        return None
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    try:
        if kind == "linear":
            return {"rope_type": "linear", "factor": float(scaling["factor"])}
        if kind == "llama3":
            return llama3_scaling(scaling["factor"], scaling["low_freq_factor"],
                                  scaling["high_freq_factor"],
                                  scaling["original_max_position_embeddings"])
    except KeyError as missing:
        raise ToolError(f"rope_scaling of type '{kind}' lacks {missing}") from None
    raise ToolError(f"rope_scaling of type '{kind}' is not supported; there are linear and llama3")
