"""Inputs for experiments: few and round numbers, so that the smallest input that breaks an answer can be read."""
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

ROUND = st.integers(-4, 4).map(lambda n: n / 2)           # −2, −1.5, … 2: exact in binary, and shrunk towards 0


def numbers(shape, elements=ROUND):
    """One float64 array of that shape (a tuple, or a strategy of tuples)."""
    return arrays(np.float64, shape, elements=elements)


def one_shape(key, *, least=0, most=2, size=3):
    """A shape of `least` to `most` axes of 1 to `size` elements: the same one for all arrays of an experiment that use
    `key`."""
    return st.shared(st.lists(st.integers(1, size), min_size=least, max_size=most).map(tuple), key=key)
