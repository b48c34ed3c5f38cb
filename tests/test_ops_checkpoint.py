"""A checkpointed function against the same function called plainly; what else holds of it is in test_recompute.py."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import functional as F

from .checks import check_same

pytestmark = pytest.mark.usefixtures("device")


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_checkpoint(n, depth, seed):
    """Of two inputs, nested, against the plain call and central differences."""
    rng = np.random.default_rng(seed)
    arrays = rng.standard_normal((2, n, 3))

    def layers(around):
        def f(x, y):
            for _ in range(depth):
                x = around(lambda x, y: F.sin(x) * y + around(F.tanh, x), x, y)
            return x + y
        return f

    check_same(layers(F.checkpoint), layers(lambda f, *inputs: f(*inputs)), *arrays)
