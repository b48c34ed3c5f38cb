"""What the properties are tried on: float64 arrays of every small shape, in every layout that memory allows."""
from functools import cache
from itertools import product, zip_longest

import numpy as np
from hypothesis import strategies as st

LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T.copy().T,
    "backwards": lambda x: np.flip(np.flip(x).copy()),                      # negative strides
    "strided": lambda x: spaced(x),                                         # every other element of a larger array
}


def spaced(x):
    room = np.full([2 * n for n in x.shape], np.nan)
    view = room[(slice(None, None, 2),) * x.ndim + (...,)]
    view[...] = x
    return view


def moved(x, xp, dtype=None):
    """x as an array of the module `xp`, in the same layout: asarray alone would lay most of them out anew."""
    dtype, backwards = dtype or x.dtype, (slice(None, None, -1),) * x.ndim
    if x.flags.c_contiguous:
        return xp.asarray(x, dtype)
    if x.flags.f_contiguous:
        return xp.asarray(x.T, dtype).T
    if min(x.strides) < 0:
        return xp.asarray(x[backwards], dtype)[backwards]
    room = xp.full([2 * n for n in x.shape], np.nan, dtype)
    view = room[(slice(None, None, 2),) * x.ndim]
    view[...] = xp.asarray(x, dtype)
    return view


def shapes(*, least=0, most=3, sizes=(1, 2, 3, 4)):
    """Shapes of `least` to `most` axes; size 1 among them, for broadcasting. Add 0 to `sizes` for empty arrays."""
    return st.sampled_from(every_shape(least, most, sizes))


@cache
def every_shape(least, most, sizes):
    return [shape for n in range(least, most + 1) for shape in product(sizes, repeat=n)]


@cache
def every_broadcast(n, sizes):
    """All n-tuples of shapes that broadcast: drawn as one, because drawn apart most would be (1,) with ()."""
    def fit(*shapes):
        axes = zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1)
        return all(len({*sizes} - {1}) <= 1 for sizes in axes)
    return [shapes for shapes in product(every_shape(0, 3, sizes), repeat=n) if fit(*shapes)]


def uniform(low=-2.0, high=2.0):
    return lambda rng, shape: rng.uniform(low, high, shape)


def away_from_zero(rng, shape):
    """±[0.1, 2]: for functions with a kink at 0."""
    return rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape)


def distinct(rng, shape):
    """No two alike, nor within reach of central differences: for functions with a kink where elements are equal."""
    return (rng.permutation(int(np.prod(shape))).reshape(shape) - 3) * 0.3


def lattice(offset):
    """offset + multiples of 0.4: numbers on two lattices are never equal, nor near."""
    return lambda rng, shape: offset + 0.4 * rng.integers(-4, 5, shape)


@st.composite
def array(draw, shape=None, values=uniform()):
    """One float64 array. The seed is drawn, not the elements: quick, and a failure still shrinks to a small shape."""
    shape = draw(shapes() if shape is None else shape if isinstance(shape, st.SearchStrategy) else st.just(shape))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = np.asarray(values(rng, shape), np.float64)
    return np.asarray(LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](x))


@st.composite
def broadcastable(draw, *values, sizes=(1, 2, 3)):
    """An array for each of `values`, whose shapes broadcast against each other."""
    shapes = draw(st.sampled_from(every_broadcast(len(values), sizes)))
    return [draw(array(shape, v)) for shape, v in zip(shapes, values)]


def axes_of(x, *, several=True):
    """An axis of x as reductions take it: None, a number from either end, or several."""
    one = st.integers(-x.ndim, x.ndim - 1) if x.ndim else st.none()
    many = st.lists(st.integers(0, max(x.ndim - 1, 0)), unique=True, max_size=x.ndim).map(tuple)
    return st.one_of(st.none(), one, many) if several else one
