"""What is checked of every operation: its value, its gradient, each gradient alone, and that float32 stays float32. On a
device (`on`) the same checks hold it to what it gives on the host in float64."""
from contextlib import contextmanager

import numpy as np
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, backend, gradcheck

from .strategies import moved

# On a device. Layer norm of two nearly equal numbers sets float32's; all others would do with a tenth of it.
TOLERANCE = {"float64": dict(rtol=1e-9, atol=1e-11), "float32": dict(rtol=5e-4, atol=1e-4)}
device = "cpu"                          # where tensors are made


@contextmanager
def on(where):
    """with on("cuda"): the functions below make their tensors there."""
    global device
    before, device = device, where
    try:
        yield
    finally:
        device = before


def tensor(a, requires_grad=True, *, where=None, dtype=None):
    """A tensor of the array `a` on the device under test, laid out in memory as `a` is on the host."""
    if (where or device) == "cpu":
        return Tensor(a, requires_grad, dtype=dtype)
    return Tensor(moved(a, backend.cuda(), dtype), requires_grad)


def place(model):
    """The model, on the device under test."""
    return model.to(device)


def there(constant, x):
    """A constant, where the tensor x is; of a tuple, each array."""
    if isinstance(constant, tuple):
        return tuple(there(c, x) for c in constant)
    return backend.beside(constant, x.data) if isinstance(constant, np.ndarray) else constant


def check(f, reference, *arrays, rtol=1e-10, atol=1e-12):
    """`f` on tensors has the values of `reference` on arrays, and the gradients of central differences; on a device, what
    it has on the host."""
    if device != "cpu":
        return check_there(f, *arrays)
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


def check_there(f, *arrays):
    """`f` on the device under test, in float64 and in float32, has the values and gradients that it has on the host in
    float64, where `check` holds them to NumPy and to central differences."""
    exact = value_and_gradients(f, *arrays, where="cpu")
    for dtype, tolerance in TOLERANCE.items():
        for ours, theirs in zip(value_and_gradients(f, *arrays, dtype=dtype), exact):
            assert ours.dtype == dtype, f"{dtype} became {ours.dtype}"
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, **tolerance)
    check_each_alone(f, *arrays)


def value_and_gradients(f, *arrays, wanted=None, where=None, dtype=None):
    """f(arrays), and d (Σ wᵢ f(arrays)ᵢ) / d array for each array, with fixed random w; None for those not `wanted`. All
    on the host, wherever it was computed."""
    wanted = [True] * len(arrays) if wanted is None else wanted
    tensors = [tensor(a, w, where=where, dtype=dtype) for a, w in zip(arrays, wanted)]
    y = f(*tensors)
    y.backward(np.random.default_rng(1).standard_normal(y.shape))
    homes = {t.device for t in (y, *tensors)} | {backend.device_of(t.grad) for t in tensors if t.grad is not None}
    assert len(homes) == 1, f"arrays on {homes}"
    return y.numpy(), *(None if t.grad is None else backend.to_host(t.grad) for t in tensors)


def gradients(f, *arrays, wanted=None):
    """The gradients of `value_and_gradients`."""
    return list(value_and_gradients(f, *arrays, wanted=wanted)[1:])


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
