"""The angles of rotary positions [ROPE], and how they are stretched for texts longer than a model was trained on."""
from functools import lru_cache

import numpy as np

from ..backend import beside


def rotary_angles(config, positions, like):
    """(cos, sin) of every position's angles, for `functional.rotary`, of the type and on the device of `like`.

    positions int (T,) or (B, T), on any device -> (T, R/2) or (B, 1, T, R/2)
    """
    cos, sin = _table(frequencies(config), config.block_size, like.dtype)
    positions = beside(positions, like)
    cos, sin = beside(cos, like)[positions], beside(sin, like)[positions]
    return (cos, sin) if positions.ndim == 1 else (cos[:, None], sin[:, None])


def frequencies(config):
    """Radians a position, one for each pair of the channels that turn: θᵢ = theta^(−2i/R)  ([ROPE], eq. 15)

    stretched as `config.rope_scaling` says, a dict with "kind" and numbers:
    "linear", factor: positions lie `factor` times closer (Chen et al. 2023 [PI]).
    "ntk", factor: theta grows, so that the slowest pair is stretched `factor` times and the fastest hardly at all.
    "llama3", factor, low, high, length: pairs that turn more than `high` times within `length`, the context of the training,
    stay, those that turn less than `low` times are stretched by `factor`, and between them it passes smoothly (LLaMA 3.1,
    Grattafiori et al. 2024 [LLAMA3]).
    """
    R, scaling = rotated_channels(config), config.rope_scaling or {"kind": "default"}
    f = stretched_theta(config) ** (-np.arange(0, R, 2) / R)
    if scaling["kind"] == "linear":
        f /= scaling["factor"]
    if scaling["kind"] == "llama3":
        turns = scaling["length"] * f / (2 * np.pi)
        kept = np.clip((turns - scaling["low"]) / (scaling["high"] - scaling["low"]), 0, 1)
        f *= kept + (1 - kept) / scaling["factor"]
    return tuple(f.tolist())


def stretched_theta(config):
    """theta, larger where the scaling is "ntk"."""
    R, scaling = rotated_channels(config), config.rope_scaling or {"kind": "default"}
    return config.rope_theta * (scaling["factor"] ** (R / max(R - 2, 1)) if scaling["kind"] == "ntk" else 1)


def rotated_channels(config):
    """How many channels of a head turn: R. Where it is odd, its last channel turns with the next, as in GPT-NeoX."""
    return int(config.rotary_share * config.head_size)


@lru_cache(maxsize=16)
def _table(frequencies, length, dtype):
    angles = np.outer(np.arange(length), frequencies)                              # float64: (length, R/2)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
