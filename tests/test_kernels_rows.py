"""Softmax, norms and bias+GELU written in CUDA C equal their NumPy versions, forward and backward, run by the emulator."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinygrad_lm import emulator
from tinygrad_lm.ops import activation, norm, softmax as sm

from .planted import planted

pytestmark = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler: kernels cannot be run on the CPU")

TOLERANCE = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
storages = st.sampled_from(sorted(TOLERANCE))
# Below, at and off the tile: a warp's 32 lanes, a pack's 4 or 8 neighbours, a block's 256 threads, the step to a block a row.
columns = st.sampled_from([1, 2, 3, 8, 31, 32, 33, 36, 40, 128, 130, 1024, 1028, 1032, 1100])
heights = st.sampled_from([1, 2, 7, 8, 9])
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=8, deadline=None)


def narrow(x, storage):
    """float64 numbers as the kernels store them: bfloat16 as the upper half of a float32's bits."""
    if storage == "bfloat16":
        return ((np.float32(x).view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    return x.astype(storage)


def widen(x):
    """Back to float64."""
    return ((x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x).astype(np.float64)


def near(ours, theirs, storage):
    ours, bound = widen(ours), TOLERANCE[storage]
    np.testing.assert_allclose(ours, theirs, rtol=bound,
                               atol=bound * max(1, np.abs(theirs[np.isfinite(theirs)]).max(initial=0)))


def some(seed, *shapes, storage):
    """Random arrays as stored, and the float64 numbers that these are."""
    rng = np.random.default_rng(seed)
    stored = [narrow(2 * rng.standard_normal(shape), storage) for shape in shapes]
    return stored + [widen(a) for a in stored]


@few
@given(heights, columns, storages, seeds, st.booleans(), st.booleans())
def test_softmax(rows, C, storage, seed, log, holes):
    x, dy, x_, dy_ = some(seed, (rows, C), (rows, C), storage=storage)
    if holes and storage != "bfloat16":
        gone = np.random.default_rng(seed).random((rows, C)) < 0.3
        gone[:, 0] = False
        x[gone] = x_[gone] = -np.inf
    name = "log_softmax" if log else "softmax"
    y, saved = getattr(sm, f"{name}_kernel_forward")(x)
    y_, _ = getattr(sm, f"{name}_forward")(x_)
    near(y, y_, storage)
    dx, = getattr(sm, f"{name}_kernel_backward")(dy, saved)
    near(dx, getattr(sm, f"{name}_backward")(dy_, (widen(y), -1))[0], storage)


def test_softmax_of_nothing_but_minus_infinity_is_nan_as_in_numpy_and_other_rows_are_untouched():
    x = np.zeros((3, 40), np.float32)
    x[1] = -np.inf
    y = sm.softmax_kernel_forward(x)[0]
    assert np.isnan(y[1]).all()
    np.testing.assert_allclose(y[[0, 2]], 1 / 40, rtol=1e-6)


def test_softmax_of_large_scores_does_not_overflow():
    x = np.float32([[1e4, 1e4 - 1, -1e4] * 11, [-3e38] * 33])
    np.testing.assert_allclose(sm.softmax_kernel_forward(x)[0], sm.softmax_forward(x)[0], rtol=1e-5)


@few
@given(st.sampled_from([(1, 1, 1, 1), (2, 2, 3, 5), (2, 1, 9, 40), (1, 2, 4, 33), (2, 1, 2, 1032)]), storages, seeds,
       st.sampled_from([None, (1, 1, 1, 0), (0, 1, 1, 0), (0, 0, 1, 1), (1, 1, 0, 0), (0, 0, 0, 0)]),
       st.booleans(), st.booleans())
def test_masked_softmax(shape, storage, seed, ones, causal, padded):
    x, dy, x_, dy_ = some(seed, shape, shape, storage=storage)
    rng = np.random.default_rng(seed)
    mask = None if ones is None else rng.random([1 if one else n for one, n in zip(ones, shape)]) < 0.6
    lengths = rng.integers(0, shape[-1] + 1, shape[0]) if padded else None
    sight = dict(mask=mask, is_causal=causal, key_lengths=lengths)
    y, saved = sm.masked_softmax_kernel_forward(x, **sight)
    y_, _ = sm.masked_softmax_forward(x_, **sight)
    near(y, y_, storage)
    assert ((widen(y) == 0) | (y_ != 0)).all(), "what may not be seen is exactly 0"
    dx, = sm.softmax_kernel_backward(dy, saved)
    near(dx, sm.masked_softmax_backward(dy_, (widen(y), -1))[0], storage)


@few
@given(heights, columns, storages, seeds, st.sampled_from(["layer", "no bias", "rms"]),
       st.lists(st.booleans(), min_size=3, max_size=3))
def test_norms(rows, C, storage, seed, kind, needs):
    x, w, b, dy, x_, w_, b_, dy_ = some(seed, (rows, C), (C,), (C,), (rows, C), storage=storage)
    if kind == "rms":
        ours, theirs = norm.rms_norm_kernel_forward(x, w, eps=0.1), norm.rms_norm_forward(x_, w_, eps=0.1)
    else:
        b, b_ = (b, b_) if kind == "layer" else (None, None)
        ours, theirs = norm.layer_norm_kernel_forward(x, w, b, eps=0.1), norm.layer_norm_forward(x_, w_, b_, eps=0.1)
    back = norm.rms_norm_backward if kind == "rms" else norm.layer_norm_backward
    near(ours[0], theirs[0], storage)
    needs = tuple(needs if kind == "layer" else needs[:2])
    grads, grads_ = back(dy, ours[1], needs), back(dy_, theirs[1], needs)
    assert len(grads) == len(needs)
    for g, g_, need in zip(grads, grads_, needs):
        assert (g is not None) == need == (g_ is not None)
        if need:
            assert g.dtype == x.dtype
            near(g, g_, storage)


def test_a_large_mean_costs_the_variance_no_digits():
    x = np.float32(4096 + np.random.default_rng(0).integers(-2, 3, (2, 64)))
    one = np.ones(64, np.float32)
    np.testing.assert_allclose(norm.layer_norm_kernel_forward(x, one)[0],
                               norm.layer_norm_forward(np.float64(x), one)[0], atol=1e-3)


def test_norm_gradients_repeat_to_the_bit_over_many_rows():
    x, w, dy, x_, w_, dy_ = some(3, (100, 33), (33,), (100, 33), storage="float32")
    first, again = (norm.layer_norm_backward(dy, norm.layer_norm_kernel_forward(x, w)[1], (False, True))[1] for _ in range(2))
    assert (first == again).all()
    near(first, norm.layer_norm_backward(dy_, norm.layer_norm_forward(x_, w_)[1], (False, True))[1], "float32")


@few
@given(st.sampled_from([1, 2, 9, 35]), st.sampled_from([1, 3, 8, 33, 40, 264]), storages, seeds, st.booleans(),
       st.tuples(st.booleans(), st.booleans()))
def test_gelu(rows, C, storage, seed, bias, needs):
    x, b, dy, x_, b_, dy_ = some(seed, (rows, C), (C,), (rows, C), storage=storage)
    y, saved = activation.gelu_tanh_kernel_forward(x, b if bias else None)
    y_, saved_ = activation.gelu_tanh_forward(x_ + b_ if bias else x_)
    near(y, y_, storage)
    near(saved[0], saved_[0], storage)
    slope_ = (widen(saved[0]),)
    if not bias:
        near(activation.gelu_tanh_kernel_backward(dy, saved)[0], activation.gelu_tanh_backward(dy_, slope_)[0], storage)
        return
    grads = activation.bias_gelu_tanh_kernel_backward(dy, saved, needs)
    dx_, = activation.gelu_tanh_backward(dy_, slope_)
    for g, g_, need in zip(grads, (dx_, dx_.sum(0)), needs):
        assert (g is not None) == need
        if need:
            near(g, g_, storage)


def test_gelu_far_from_zero_is_0_or_x():
    x = np.float32([-100, -20, 0, 20, 100])
    y, (slope,) = activation.gelu_tanh_kernel_forward(x)
    np.testing.assert_allclose(y, [0, 0, 0, 20, 100], atol=1e-20)
    np.testing.assert_allclose(slope, [0, 0, 0.5, 1, 1], atol=1e-20)


def test_rows_that_start_off_sixteen_bytes_are_read_one_by_one():
    room = np.random.default_rng(0).standard_normal(2 * 64 + 1).astype(np.float32)
    x = room[1:].reshape(2, 64)
    np.testing.assert_allclose(sm.softmax_kernel_forward(x)[0], sm.softmax_forward(x)[0], rtol=1e-5)


def test_no_rows_need_no_launch():
    x, w = np.zeros((0, 8), np.float32), np.ones(8, np.float32)
    assert sm.softmax_kernel_forward(x)[0].shape == (0, 8)
    y, saved = norm.layer_norm_kernel_forward(x, w, w)
    dx, dw, db = norm.layer_norm_backward(y, saved, (True, True, True))
    assert dx.shape == (0, 8) and not dw.any() and not db.any()


def test_float64_is_refused():
    with pytest.raises(TypeError, match="float64"):
        sm.softmax_kernel_forward(np.zeros((2, 3)))


PLANTED = {                                                # what each mistake replaces, in which file
    "none": ("softmax.cu", "", ""),
    "no shift": ("softmax.cu", "float shift = shift_of(o.most), scale = 1", "float shift = 0, scale = 1"),
    "the last partial round of the team is left out": ("softmax.cu", "i < cols;", "i + TEAM * N <= cols;"),
    "one number past the row's end": ("softmax.cu", "i < cols;", "i <= cols;"),
    "no barrier before the warps' sums are read": ("rows.cuh", "= sum;\n    __syncthreads();", "= sum;"),
    "no barrier in the block's sum": ("device.cuh", "= x;\n    __syncthreads();", "= x;"),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistakes_are_caught(mistake, tmp_path):
    with planted(tmp_path, *PLANTED[mistake]):
        assert all(map(holds, emulator.ORDERS)) == (mistake == "none")


def holds(order):
    """Do softmax of short and of long rows and the norm's weights come out right with the threads in this order?"""
    x, long, w, x_, long_, w_ = some(0, (9, 33), (2, 1028), (33,), storage="float32")
    x, x_ = x + 100, x_ + 100
    try:
        with emulator.thread_order(order):
            near(sm.softmax_kernel_forward(x)[0], sm.softmax_forward(x_)[0], "float32")
            near(sm.softmax_kernel_forward(long)[0], sm.softmax_forward(long_)[0], "float32")
            kept = norm.layer_norm_kernel_forward(x, w)[1]
            near(norm.layer_norm_backward(x, kept, (False, True))[1],
                 norm.layer_norm_backward(x_, norm.layer_norm_forward(x_, w_)[1], (False, True))[1], "float32")
    except (AssertionError, emulator.KernelError):
        return False
    return True
