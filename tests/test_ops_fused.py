"""Operations fused for speed: each equals the same thing composed of small ones, in value and gradient."""
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import functional as F
from tinygrad_lm.backend import to_host

from . import checks
from .checks import check, check_same, gradients, tensor, there, value_and_gradients
from .strategies import array, shapes, uniform

pytestmark = pytest.mark.usefixtures("device")

rows = array(shapes(least=1))
logits = array(shapes(least=2, sizes=(1, 2, 3, 5)), uniform(-3, 3))


@given(rows, st.data())
def test_softmax(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    check_same(lambda x: F.softmax(x, axis=axis),
               lambda x: F.exp(x) / F.sum(F.exp(x), axis=axis, keepdims=True), x)
    y = F.softmax(tensor(x), axis=axis).numpy()
    np.testing.assert_allclose(y.sum(axis), 1)                             # a distribution
    np.testing.assert_allclose(F.softmax(tensor(x + 1e3), axis=axis).numpy(), y)      # that a shift does not change


@given(rows, st.data())
def test_log_softmax(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    check_same(lambda x: F.log_softmax(x, axis=axis), lambda x: F.log(F.softmax(x, axis=axis)), x)
    far, near = (F.log_softmax(tensor(x - shift), axis=axis).numpy() for shift in (1e3, 0))
    np.testing.assert_allclose(far, near)


@st.composite
def masked(draw):
    """(x, mask): the mask broadcasts to x, and every row sees something."""
    x, seed = draw(rows), draw(st.integers(0, 2**32 - 1))
    shape = [draw(st.sampled_from([1, n])) for n in x.shape][draw(st.integers(0, x.ndim)):]
    mask = np.random.default_rng(seed).random(shape) < 0.5
    return x, mask | ~mask.any(-1, keepdims=True) if shape else np.array(True)


@given(masked())
def test_masked_softmax(drawn):
    x, mask = drawn
    check_same(lambda x: F.masked_softmax(x, there(mask, x)),
               lambda x: F.softmax(F.masked_fill(x, there(~mask, x), -np.inf)), x)


@given(masked(), st.sampled_from([np.nan, np.inf, -np.inf, 1e300]), st.data())
def test_masked_softmax_that_sees_nothing(drawn, anything, data):
    """Zeros, and no gradient; and what is hidden, in that row or another, may hold anything."""
    x, mask = drawn
    blind = np.random.default_rng(data.draw(st.integers(0, 99))).random(x.shape[:-1]) < 0.5
    mask = mask & ~blind[..., None]
    hidden = ~np.broadcast_to(mask, x.shape)

    def seen(x):
        return F.masked_softmax(x, there(mask, x))

    expected, expected_d = value_and_gradients(seen, x)
    assert (expected[hidden] == 0).all() and (expected_d[hidden] == 0).all()
    np.testing.assert_allclose(expected.sum(-1), ~blind)
    x[hidden] = anything
    with np.errstate(invalid="raise"):
        again, again_d = value_and_gradients(seen, x)
    np.testing.assert_array_equal(again, expected)
    np.testing.assert_array_equal(again_d, expected_d)


def composed_cross_entropy(logits, targets, ignore_index, reduction, smoothing):
    """−Σ q log p, with q written out as a table."""
    V = logits.shape[-1]
    kept = targets != ignore_index
    q = np.eye(V)[np.where(kept, targets, 0)] * (1 - smoothing) + smoothing / V
    q = there((q * kept[..., None]).astype(logits.dtype), logits)
    loss = -F.sum(F.log(F.softmax(logits)) * q, axis=-1)
    return {"none": loss, "sum": F.sum(loss), "mean": F.sum(loss) / max(int(kept.sum()), 1)}[reduction]


@given(logits, st.sampled_from(["mean", "sum", "none"]), st.sampled_from([0.0, 0.1]), st.sampled_from([-100, 0]),
       st.integers(0, 2**32 - 1))
def test_cross_entropy(x, reduction, smoothing, ignored, seed):
    """Some targets ignored, one always kept; classes on the last axis of any number of them."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, x.shape[-1], x.shape[:-1])
    targets[rng.random(targets.shape) < 0.4] = ignored
    if x.shape[-1] > 1 or ignored < 0:
        targets.flat[0] = x.shape[-1] - 1
    elif reduction == "mean":
        return                                                             # one class, and it is ignored
    check_same(lambda x: F.cross_entropy(x, targets, ignore_index=ignored, reduction=reduction, label_smoothing=smoothing),
               lambda x: composed_cross_entropy(x, targets, ignored, reduction, smoothing), x)


def test_cross_entropy_ignores():
    """An ignored row has no loss and no gradient, whatever it holds, and does not count in the mean."""
    x, targets = np.array([[2.0, 1.0], [np.e, -7.0], [0.0, 0.0]]), np.array([0, -100, 1])
    d, = gradients(lambda x: F.cross_entropy(x, targets), x)
    assert (d[1] == 0).all() and (d[0] != 0).all()
    np.testing.assert_allclose(F.cross_entropy(tensor(x), targets).item(), (np.log(1 + np.exp(-1)) + np.log(2)) / 2)


@given(logits, st.sampled_from(["mean", "sum", "none"]), st.sampled_from([0.0, 0.1]), st.integers(0, 2**32 - 1))
def test_cross_entropy_ignores_rows_that_hold_anything(x, reduction, smoothing, seed):
    """NaN and infinities, and an infinite gradient from above: without effect, and without a warning."""
    rng = np.random.default_rng(seed)
    ignored = rng.random(x.shape[:-1]) < 0.6
    ignored.flat[-1] = False
    targets = np.where(ignored, -100, rng.integers(0, x.shape[-1], ignored.shape))
    wild = np.where(ignored[..., None], rng.choice([np.nan, np.inf, -np.inf, 1e308], x.shape), x)
    wild[ignored & (rng.random(ignored.shape) < 0.5)] = rng.choice([-np.inf, np.inf])                # all of a row

    def loss_and_gradient(x, dy):
        x = tensor(x)
        y = F.cross_entropy(x, targets, reduction=reduction, label_smoothing=smoothing)
        y.backward(dy if reduction == "none" else None)
        return y.numpy(), to_host(x.grad)

    with np.errstate(all="raise", under="ignore"):
        tame, d = loss_and_gradient(x, np.ones(ignored.shape))
        loss, dx = loss_and_gradient(wild, np.where(ignored, np.inf, 1.0))
    np.testing.assert_array_equal(loss, tame)
    np.testing.assert_array_equal(dx, d)
    assert (dx[ignored] == 0).all()


def test_cross_entropy_of_a_row_that_counts_hides_nothing():
    """What is not finite there stays to be seen."""
    for bad in (np.nan, np.inf, -np.inf):
        x = tensor(np.full((1, 3), bad))
        y = F.cross_entropy(x, np.array([0]))
        y.backward()
        assert np.isnan(y.item()) and np.isnan(to_host(x.grad)).any()


def test_large_logits_do_not_overflow():
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for f in F.softmax, F.log_softmax, F.logsumexp, lambda x: F.cross_entropy(x, np.array([0, 1])):
            assert all(np.isfinite(a).all() for a in value_and_gradients(f, x))
        for f in F.layer_norm, F.rms_norm:
            assert all(np.isfinite(a).all() for a in value_and_gradients(f, x, np.ones(3, np.float32)))


@given(array(shapes(least=1, sizes=(2, 3, 4))), st.sampled_from([1e-5, 0.1]), st.data())
def test_layer_norm(x, eps, data):
    w, b = data.draw(array(x.shape[-1:])), data.draw(array(x.shape[-1:]))

    def composed(x, w, b=0.0):
        centred = x - F.mean(x, axis=-1, keepdims=True)
        return centred / F.sqrt(F.mean(centred * centred, axis=-1, keepdims=True) + eps) * w + b

    x = x * np.arange(1, x.shape[-1] + 1) + np.arange(x.shape[-1])          # rows that are no constants
    check_same(lambda x, w, b: F.layer_norm(x, w, b, eps=eps), composed, x, w, b)
    check_same(lambda x, w: F.layer_norm(x, w, eps=eps), composed, x, w)


@pytest.mark.parametrize("weight, bias", [((4,), (3,)), ((3,), (4,)), ((1,), (3,))])
def test_norm_refuses_parameters_of_another_shape(weight, bias):
    """By the shape that is wrong, whatever NumPy would have broadcast."""
    wrong = bias if weight == (3,) else weight
    with pytest.raises(ValueError, match=re.escape(f"takes parameters of shape (3,), not {wrong}")):
        F.layer_norm(*map(tensor, (np.ones((2, 3)), np.ones(weight), np.ones(bias))))


def test_layer_norm_of_one_channel():
    """What is its own mean has nothing left: only the bias is."""
    y = F.layer_norm(*map(tensor, (np.array([[3.0], [-2.0]]), np.array([5.0]), np.array([0.5]))))
    np.testing.assert_array_equal(y.numpy(), [[0.5], [0.5]])


@given(array(shapes(least=1)), st.sampled_from([1e-6, 0.1]), st.data())
def test_rms_norm(x, eps, data):
    w = data.draw(array(x.shape[-1:]))
    x = x + 3
    check_same(lambda x, w: F.rms_norm(x, w, eps=eps),
               lambda x, w: x / F.sqrt(F.mean(x * x, axis=-1, keepdims=True) + eps) * w, x, w)


@given(array(), st.sampled_from([0.0, 0.3, 0.9]), st.integers(0, 100))
def test_dropout(x, p, seed):
    """What is kept grows by 1/(1 − p), and lets its gradient through; on the host, the generator's own numbers decide."""
    def f(x):
        return F.dropout(x * 1, p, rng=np.random.default_rng(seed))

    dy = np.random.default_rng(1).standard_normal(x.shape)                  # the seed that value_and_gradients uses
    for dtype in np.float32, np.float64:
        mask, _ = value_and_gradients(f, np.ones(x.shape), dtype=dtype)
        assert np.all((mask == 0) | np.isclose(mask, 1 / (1 - p)))
        for ours, theirs in zip(value_and_gradients(f, x, dtype=dtype), (x * mask, dy * mask)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    if checks.device == "cpu":
        mask = (np.random.default_rng(seed).random(x.shape, dtype="f4") >= p) / (1 - p)
        check(f, lambda x: x * mask, x, rtol=1e-6)


def test_dropout_keeps_the_mean():
    x = tensor(np.ones((300, 300)))
    y = F.dropout(x, 0.25, rng=np.random.default_rng(0)).numpy()
    assert abs((y == 0).mean() - 0.25) < 0.01 and abs(y.mean() - 1) < 0.01
    assert F.dropout(x, 0.0, rng=None) is x


@given(array(), st.integers(0, 2**32 - 1))
def test_mse_loss(x, seed):
    target = np.random.default_rng(seed).standard_normal(x.shape)
    check(F.mse_loss, lambda x, t: np.mean((x - t) ** 2), x, target)


@given(st.integers(1, 2), st.integers(1, 3), st.integers(0, 4), st.integers(0, 3), st.integers(0, 2), st.booleans(),
       st.data())
def test_rotary(B, H, T, half, rest, padded, data):
    """Turned pair by pair as complex numbers are; the other channels stay; and lengths do not change."""
    x = data.draw(array((B, H, T, 2 * half + rest)))
    angles = data.draw(array((B, 1, T, half) if padded else (T, half)))
    cos, sin = np.cos(angles), np.sin(angles)

    def by_complex_numbers(x):
        z = (x[..., :half] + 1j * x[..., half:2 * half]) * np.exp(1j * angles)
        return np.concatenate([z.real, z.imag, x[..., 2 * half:]], axis=-1)

    check(lambda x: F.rotary(x, there(cos, x), there(sin, x)), by_complex_numbers, x)
    y = F.rotary(tensor(x), there(cos, tensor(x)), there(sin, tensor(x))).numpy()
    np.testing.assert_allclose((y ** 2).sum(-1), (x ** 2).sum(-1), rtol=1e-9, atol=1e-12)


def test_rotary_of_more_channels_than_there_are():
    x, angles = tensor(np.ones((1, 1, 2, 4))), np.ones((2, 3))
    with pytest.raises(ValueError, match="3 angles turn 6 channels, and there are 4"):
        F.rotary(x, there(angles, x), there(angles, x))
