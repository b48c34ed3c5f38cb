"""The kernels of cross-entropy, the embedding's gradient, dropout and AdamW equal the NumPy code beside them, on the
emulator; Philox equals the numbers its authors publish."""
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinygrad_lm import optim
from tinygrad_lm.kernels import launch
from tinygrad_lm.nn import Parameter
from tinygrad_lm.ops import cross_entropy as ce, dropout as drop, embedding as emb

from .planted import planted


def emulated():
    try:
        return import_module("tinygrad_lm.emulator").available()
    except ImportError:
        return False


pytestmark = pytest.mark.skipif(not emulated(), reason="no C++ compiler: kernels cannot run on the CPU")
few = settings(max_examples=20)
seeds = st.integers(0, 2 ** 32 - 1)
TOLERANCE = {"float32": dict(rtol=2e-5, atol=2e-6), "float16": dict(rtol=2e-3, atol=2e-4), "bfloat16": dict(rtol=1e-2, atol=1e-3)}
types = st.sampled_from(sorted(TOLERANCE))


def stored(x, type_):
    """(x as that type stores it, what was stored as float64); bfloat16 is the upper half of float32, as uint16."""
    if type_ == "bfloat16":
        bits = np.asarray(x, np.float32).view(np.uint32)
        bits = ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        return bits, read(bits)
    x = np.asarray(x, type_)
    return x, read(x)


def read(x):
    return ((x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x).astype(np.float64)


# ---- cross-entropy ----------------------------------------------------------------------------------------------------

@few
@given(seeds, types, st.sampled_from([1, 2, 5]), st.sampled_from([1, 3, 31, 32, 33, 128, 129, 300]),
       st.sampled_from(["mean", "sum", "none"]), st.sampled_from([0.0, 0.1, 1.0]), st.booleans())
def test_cross_entropy(seed, type_, N, V, reduction, smoothing, walled):
    rng = np.random.default_rng(seed)
    z, targets = 5 * rng.standard_normal((N, V)), rng.integers(0, V, N)
    if walled and not smoothing:                                             # −inf where the target is not
        z[(rng.random((N, V)) < 0.5) & (np.arange(V) != targets[:, None])] = -np.inf
    ignored = np.arange(N) % 3 == 1
    z[ignored], targets[ignored] = 1.0, -100
    options = dict(reduction=reduction, label_smoothing=smoothing)
    z, exact = stored(z, type_)
    loss, saved = ce.cross_entropy_forward(exact, targets=targets, **options)
    ours, ours_saved = ce.cross_entropy_kernel_forward(z, targets, **options)
    assert ours.dtype == np.float32 and ours.shape == loss.shape
    np.testing.assert_allclose(ours, loss, rtol=2e-5, atol=2e-5)
    dy = rng.standard_normal(loss.shape)
    (d,), (dz,) = ce.cross_entropy_backward(dy, saved), ce.cross_entropy_kernel_backward(dy.astype(np.float32), ours_saved)
    assert dz.dtype == z.dtype and dz.shape == z.shape
    np.testing.assert_allclose(read(dz), d, **TOLERANCE[type_])
    assert not read(dz)[targets == -100].any()


def test_cross_entropy_of_three_axes_and_another_ignored_target():
    rng = np.random.default_rng(0)
    z, targets = rng.standard_normal((2, 3, 5), dtype=np.float32), rng.integers(0, 5, (2, 3))
    options = dict(ignore_index=int(targets[1, 2]), reduction="none")
    loss, saved = ce.cross_entropy_forward(z, targets=targets, **options)
    ours, ours_saved = ce.cross_entropy_kernel_forward(z, targets, **options)
    np.testing.assert_allclose(ours, loss, rtol=1e-5, atol=1e-6, strict=True)
    np.testing.assert_allclose(ce.cross_entropy_kernel_backward(loss, ours_saved)[0], ce.cross_entropy_backward(loss, saved)[0],
                               rtol=1e-5, atol=1e-6, strict=True)


def test_cross_entropy_where_every_target_counts():
    """ignore_index None: the first class and the last are targets like any other."""
    rng = np.random.default_rng(0)
    z, targets = rng.standard_normal((5, 7)).astype(np.float32), np.array([0, 6, 3, 0, 1])
    loss, saved = ce.cross_entropy_forward(z, targets=targets, ignore_index=None)
    ours, ours_saved = ce.cross_entropy_kernel_forward(z, targets, None)
    np.testing.assert_allclose(ours, loss, rtol=1e-5)
    np.testing.assert_allclose(ce.cross_entropy_kernel_backward(loss, ours_saved)[0], ce.cross_entropy_backward(loss, saved)[0],
                               rtol=1e-4, atol=1e-6)


def test_cross_entropy_keeps_half_precision_gradients_that_the_mean_would_lose():
    z, targets = np.zeros((1, 3000), np.float16), np.zeros(1, int)
    gradient, weight = ce.cross_entropy_kernel_forward(np.repeat(z, 40, 0), np.repeat(targets, 40))[1]
    assert weight[0] == np.float32(1 / 40)
    np.testing.assert_allclose(gradient[:, 1:], 1 / 3000, rtol=1e-3)


def test_cross_entropy_of_a_nan_is_nan():
    for place in (0, 40):
        z = np.zeros((2, 70), np.float32)
        z[1, place] = np.nan
        loss, _ = ce.cross_entropy_kernel_forward(z, np.array([1, 1]), reduction="none")
        assert np.isfinite(loss[0]) and np.isnan(loss[1])


def test_the_total_of_many_rows():
    rng = np.random.default_rng(0)
    z, targets = rng.standard_normal((1500, 2), dtype=np.float32), rng.integers(0, 2, 1500)
    targets[::7] = -100
    for reduction in ("mean", "sum"):
        loss = ce.cross_entropy_kernel_forward(z, targets, reduction=reduction)[0]
        assert loss == pytest.approx(ce.cross_entropy_forward(z.astype(float), targets=targets, reduction=reduction)[0], rel=1e-5)


# ---- embedding --------------------------------------------------------------------------------------------------------

@few
@given(seeds, types, st.sampled_from([(1,), (7,), (4, 9), (3, 40)]), st.sampled_from([1, 3, 31, 32, 33, 70]),
       st.sampled_from([1, 2, 9, 600]))
def test_embedding(seed, type_, shape, C, V):
    rng = np.random.default_rng(seed)
    idx, (dy, exact) = rng.integers(0, V, shape), stored(rng.standard_normal((*shape, C)), type_)
    expected, = emb.embedding_backward(exact, ((V, C), idx))
    dw = emb.embedding_kernel_backward(dy, V, idx)
    assert dw.dtype == dy.dtype
    np.testing.assert_allclose(read(dw), expected, **TOLERANCE[type_] | dict(atol=1e-5 if type_ == "float32" else 2e-3))


def test_embedding_without_tokens():
    assert not emb.embedding_kernel_backward(np.zeros((0, 3), np.float32), 4, np.zeros(0, int)).any()


# ---- dropout ----------------------------------------------------------------------------------------------------------

def philox(counter, key):
    """Philox-4x32-10 [PHILOX] on uint64 arrays that hold 32 bits: counter (n, 4), key (2,) -> (n, 4)"""
    c, (k0, k1), low = np.array(counter, np.uint64).T, [int(k) for k in key], np.uint64(0xffffffff)
    for r in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        bump0, bump1 = np.uint64((k0 + r * 0x9E3779B9) % 2 ** 32), np.uint64((k1 + r * 0xBB67AE85) % 2 ** 32)
        c = np.array([(b >> np.uint64(32)) ^ c[1] ^ bump0, b & low, (a >> np.uint64(32)) ^ c[3] ^ bump1, a & low])
    return c.T


def stream(n, key):
    counter = np.zeros((-(-n // 4), 4), np.uint64)
    counter[:, 0] = np.arange(len(counter))
    return philox(counter, key).reshape(-1)[:n]


@pytest.mark.parametrize("counter, key, words", [                            # published with the authors' own code
    ([0] * 4, [0] * 2, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
    ([0xffffffff] * 4, [0xffffffff] * 2, [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
    ([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0],
     [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1])])
def test_the_reference_of_philox_gives_the_published_numbers(counter, key, words):
    assert philox([counter], key).tolist() == [words]


@few
@given(seeds, st.sampled_from([1, 4, 5, 1023, 1024, 1030]))
def test_philox_bit_for_bit(seed, n):
    key, out = np.random.default_rng(seed).integers(0, 2 ** 32, 2).astype(np.uint32), np.zeros(n, np.uint32)
    launch("dropout.cu", "philox_words", -(-n // 1024), 256, (out, key, np.int32(n)))
    np.testing.assert_array_equal(out, stream(n, key))


@few
@given(seeds, types, st.sampled_from([(1,), (3, 5), (4, 257), (1024,)]), st.sampled_from([0.0, 0.1, 0.5, 0.999]))
def test_dropout(seed, type_, shape, p):
    rng = np.random.default_rng(seed)
    key = rng.integers(0, 2 ** 32, 2).astype(np.uint32)
    x, exact = stored(rng.uniform(1, 2, shape), type_)
    kept = (stream(x.size, key) >= np.uint64(p * 2 ** 32)).reshape(shape)
    y = drop.dropout_kernel(x, p, key)
    np.testing.assert_allclose(read(y), exact * kept / (1 - p), **TOLERANCE[type_])
    dx, = drop.dropout_backward(x, (p, key))                                 # from the same key the same mask
    np.testing.assert_array_equal(dx, y)


def test_dropout_drops_its_share():
    y = drop.dropout_kernel(np.ones(20_000, np.float32), 0.3, np.array([1, 2], np.uint32))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.02) and y.mean() == pytest.approx(1, abs=0.02)


# ---- AdamW and the gradient's norm ------------------------------------------------------------------------------------

@few
@given(seeds, st.sampled_from([(1, 1), (3, 5), (4, 300), (2, 2600)]), st.sampled_from([0.0, 0.1]), st.integers(1, 5))
def test_adamw(seed, shape, weight_decay, steps):
    rng = np.random.default_rng(seed)
    p, bias = Parameter(rng.standard_normal(shape, dtype=np.float32)), Parameter(rng.standard_normal(3, dtype=np.float32))
    opt = optim.AdamW([p, bias], lr=0.05, betas=(0.8, 0.9), weight_decay=weight_decay)
    w, m, v = opt.flat.copy(), opt.m.copy(), opt.v.copy()
    for _ in range(steps):
        for q in opt.params:
            q.grad = rng.standard_normal(q.shape, dtype=np.float32)
        opt.step()
        rates = optim.adamw_rates(opt, opt.step_count)
        for start, stop, decays in ((0, opt.decaying, True), (opt.decaying, opt.flat.size, False)):
            run = slice(start, stop)
            optim.adamw_kernel(w[run], opt.flat_grad[run], m[run], v[run], rates, opt.go, opt.betas, decays)
    for ours, numpys in ((w, opt.flat), (m, opt.m), (v, opt.v)):
        np.testing.assert_allclose(ours, numpys, rtol=2e-6, atol=2e-6)


@few
@given(seeds, st.lists(st.sampled_from([0, 1, 33, 1025, 3000]), min_size=1, max_size=3), st.sampled_from([0.5, 1e9]))
def test_clip(seed, sizes, max_norm):
    rng = np.random.default_rng(seed)
    grads = [1 + rng.random(n, dtype=np.float32) for n in sizes]
    exact = np.concatenate(grads).astype(float)
    norm = optim.clip_kernel(grads, max_norm)
    assert norm == pytest.approx(np.sqrt(exact @ exact), rel=1e-5)
    np.testing.assert_allclose(np.concatenate(grads), exact * min(1, max_norm / max(norm, 1e-9)), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clip_refuses_what_is_not_finite(bad):
    g = np.ones(1500, np.float32)
    g[-1] = bad
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        optim.clip_kernel([g], 1.0)


def test_a_sum_has_the_same_bits_each_time():
    g = np.random.default_rng(0).standard_normal(5000, dtype=np.float32)
    assert len({optim.norm_kernel([g])[0].tobytes() for _ in range(3)}) == 1


def half_parameters(*sizes, seed=0, scale=2.0 ** 10):
    """An optimizer of parameters in float16, whose gradients lie ready, scaled."""
    rng, params = np.random.default_rng(seed), [Parameter(np.ones(n, np.float16)) for n in sizes]
    opt = optim.SGD(params, lr=0.1)
    opt.scaler.scale = scale
    for p in params:
        p.grad = (scale * rng.standard_normal(p.shape)).astype(np.float16)
    return opt


@few
@given(seeds, st.lists(st.sampled_from([(1,), (33,), (5, 41), (3, 1030)]), min_size=1, max_size=3),
       st.sampled_from([2.0 ** -3, 1.0, 2.0 ** 12]), st.sampled_from([None, np.nan, np.inf, -np.inf]), st.data())
def test_unscale(seed, shapes, scale, bad, data):
    """In one pass what the plain form does in two, to the bit."""
    opt = half_parameters(*shapes, seed=seed, scale=scale)
    if bad is not None:
        p = data.draw(st.sampled_from(opt.params))
        p.grad.flat[data.draw(st.integers(0, p.size - 1))] = bad
    stop = optim.unscale_kernel(opt, np.float32([1 / scale]))
    ours = opt.flat_grad.copy()
    opt.flat_grad[...] = 7
    assert opt.unscale() == (bad is None) and stop.tolist() == [int(bad is not None)]
    np.testing.assert_array_equal(ours, opt.flat_grad)


def stops(gradient, loss):
    g = np.ones(1500, np.float32)
    g[-1] = gradient
    return optim.norm_kernel([g[:200], g[200:]], loss if loss is None else np.float32(loss).reshape(()))[1].tolist()


def test_what_is_not_finite_stops_the_step():
    big = 3e38                                                               # a number, whose square is none
    for loss in (None, 2):
        assert [stops(g, loss) for g in (1, np.nan, np.inf, -np.inf, big)] == [[0], [1], [1], [1], [1]]
    assert [stops(1, loss) for loss in (2, -big, np.nan, np.inf, -np.inf)] == [[0], [0], [1], [1], [1]]


def adamw_moves(stop):
    """Which of weights and moments a step moves."""
    rng = np.random.default_rng(0)
    w, g, m, v = (1 + rng.random(1300, dtype=np.float32) for _ in range(4))
    before = [a.copy() for a in (w, m, v)]
    optim.adamw_kernel(w, g, m, v, np.float32([0.9, 1e-8, 0.1]), np.array([stop], np.int32), (0.9, 0.99), True)
    return [bool((a != b).all()) for a, b in zip((w, m, v), before)]


def clipped(norm, stop):
    g = np.full(1300, 4, np.float32)
    launch("adamw.cu", "clip", 2, 256, (g, np.float32([norm]), np.array([stop], np.int32), np.float32(0.5), np.int32(1300)))
    return np.unique(g).tolist()


def test_a_step_that_is_stopped_moves_nothing():
    assert adamw_moves(0) == [True] * 3 and adamw_moves(1) == [False] * 3
    assert [clipped(1, 0), clipped(0.5, 0), clipped(0.2, 0), clipped(1, 1)] == [[2], [4], [4], [4]]


def test_an_overflow_is_seen_wherever_it_is():
    for place in (0, 1299):
        opt = half_parameters((1300,))
        opt.params[0].grad[place] = np.inf
        assert optim.unscale_kernel(opt, np.ones(1, np.float32)).tolist() == [1]
    assert optim.unscale_kernel(half_parameters((1300,)), np.ones(1, np.float32)).tolist() == [0]


PLANTED = {                                                # what each mistake replaces in adamw.cu, and which test notices
    "none": ("", "", test_a_step_that_is_stopped_moves_nothing),
    "AdamW ignores stop": ("if (stop[0]) return;", "", test_a_step_that_is_stopped_moves_nothing),
    "clipping ignores stop": ("stop[0] || norm", "norm", test_a_step_that_is_stopped_moves_nothing),
    "the factor is not used": ("g[i] *= scale", "g[i] *= 1", test_a_step_that_is_stopped_moves_nothing),
    "the loss is not looked at": (" || !is_finite(loss[0])", "", test_what_is_not_finite_stops_the_step),
    "the norm is not looked at": ("!is_finite(sum) || ", "", test_what_is_not_finite_stops_the_step),
    "a thread forgets what it saw": ("overflow || !is_finite(x)", "!is_finite(x)", test_an_overflow_is_seen_wherever_it_is),
    "an overflow is not told": ("if (overflow) stop[0] = 1;", "", test_an_overflow_is_seen_wherever_it_is),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistakes_are_noticed(mistake, tmp_path):
    right, wrong, test = PLANTED[mistake]
    with planted(tmp_path, "adamw.cu", right, wrong):
        try:
            test()
            noticed = False
        except AssertionError:
            noticed = True
    assert noticed == (mistake != "none")
