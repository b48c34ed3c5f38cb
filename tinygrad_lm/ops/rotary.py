"""Rotary positions: each pair of channels is turned by an angle that grows with the position, so that the product of a
query and a key depends on how far apart they are (Su et al. 2021 [ROPE], eq. 34)."""
from ..backend import array_module


def rotary_forward(x, *, cos, sin):                      # x (B, H, T, D); cos, sin (T, R/2) or (B, 1, T, R/2)
    """Channels i and i + R/2 of the first R are turned by angle θᵢ: (a cos θ − b sin θ, b cos θ + a sin θ); the other
    D − R stay."""
    half = cos.shape[-1]
    if 2 * half > x.shape[-1]:
        raise ValueError(f"{half} angles turn {2 * half} channels, and there are {x.shape[-1]}")
    return turned(x, cos, sin), (cos, sin)


def rotary_backward(dy, saved):
    """Back by the same angle: a rotation's transpose is its inverse"""
    cos, sin = saved
    return turned(dy, cos, -sin),


def turned(x, cos, sin):
    half = cos.shape[-1]
    a, b = x[..., :half], x[..., half:2 * half]
    y = array_module(x).empty_like(x)
    y[..., :half] = a * cos - b * sin
    y[..., half:2 * half] = b * cos + a * sin
    y[..., 2 * half:] = x[..., 2 * half:]
    return y
