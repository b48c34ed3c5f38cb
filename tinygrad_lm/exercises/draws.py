"""Inputs for experiments: few and round numbers, so that the smallest input that breaks an answer can be read."""
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

ROUND = st.integers(-4, 4).map(lambda n: n / 2)           # −2, −1.5, … 2: exact in binary, and shrunk towards 0


def numbers(shape, elements=ROUND):
    """One float64 array of that shape (a tuple, or a strategy of tuples)."""
    return arrays(np.float64, shape, elements=elements)


@st.composite
def of_one_shape(draw, n, *, most=2, size=3, elements=ROUND):
    """A tuple of n arrays of the same shape, of at most `most` axes of 1 to `size` elements."""
    shape = tuple(draw(st.lists(st.integers(1, size), max_size=most)))
    return tuple(draw(numbers(shape, elements)) for _ in range(n))
