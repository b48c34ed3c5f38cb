"""A transformer's block as one operation: equal to its parts, one after another."""
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import functional as F

from .checks import check_same
from .strategies import array

pytestmark = pytest.mark.usefixtures("device")


@given(st.integers(1, 2), st.integers(1, 4), st.sampled_from([(1, 2), (2, 1), (2, 2)]), st.integers(1, 4),
       st.sampled_from([1e-5, 0.1]), st.data())
def test_gpt2_block(B, T, heads, inner, eps, data):
    n_head, D = heads
    C = n_head * D
    shapes = (C,), (C,), (3 * C, C), (3 * C,), (C, C), (C,), (C,), (C,), (inner, C), (inner,), (C, inner), (C,)
    x, *weights = [data.draw(array(s)) for s in ((B, T, C), *shapes)]

    def fused(x, *p):
        layers = [SimpleNamespace(weight=w, bias=b) for w, b in zip(p[::2], p[1::2])]
        return F.gpt2_block(x, layers, n_head=n_head, eps=eps)

    def composed(x, *p):
        ln1, qkv, mix, ln2, fc, narrow = zip(p[::2], p[1::2])
        h = x + F.linear(F.qkv_attention(F.linear(F.layer_norm(x, *ln1, eps=eps), *qkv), n_head), *mix)
        wide = F.gelu(F.linear(F.layer_norm(h, *ln2, eps=eps), *fc), approximate="tanh")
        return h + F.linear(wide, *narrow)

    check_same(fused, composed, uneven(x), *weights)


def uneven(x):
    """Rows that are no constants, which layer norm magnifies."""
    return x * np.arange(1, x.shape[-1] + 1) + np.arange(x.shape[-1])
