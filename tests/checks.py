"""What is checked of every operation: its value, its gradient, each gradient alone, and that float32 stays float32."""
import numpy as np
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, gradcheck


def check(f, reference, *arrays, rtol=1e-10, atol=1e-12):
    """`f` on tensors has the values of `reference` on arrays, and the gradients of central differences."""
    tensors = [Tensor(a, True) for a in arrays]
    y = f(*tensors)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.data, reference(*arrays), rtol=rtol, atol=atol, strict=True)
    gradcheck(f, *tensors)
    check_each_alone(f, *arrays)
    check_single_precision(f, *arrays)


def check_same(fused, composed, *arrays, rtol=1e-9, atol=1e-11):
    """`fused` equals `composed`, both on tensors, in value and in gradient; and both equal central differences."""
    check(fused, lambda *a: composed(*map(Tensor, a)).data, *arrays, rtol=rtol, atol=atol)
    for ours, theirs in zip(gradients(fused, *arrays), gradients(composed, *arrays)):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, strict=True)


def gradients(f, *arrays, wanted=None):
    """d (Σ wᵢ f(arrays)ᵢ) / d array for each array, with fixed random w; None for those not `wanted`."""
    wanted = [True] * len(arrays) if wanted is None else wanted
    tensors = [Tensor(a, w) for a, w in zip(arrays, wanted)]
    y = f(*tensors)
    y.backward(np.random.default_rng(1).standard_normal(y.shape))
    return [t.grad for t in tensors]


def check_each_alone(f, *arrays):
    """A gradient is the same when it is the only one wanted, and the others are not computed then."""
    together = gradients(f, *arrays)
    for i in range(len(arrays)):
        alone = gradients(f, *arrays, wanted=[j == i for j in range(len(arrays))])
        assert [g is not None for g in alone] == [j == i for j in range(len(arrays))]
        np.testing.assert_allclose(alone[i], together[i], rtol=1e-12, atol=1e-14, strict=True)


def check_single_precision(f, *arrays):
    """float32 in, float32 out and back, and near what float64 says."""
    small = [a.astype(np.float32) for a in arrays]
    y = f(*(Tensor(a, True) for a in small))
    assert y.dtype == np.float32, f"float32 became {y.dtype}"
    for a, g, exact in zip(small, gradients(f, *small), gradients(f, *arrays)):
        assert g.dtype == np.float32 and g.shape == a.shape
        np.testing.assert_allclose(g, exact, rtol=1e-3, atol=1e-3)


def holds(f, reference, strategy):
    """The test that `f` passes `check` on what `strategy` draws: an array, or a list of arrays."""
    @given(strategy)
    def test(drawn):
        check(f, reference, *(drawn if isinstance(drawn, list) else [drawn]))
    return test


def holds_with(strategy, draw_options):
    """The same where the function depends on the arrays: `draw_options(draw, *arrays)` gives (f, reference)."""
    @given(strategy, st.data())
    def test(drawn, data):
        arrays = drawn if isinstance(drawn, list) else [drawn]
        check(*draw_options(data.draw, *arrays), *arrays)
    return test
