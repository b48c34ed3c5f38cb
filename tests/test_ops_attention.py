"""Attention against a loop over every query and key, under every kind of mask."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import functional as F
from tinygrad_lm.ops import causal_attention

from .checks import check, check_same, gradients, tensor, there, value_and_gradients
from .strategies import array

pytestmark = pytest.mark.usefixtures("device")


def by_loops(q, k, v, *, mask=None, is_causal=False, key_lengths=None, scale=None):
    """softmax(scale · q kᵀ + mask) v, a query at a time; zeros where nothing may be seen."""
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    mask = np.broadcast_to(True if mask is None else mask, (B, H, T, S))
    y = np.zeros((B, H, T, v.shape[-1]))
    for b, h, t in np.ndindex(B, H, T):
        keys, values = k[b, h // (H // K)], v[b, h // (H // K)]
        seen = [s for s in range(S)
                if not (is_causal and s > t + S - T)
                and not (key_lengths is not None and s >= key_lengths[b])
                and not (mask.dtype == bool and not mask[b, h, t, s])]
        scores = np.array([(D ** -0.5 if scale is None else scale) * (q[b, h, t] @ keys[s]) for s in seen])
        scores = scores + (0 if mask.dtype == bool else mask[b, h, t, seen])
        if len(seen) and scores.max() > -np.inf:
            p = np.exp(scores - scores.max())
            y[b, h, t] = p / p.sum() @ values[seen]
    return y


def placed(options, x):
    return {name: there(value, x) for name, value in options.items()}


@st.composite
def attentions(draw):
    """(q, k, v), with grouped queries and all lengths, and the options."""
    size = st.integers(1, 3)
    B, K, T, S, D, Dv = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(size), draw(size), draw(size), draw(size)
    H = K * draw(st.integers(1, 2))
    qkv = [draw(array((B, H, T, D))), draw(array((B, K, S, D))), draw(array((B, K, S, Dv)))]
    kind, options = draw(st.sampled_from(["none", "bool", "added", "forbidding"])), {}
    if kind != "none":
        m = draw(array(draw(st.sampled_from([(B, H, T, S), (T, S), (B, 1, 1, S), (H, 1, S)]))))
        options["attn_mask"] = m > -0.5 if kind == "bool" else m if kind == "added" else np.where(m > 0, -np.inf, 0)
    if draw(st.booleans()):
        options["is_causal"] = True
    if draw(st.booleans()):
        options["key_lengths"] = np.array(draw(st.lists(st.integers(0, S), min_size=B, max_size=B)))
    if draw(st.booleans()):
        options["scale"] = 0.7
    return qkv, options


@given(attentions())
def test_scaled_dot_product_attention(drawn):
    qkv, options = drawn
    loops = {"mask" if name == "attn_mask" else name: value for name, value in options.items()}
    with np.errstate(invalid="raise", divide="raise"):
        check(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **placed(options, q)),
              lambda q, k, v: by_loops(q, k, v, **loops), *qkv)


def attended(q, k, v):
    return F.scaled_dot_product_attention(tensor(q), tensor(k), tensor(v), is_causal=True).numpy()


def test_scaled_dot_product_attention_that_sees_nothing():
    """Zeros, and no NaN in the gradient either: of a masked row, of a batch without keys, of queries before all keys."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 2, 3, 4)) for _ in range(3))
    row = np.ones((3, 3), bool)
    row[1] = False
    for options, blind in ((dict(attn_mask=row), np.s_[:, :, 1]), (dict(attn_mask=np.where(row, 0, -np.inf)), np.s_[:, :, 1]),
                           (dict(key_lengths=np.array([0, 3])), np.s_[0])):
        y, dq, dk, dv = value_and_gradients(lambda *a: F.scaled_dot_product_attention(*a, **placed(options, a[0])), q, k, v)
        assert (y[blind] == 0).all() and (dq[blind] == 0).all()
        assert all(np.isfinite(a).all() for a in (y, dq, dk, dv))
    late = attended(q, k[:, :, :1], v[:, :, :1])                           # 3 queries, 1 key
    assert (late[:, :, :2] == 0).all() and (late[:, :, 2] == v[:, :, 0]).all()


@given(st.integers(2, 5), st.data())
def test_scaled_dot_product_attention_is_causal(T, data):
    """Nothing flows from the future: no value forward, no gradient backward."""
    q, k, v = (data.draw(array((1, 2, T, 3))) for _ in range(3))
    t = data.draw(st.integers(0, T - 2))
    dk, dv = gradients(lambda k, v: F.scaled_dot_product_attention(there(q, k), k, v, is_causal=True)[:, :, t], k, v)
    assert (dk[:, :, t + 1:] == 0).all() and (dv[:, :, t + 1:] == 0).all() and (dv[:, :, :t + 1] != 0).any()
    before = attended(q, k, v)[:, :, :t + 1]
    k[:, :, t + 1:], v[:, :, t + 1:] = 99, -99
    np.testing.assert_array_equal(attended(q, k, v)[:, :, :t + 1], before)


def test_scaled_dot_product_attention_of_large_scores():
    q = np.full((1, 1, 2, 4), 300.0, np.float32)
    with np.errstate(over="raise", invalid="raise"):
        y = attended(q, q, q)
    assert np.isfinite(y).all() and y.dtype == np.float32


@pytest.mark.parametrize("queries, scores", [(causal_attention.QUERIES, causal_attention.SCORES), ((2, 3), 20)])
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.sampled_from([0, 64]), st.data())
def test_qkv_attention(queries, scores, B, T, H, D, few, data):
    """The fused form for a transformer block is the general one, on the three parts; in one tile and in many, with weights
    that are kept and weights that are made again."""
    def composed(qkv):
        q, k, v = (F.permute(part.reshape(B, T, H, D), 0, 2, 1, 3) for part in F.split(qkv, H * D, axis=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.permute(y, 0, 2, 1, 3).reshape(B, T, H * D)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal_attention, "QUERIES", queries)
        patch.setattr(causal_attention, "SCORES", scores)
        patch.setattr(causal_attention, "FEW", few)
        check_same(lambda qkv: F.qkv_attention(qkv, H), composed, data.draw(array((B, T, 3 * H * D))))


def test_qkv_attention_over_many_tokens():
    """A length beyond any block that the fused form may work in."""
    qkv = np.random.default_rng(0).standard_normal((2, 300, 3 * 8))
    q, k, v = qkv.reshape(2, 300, 3, 2, 4).transpose(2, 0, 3, 1, 4)
    expected = by_loops(q, k, v, is_causal=True).transpose(0, 2, 1, 3).reshape(2, 300, 8)
    np.testing.assert_allclose(F.qkv_attention(tensor(qkv), 2).numpy(), expected, atol=1e-12)
    dqkv, = gradients(lambda x: F.qkv_attention(x, 2), qkv)

    def composed(qkv):
        q, k, v = (p.reshape(2, 300, 2, 4).permute(0, 2, 1, 3) for p in F.split(qkv, 8, axis=-1))
        scores = F.where(there(np.tril(np.ones((300, 300), bool)), q), q @ k.swapaxes(-1, -2) * 0.5, -np.inf)
        return (F.softmax(scores) @ v).permute(0, 2, 1, 3).reshape(2, 300, 8)

    np.testing.assert_allclose(dqkv, gradients(composed, qkv)[0], atol=1e-11)


def test_attention_to_no_key_at_all_is_zero():
    q, nothing = np.ones((2, 1, 3, 4)), np.ones((2, 1, 0, 4))
    y, dq, dk = value_and_gradients(lambda q, k: F.scaled_dot_product_attention(q, k, k), q, nothing)
    assert y.shape == (2, 1, 3, 4) and not y.any() and not dq.any() and dk.shape == nothing.shape
