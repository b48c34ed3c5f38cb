"""Weights in 8 or 4 bits: a small whole number each, and for every row or group the numbers that turn it back.

A product with them turns back a block at a time into one small buffer: what lies in memory stays small.
"""
import math
import threading

import numpy as np

from ..backend import array_module

GROUP = 32                              # weights of an output that share a scale and a lowest value, in 4 bits
BLOCK = 1 << 18                         # weights that are turned back at once: 1 MB, which stays in the cache
FEW = 32                                # rows of x below which sums are scaled in 4 bits, not weights
_scratch = threading.local()


def int8_rows(w):
    """w (O, I) -> (codes int8 (O, I), scale float32 (O,)) with w ≈ codes · scale: a row's largest weight is ±127."""
    xp = checked(w)
    scale = (abs(w).max(-1, initial=0) / 127).astype(xp.float32)
    step = xp.where(scale == 0, 1, scale)[:, None]                                 # a row of zeros
    return xp.rint(w / step).clip(-127, 127).astype(xp.int8), scale


def int8_weight(codes, scale):
    """What the codes stand for, float32 (O, I); of some rows, if codes and scale are those rows'."""
    return codes * scale[..., None]


def int8_product(x, codes, scale):
    """x Wᵀ: x (N, I) -> (N, O). A row's scale is applied to what the row gives, so that a weight costs a conversion."""
    xp, (O, I) = array_module(x), codes.shape
    y, rows = xp.empty((len(x), O), x.dtype), max(1, BLOCK // max(1, I))
    for start in range(0, O, rows):
        some = codes[start:start + rows]
        w = scratch(some.shape, x)
        w[...] = some
        xp.matmul(x, w.T, out=y[:, start:start + rows])
    y *= scale
    return y


def int4_groups(w, group=GROUP):
    """w (O, I) -> (codes uint8 (G, 16, O), scale, low float16 (G, O)) with w ≈ low + code · scale, code in 0 … 15.

    G groups of 32 neighbouring weights of a row (or of another even number, `group`), the last one filled up with the row's
    last weight. A byte holds two codes, of place i in its low and of i + 16 in its high four bits. Outputs lie along memory,
    as in decode.py. low is rounded downwards and scale upwards to float16, so that the codes' range still covers the group:
    no weight is further than half a scale from what it becomes.
    """
    xp = checked(w, limit=6e4)
    O, I = w.shape
    w = xp.ascontiguousarray(xp.pad(w, ((0, 0), (0, -I % group)), mode="edge").T).reshape(-1, group, O)        # (G, 32, O)
    low = rounded(w.min(1), down=True)
    span = w.max(1) - low.astype(xp.float32)                                       # (G, O)
    scale = rounded(span / 15, down=False)
    step = xp.where(scale == 0, 1, scale.astype(xp.float32))[:, None]
    codes = xp.rint((w - low[:, None].astype(xp.float32)) / step).clip(0, 15).astype(xp.uint8)
    return codes[:, :group // 2] | codes[:, group // 2:] << 4, scale, low


def int4_weight(codes, scale, low):
    """What the codes stand for, transposed: float32 (G, 32, O)."""
    G, half, O = codes.shape
    w = unpacked(codes, array_module(codes).empty((G, 2 * half, O), "f4"))
    w *= from_float16(scale)[:, None]
    w += from_float16(low)[:, None]
    return w


def unpacked(codes, w):
    """Codes, two in a byte, as floats in w: (G, 16, O) -> (G, 32, O)"""
    xp, half, one = array_module(codes), codes.shape[1], scratch(codes.shape, codes)
    w[:, :half] = xp.bitwise_and(codes, 15, out=one)
    w[:, half:] = xp.right_shift(codes, 4, out=one)
    return w


def int4_product(x, codes, scale, low):
    """x Wᵀ: x (N, I) -> (N, O). Of each group Σ (low + cᵢ scale) xᵢ = low Σ xᵢ + scale Σ cᵢ xᵢ.

    So a weight costs its unpacking and a multiplication; where x has many rows, and so many sums, its scaling too.
    """
    xp, (G, half, O), N = array_module(x), codes.shape, len(x)
    size = 2 * half
    x = xp.pad(x, ((0, 0), (0, G * size - x.shape[1]))).reshape(N, G, size)        # zeros meet what filled the last group
    scale = from_float16(scale)[:, None]                                           # (G, 1, O)
    y, groups = x.sum(-1) @ from_float16(low), max(1, BLOCK // (size * O))         # (N, G) @ (G, O)
    for g in range(0, G, groups):
        some = slice(g, g + groups)
        w = unpacked(codes[some], scratch((len(codes[some]), size, O), x))
        if N < FEW:
            sums = x[:, some].swapaxes(0, 1) @ w                                   # (g, N, 32) @ (g, 32, O)
            sums *= scale[some]
            y += sums.sum(0)
        else:
            w *= scale[some]
            y += x[:, some].reshape(N, -1) @ w.reshape(-1, O)
    return y


def scratch(shape, like):
    """An array of the type of `like` for what is needed a moment only. A thread has one of each type and uses it again: memory
    fresh from the system comes page by page, which takes as long as a product."""
    if array_module(like) is not np:                                               # CuPy keeps memory by itself
        return array_module(like).empty(shape, like.dtype)
    n, kept = math.prod(shape), vars(_scratch)
    if like.dtype.char not in kept or kept[like.dtype.char].size < n:
        kept[like.dtype.char] = np.empty(max(n, BLOCK), like.dtype)
    return kept[like.dtype.char][:n].reshape(shape)


def from_float16(x):
    """x as float32, which NumPy's astype does one number at a time: three times slower. The bits of exponent and fraction go
    where float32 has its own, and 2¹¹² makes up for the exponent's other zero; finite numbers come out exactly."""
    xp = array_module(x)
    bits = x.view(xp.int16).astype(xp.int32)                                       # copies of the sign fill the left half
    bits <<= 13
    bits &= -0x70002000                                                            # one sign, 5 bits, 10 bits
    y = bits.view(xp.float32)
    y *= 2.0 ** 112
    return y


def rounded(x, *, down):
    """x as float16, to the neighbour below or above it."""
    xp = array_module(x)
    near = x.astype(xp.float16)
    wrong = near > x if down else near < x
    return xp.where(wrong, xp.nextafter(near, near.dtype.type(-xp.inf if down else xp.inf)), near)


def checked(w, limit=None):
    """The array module of weights that few bits can hold."""
    xp = array_module(w)
    if w.ndim != 2 or not w.size or w.dtype.kind != "f":
        raise ValueError(f"a weight of shape (out, in) is quantised, of floats and not empty, not {w.dtype} {w.shape}")
    bad = ~xp.isfinite(w) if limit is None else ~(abs(w) <= limit)
    if bad.any():
        place = tuple(int(i) for i in xp.argwhere(bad)[0])
        raise ValueError(f"the weight at {place} is {float(w[place])}, one of {int(bad.sum())} that are NaN, infinite"
                         f"{'' if limit is None else f' or larger than {limit:g}'}: such a weight cannot be quantised")
    return xp
