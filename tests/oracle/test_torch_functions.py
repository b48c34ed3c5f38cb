"""Every function against PyTorch's of the same name: value and gradients, on the same inputs."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, functional as F
from tests.strategies import array, away_from_zero, broadcastable, distinct, lattice, shapes, uniform

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.oracle

positive, with_axes = uniform(0.2, 3), array(shapes(least=1))


def agree(ours, theirs, *arrays, rtol=1e-9, atol=1e-10):
    """Values, and gradients of the same random weighting of them."""
    mine = [Tensor(a, True) for a in arrays]
    other = [torch.tensor(a.copy(), requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=rtol, atol=atol, strict=True)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    y.backward(dy)
    z.backward(torch.tensor(dy))
    for t, s in zip(mine, other):
        expected = np.zeros(t.shape) if s.grad is None else s.grad.numpy()
        np.testing.assert_allclose(t.grad, expected, rtol=rtol, atol=atol, strict=True)


def same(name, theirs, strategy=array()):
    """The test that F.<name> agrees with `theirs`."""
    @given(strategy)
    def test(drawn):
        agree(getattr(F, name), theirs, *(drawn if isinstance(drawn, list) else [drawn]))
    return test


test_neg = same("neg", torch.neg)
test_exp = same("exp", torch.exp)
test_log = same("log", torch.log, array(values=positive))
test_sqrt = same("sqrt", torch.sqrt, array(values=positive))
test_tanh = same("tanh", torch.tanh)
test_sigmoid = same("sigmoid", torch.sigmoid)
test_erf = same("erf", torch.erf, array(values=uniform(-7, 7)))
test_sin = same("sin", torch.sin)
test_cos = same("cos", torch.cos)
test_abs = same("abs", torch.abs, array(values=lattice(0)))
test_relu = same("relu", torch.relu, array(values=lattice(0)))
test_silu = same("silu", TF.silu, array(values=uniform(-9, 9)))
test_logsigmoid = same("logsigmoid", TF.logsigmoid, array(values=uniform(-9, 9)))
test_add = same("add", torch.add, broadcastable(uniform(), uniform()))
test_sub = same("sub", torch.sub, broadcastable(uniform(), uniform()))
test_mul = same("mul", torch.mul, broadcastable(uniform(), uniform()))
test_div = same("div", torch.div, broadcastable(uniform(), away_from_zero))
test_pow = same("pow", torch.pow, broadcastable(positive, uniform()))
test_maximum = same("maximum", torch.maximum, broadcastable(lattice(0), lattice(0)))      # ties among them
test_minimum = same("minimum", torch.minimum, broadcastable(lattice(0), lattice(0)))
test_max = same("max", torch.amax, array(values=lattice(0)))
test_min = same("min", torch.amin, array(values=lattice(0)))
test_mse_loss = same("mse_loss", TF.mse_loss, shapes().flatmap(lambda s: st.tuples(array(s), array(s)).map(list)))


@given(array(values=uniform(-5, 5)))
def test_gelu(x):
    agree(F.gelu, TF.gelu, x)
    agree(lambda x: F.gelu(x, approximate="tanh"), lambda x: TF.gelu(x, approximate="tanh"), x)


@given(array(values=lattice(0)))
def test_clip(x):
    agree(lambda x: F.clip(x, -0.4, 0.8), lambda x: torch.clip(x, -0.4, 0.8), x)          # the bounds among them


@given(with_axes, st.booleans(), st.data())
def test_reductions(x, keep, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    for name in "sum", "mean", "logsumexp", "var":
        if name != "var" or x.shape[axis] > 1:
            agree(lambda x: getattr(F, name)(x, axis=axis, keepdims=keep),
                  lambda x: getattr(torch, name)(x, dim=axis, keepdim=keep), x)
    for name in "softmax", "log_softmax", "cumsum":
        agree(lambda x: getattr(F, name)(x, axis=axis), lambda x: getattr(torch, name)(x, dim=axis), x)
    agree(lambda x: F.max(x, axis=axis), lambda x: torch.amax(x, dim=axis), np.round(x))


@given(with_axes, st.data())
def test_arrangements(x, data):
    axis, n = data.draw(st.integers(-x.ndim, x.ndim - 1)), data.draw(st.integers(1, 3))
    agree(lambda x: F.repeat(x, *(n,) * x.ndim), lambda x: x.repeat(*(n,) * x.ndim), x)
    agree(lambda x: F.repeat_interleave(x, n, axis=axis), lambda x: x.repeat_interleave(n, dim=axis), x)
    agree(lambda x: F.split(x, n, axis=axis)[-1], lambda x: torch.split(x, n, dim=axis)[-1], x)
    agree(lambda x: F.stack([x, x * 2], axis=axis), lambda x: torch.stack([x, x * 2], dim=axis), x)
    agree(lambda x: F.concat([x, x * 2], axis=axis), lambda x: torch.cat([x, x * 2], dim=axis), x)
    agree(lambda x: F.unsqueeze(x, axis), lambda x: torch.unsqueeze(x, axis), x)
    index = data.draw(array(x.shape, lambda rng, s: rng.integers(0, x.shape[axis], s))).astype(int)
    agree(lambda x: F.gather(x, axis, index), lambda x: torch.gather(x, axis, torch.tensor(index.copy())), x)
    agree(lambda x: F.masked_fill(x, x.data > 0, 3), lambda x: torch.masked_fill(x, x > 0, 3), x)


@given(shapes(most=2), st.integers(1, 3), st.integers(1, 4), st.data())
def test_products(lead, n, m, data):
    x, w, b = (data.draw(array(s)) for s in ((*lead, n), (m, n), (m,)))
    agree(F.linear, TF.linear, x, w, b)
    agree(F.linear, TF.linear, x, w)
    agree(lambda x, w: x @ w.T, lambda x, w: x @ w.T, x, w)
    agree(lambda x, w: F.einsum("...i,oi->...o", x, w), lambda x, w: torch.einsum("...i,oi->...o", x, w), x, w)


@given(shapes(most=2, sizes=(0, 1, 3)), st.sampled_from([3, 700]), st.integers(0, 2**32 - 1))
def test_embedding(shape, n, seed):
    rng = np.random.default_rng(seed)
    idx = rng.integers(0, n, shape)
    agree(lambda w: F.embedding(idx, w), lambda w: TF.embedding(torch.tensor(idx), w), rng.standard_normal((n, 2)))


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["mean", "sum", "none"]), st.sampled_from([0.0, 0.3]), st.data())
def test_cross_entropy(N, V, reduction, smoothing, data):
    x = data.draw(array((N, V), uniform(-4, 4)))
    targets = np.array(data.draw(st.lists(st.one_of(st.just(-100), st.integers(0, V - 1)), min_size=N, max_size=N)))
    targets[0] = V - 1
    o = dict(reduction=reduction, label_smoothing=smoothing)
    agree(lambda x: F.cross_entropy(x, targets, **o), lambda x: TF.cross_entropy(x, torch.tensor(targets), **o), x)


@given(array(shapes(least=1, sizes=(2, 3, 4))), st.data())
def test_norms(x, data):
    x = x + np.arange(x.shape[-1])
    w, b = data.draw(array(x.shape[-1:])), data.draw(array(x.shape[-1:]))
    size = x.shape[-1:]
    agree(lambda *a: F.layer_norm(*a, eps=1e-3), lambda x, w, b: TF.layer_norm(x, size, w, b, eps=1e-3), x, w, b)
    agree(lambda *a: F.rms_norm(*a, eps=1e-3), lambda x, w: TF.rms_norm(x, size, w, eps=1e-3), x, w)


@given(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 4), st.sampled_from(["", "causal", "bool", "added"]),
       st.data())
def test_scaled_dot_product_attention(B, K, G, T, kind, data):
    S = T if kind == "causal" else data.draw(st.integers(1, 4))             # PyTorch aligns other lengths differently
    qkv = [data.draw(array((B, h, n, 3))) for h, n in ((K * G, T), (K, S), (K, S))]
    m = data.draw(array((T, S)))
    m = None if kind in ("", "causal") else m if kind == "added" else (m > 0) | (np.arange(S) == 0)
    agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, m, is_causal=kind == "causal"),
          lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, None if m is None else torch.tensor(m.copy()),
                                                          is_causal=kind == "causal", enable_gqa=True), *qkv)
