"""The halves of a transformer's block as one operation each: equal to their parts, one after another."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import functional as F

from .checks import check_same
from .strategies import array

pytestmark = pytest.mark.usefixtures("device")


@given(st.integers(1, 2), st.integers(1, 4), st.sampled_from([(1, 2), (2, 1), (2, 2)]), st.sampled_from([1e-5, 0.1]), st.data())
def test_attention_half(B, T, heads, eps, data):
    n_head, D = heads
    C = n_head * D
    x, *weights = [data.draw(array(s)) for s in ((B, T, C), (C,), (C,), (3 * C, C), (3 * C,), (C, C), (C,))]

    def fused(x, g, b, w, c, w2, c2):
        return F.attention_half(x, (g, b), (w, c), (w2, c2), n_head=n_head, eps=eps)

    def composed(x, g, b, w, c, w2, c2):
        qkv = F.linear(F.layer_norm(x, g, b, eps=eps), w, c)
        return x + F.linear(F.qkv_attention(qkv, n_head), w2, c2)

    check_same(fused, composed, uneven(x), *weights)


@given(st.sampled_from([(2,), (1, 3), (2, 2, 2)]), st.integers(2, 3), st.integers(1, 4), st.sampled_from([1e-5, 0.1]), st.data())
def test_mlp_half(rows, C, inner, eps, data):
    x, *weights = [data.draw(array(s)) for s in ((*rows, C), (C,), (C,), (inner, C), (inner,), (C, inner), (C,))]

    def fused(x, g, b, w, c, w2, c2):
        return F.mlp_half(x, (g, b), (w, c), (w2, c2), eps=eps)

    def composed(x, g, b, w, c, w2, c2):
        wide = F.gelu(F.linear(F.layer_norm(x, g, b, eps=eps), w, c), approximate="tanh")
        return x + F.linear(wide, w2, c2)

    check_same(fused, composed, uneven(x), *weights)


def uneven(x):
    """Rows that are no constants, which layer norm magnifies."""
    return x * np.arange(1, x.shape[-1] + 1) + np.arange(x.shape[-1])
