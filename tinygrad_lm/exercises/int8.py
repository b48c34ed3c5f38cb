"""Weights in a quarter of their room.

A weight in float32 takes four bytes. As a whole number from −127 to 127 it takes one, an int8, if one knows what a step is
worth. Every row w of the matrix has a step of its own, the scale, made such that its largest weight by size is ±127:

    scale = max |wᵢ| / 127        codeᵢ = wᵢ / scale, rounded to the nearest whole number        wᵢ ≈ codeᵢ · scale

No weight is then further than half a step from what it becomes. A row of zeros has no largest weight: its codes are 0, and
nothing may be divided by 0 on the way.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "The scale is one number for each row, so the maximum is taken along the last axis, of the weights without their sign.",
    "To divide (out, in) by (out,) row for row, the scale needs a second axis: scale[:, None].",
    "Divide a row of zeros by 1 instead: step = np.where(scale == 0, 1, scale).",
    "np.rint rounds to the nearest whole number, and .astype(np.int8) stores it in a byte. astype alone cuts off.",
)


def int8_rows(w):
    """(codes int8 (out, in), scale float (out,)) with w ≈ codes · scale[:, None].

    w: float (out, in)
    """
    scale = abs(w).max(-1) / 127
    step = np.where(scale == 0, 1, scale)[:, None]                     # (out, 1)
    return np.rint(w / step).astype(np.int8), scale


ANSWER = int8_rows

SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3))
WEIGHTS = SHAPES.flatmap(lambda shape: numbers(shape, st.sampled_from((1.0, -1.0, 0.3, 4.0, -4.0, 0.0))))


@holds("The codes are int8, one for each weight, and there is a scale for each row", w=WEIGHTS)
def fits(answer, w):
    codes, scale = map(np.asarray, answer(w))
    said = "codes {} {}, scale {}".format
    return said(codes.dtype, codes.shape, scale.shape), said("int8", w.shape, w.shape[:1])


@holds("The largest weight of every row, whatever its sign, has the code 127 or −127", w=WEIGHTS)
def all_of_the_range(answer, w):
    codes, _ = answer(w)
    return abs(codes.astype(np.int64)).max(-1), np.where(w.any(-1), 127, 0)


@holds("No weight is further than half a step from what its code stands for", w=WEIGHTS)
def nearest(answer, w):
    codes, scale = answer(w)
    half = abs(w).max(-1, keepdims=True) / 127 / 2
    back = codes * scale[:, None]
    return back, np.clip(back, w - half, w + half)


@holds("A row of zeros comes back as zeros, and nothing is divided by 0", w=SHAPES.map(np.zeros))
def zeros(answer, w):
    with np.errstate(divide="raise", invalid="raise"):
        codes, scale = answer(w)
        return codes * scale[:, None], w


PROPERTIES = (fits, all_of_the_range, nearest, zeros)


@mistake("the scale is that of the whole matrix: a row of large weights takes the precision of the others", caught_by=fits)
def one_scale(w):
    scale = abs(w).max() / 127
    return np.rint(w / scale).astype(np.int8), scale


@mistake("the codes are cut off towards 0, not rounded to the nearest", caught_by=nearest)
def cut_off(w):
    scale = abs(w).max(-1) / 127
    return (w / np.where(scale == 0, 1, scale)[:, None]).astype(np.int8), scale


@mistake("the scale divides by 128: 128 itself is no int8, and wraps round to −128", caught_by=all_of_the_range)
def wraps_round(w):
    scale = abs(w).max(-1) / 128
    return np.rint(w / np.where(scale == 0, 1, scale)[:, None]).astype(np.int64).astype(np.int8), scale


@mistake("a row of zeros is divided by a scale of 0", caught_by=zeros)
def divided_by_zero(w):
    scale = abs(w).max(-1) / 127
    return np.rint(w / scale[:, None]).astype(np.int8), scale


@mistake("the largest weight is looked for with its sign: a larger negative one does not fit", caught_by=all_of_the_range)
def with_sign(w):
    scale = w.max(-1) / 127
    return np.rint(w / np.where(scale == 0, 1, scale)[:, None]).astype(np.int64).astype(np.int8), scale


@mistake("the codes are whole numbers, but still stored as floats", caught_by=fits)
def still_floats(w):
    codes, scale = int8_rows(w)
    return codes.astype(w.dtype), scale


MISTAKES = (one_scale, cut_off, wraps_round, divided_by_zero, with_sign, still_floats)
