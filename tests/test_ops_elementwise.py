"""One number in, one number out: every function against NumPy and against central differences."""
from math import erf

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_lm as tg
from tinygrad_lm import Tensor, functional as F
from tinygrad_lm.ops.activation import gelu_tanh

from .checks import check, check_same, gradients, holds, tensor, there, value_and_gradients
from .strategies import array, away_from_zero, broadcastable, lattice, shapes, uniform

pytestmark = pytest.mark.usefixtures("device")

positive, near_one = uniform(0.2, 3), uniform(0.5, 2)
with_empty = shapes(sizes=(0, 1, 2, 3))

test_neg = holds(F.neg, np.negative, array(with_empty))
test_exp = holds(F.exp, np.exp, array(with_empty))
test_log = holds(F.log, np.log, array(values=positive))
test_sqrt = holds(F.sqrt, np.sqrt, array(values=positive))
test_tanh = holds(F.tanh, np.tanh, array())
test_sigmoid = holds(F.sigmoid, lambda x: 1 / (1 + np.exp(-x)), array())
test_sin = holds(F.sin, np.sin, array())
test_cos = holds(F.cos, np.cos, array())
test_erf = holds(F.erf, np.vectorize(erf, otypes=[float]), array(values=uniform(-4, 4)))
test_abs = holds(F.abs, np.abs, array(values=away_from_zero))
test_relu = holds(F.relu, lambda x: np.where(x > 0, x, 0), array(values=away_from_zero))

test_add = holds(F.add, np.add, broadcastable(uniform(), uniform(), sizes=(0, 1, 2, 3)))
test_sub = holds(F.sub, np.subtract, broadcastable(uniform(), uniform()))
test_mul = holds(F.mul, np.multiply, broadcastable(uniform(), uniform(), sizes=(0, 1, 2, 3)))
test_div = holds(F.div, np.divide, broadcastable(uniform(), away_from_zero))
test_pow = holds(F.pow, np.power, broadcastable(near_one, uniform()))
test_maximum = holds(F.maximum, np.maximum, broadcastable(lattice(0), lattice(0.2)))
test_minimum = holds(F.minimum, np.minimum, broadcastable(lattice(0), lattice(0.2)))


@given(array(values=away_from_zero), st.sampled_from([-2, -1, 0, 1, 2, 3, 2.0]))
def test_pow_of_a_number(x, n):
    check(lambda x: x ** n, lambda x: x ** float(n), x)


@given(array(), st.sampled_from([0.5, 1, 3]))
def test_pow_to_a_tensor(x, base):
    check(lambda x: base ** x, lambda x: base ** x, x)


def test_pow_where_it_is_not_smooth():
    """0² and 0⁰ have finite gradients; a negative base has none with respect to the exponent."""
    with np.errstate(all="raise"):
        a, b = gradients(F.pow, np.array([0.0, 0.0, -2.0]), np.array([2.0, 0.0, 3.0]))
    assert a[0] == a[1] == 0 and np.isfinite(a).all() and (b == 0).all()


@given(array(values=lattice(0)), st.sampled_from([-0.6, None]), st.sampled_from([0.6, None]))
def test_clip(x, low, high):
    check(lambda x: F.clip(x, low, high), lambda x: np.clip(x, low, high), x)


def test_clip_has_gradient_on_its_bounds():
    x = tensor(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    F.clip(x, -1, 1).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


@given(broadcastable(uniform(), uniform(), lattice(0.2)))
def test_where(drawn):
    *ab, c = drawn
    check(lambda a, b: F.where(there(c > 0, a), a, b), lambda a, b: np.where(c > 0, a, b), *ab)
    check(lambda a: F.where(there(c > 0, a), a, 0.0), lambda a: np.where(c > 0, a, 0.0), ab[0])
    check(lambda b: F.where(Tensor(there(np.asarray(c > 0), b)), 1.0, b), lambda b: np.where(c > 0, 1.0, b), ab[1])


@given(broadcastable(uniform(), lattice(0.2)))
def test_masked_fill(drawn):
    x, m = drawn
    check(lambda x: F.masked_fill(x, there(m > 0, x), -7.5), lambda x: np.where(m > 0, -7.5, x), x)


@given(array(values=lattice(0)))
def test_astype(x):
    x64 = tensor(x)
    y = x64.astype(np.float32)
    y.backward(np.full(y.shape, 0.5, np.float32))
    assert y.dtype == np.float32 and x64.grad.dtype == np.float64 and (x64.grad == 0.5).all()
    np.testing.assert_array_equal(y.numpy(), x.astype(np.float32))


@given(array())
def test_to(x):
    """To another type, to where it is already, and to the host and back."""
    x64 = tensor(x)
    assert x64.to(x64.device) is x64.to(np.float64) is x64
    y = x64.to("float32")
    y.backward(np.full(y.shape, 0.5))
    assert y.dtype == np.float32 and x64.grad.dtype == np.float64 and (x64.grad == 0.5).all()
    check(lambda x: F.to(F.to(x, "cpu") * 3, x.device), lambda x: x * 3, x)


@given(array(values=lattice(0)))
def test_equal_ones_share_the_gradient(x):
    for f in F.maximum, F.minimum:
        da, db = gradients(f, x, x.copy())
        both, = gradients(lambda x: x * 1, x)
        np.testing.assert_allclose(da, both / 2)
        np.testing.assert_allclose(db, both / 2)


def test_kinks_at_zero():
    """Where there is no derivative, 0 is given, as everywhere."""
    for f in F.abs, F.relu:
        assert gradients(f, np.zeros(3))[0].tolist() == [0, 0, 0]


# ---- fused ones equal what they are composed of ---------------------------------------------------------------------

def composed_gelu_tanh(x):
    return 0.5 * x * (1 + F.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x ** 3)))


@given(array(values=uniform(-4, 4)))
def test_gelu(x):
    check_same(F.gelu, lambda x: 0.5 * x * (1 + F.erf(x / 2 ** 0.5)), x)
    check_same(lambda x: F.gelu(x, approximate="tanh"), composed_gelu_tanh, x)
    np.testing.assert_array_equal(gelu_tanh(x.reshape(-1)), F.gelu(x, approximate="tanh").data.reshape(-1))


@given(array(values=uniform(-4, 4)))
def test_silu(x):
    check_same(F.silu, lambda x: x * F.sigmoid(x), x)


@given(array(values=uniform(-4, 4)))
def test_logsigmoid(x):
    check_same(F.logsigmoid, lambda x: -F.log(1 + F.exp(-x)), x)


def test_large_inputs_do_not_overflow():
    x = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for f in F.sigmoid, F.logsigmoid, F.tanh, F.silu, F.gelu, F.erf, lambda x: F.gelu(x, approximate="tanh"):
            for dtype in np.float32, np.float64:
                assert all(np.isfinite(a).all() for a in value_and_gradients(f, x, dtype=dtype))
    np.testing.assert_allclose(F.logsigmoid(tensor(x)).numpy(), [-1e4, -800, -np.log(2), 0, 0])


# ---- operators, and the type of the result --------------------------------------------------------------------------

OPERATORS = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
             "pow": lambda a, b: a ** b}


@given(broadcastable(near_one, near_one), st.sampled_from(sorted(OPERATORS)))
def test_operators(drawn, name):
    """tensor ∘ tensor, array ∘ tensor, tensor ∘ array and number ∘ tensor are all the function of that name."""
    f = OPERATORS[name]
    a, b = drawn
    check_same(f, getattr(F, name), a, b)
    check(lambda b: f(there(a.astype(b.dtype), b), b), lambda b: f(a, b), b)
    check(lambda a: f(a, there(b.astype(a.dtype), a)), lambda a: f(a, b), a)
    check(lambda b: f(1.5, b), lambda b: f(1.5, b), b)
    check(lambda a: f(a, 1.5), lambda a: f(a, 1.5), a)


@given(array(values=away_from_zero))
def test_unary_operators(x):
    check(lambda x: -abs(x), lambda x: -abs(x), x)


@given(broadcastable(lattice(0), lattice(0)))
def test_comparisons(drawn):
    a, b = drawn
    one, other = tensor(a), tensor(b, False)
    for x, y in (one, other), (one, other.data), (one.data, other):
        for ours, theirs in ((x < y, a < b), (x <= y, a <= b), (x > y, a > b), (x >= y, a >= b)):
            assert isinstance(ours, Tensor) and ours.dtype == bool and not ours.requires_grad
            np.testing.assert_array_equal(ours.numpy(), theirs)


OTHERS = [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), np.array([1, 2, 3]), np.array([True, False, True]),
          [1.5, 2.5, 3.5], [1, 2, 3], np.array([1, 2, 3], np.uint8), Tensor([1, 2, 3]), Tensor(2.5)]


@given(st.sampled_from(sorted(OPERATORS) + ["maximum", "minimum", "where"]), st.sampled_from(OTHERS), st.booleans())
def test_float32_stays_float32(name, other, reflected):
    """Whatever stands on the other side, unless it is an array of float64."""
    def f(a, b):
        return F.where(where, a, b) if name == "where" else OPERATORS.get(name, getattr(F, name))(a, b)
    x = tensor(np.array([0.5, 1.0, 1.5], np.float32))
    where = there(np.array([True, False, True]), x)
    other = other.to(x.device) if isinstance(other, Tensor) else there(other, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = f(other, x) if reflected else f(x, other)
        y.sum().backward()
    assert isinstance(y, Tensor) and y.dtype == np.float32 and x.grad.dtype == np.float32


def test_options_do_not_change_the_type():
    """A NumPy float64 among the options does not turn float32 into float64."""
    x, w = tensor(np.ones((2, 3), np.float32)), tensor(np.ones(3, np.float32))
    two = np.float64(2)
    for y in (F.clip(x, -two, two), F.masked_fill(x, x > 0, two), F.layer_norm(x, w, eps=two),
              F.rms_norm(x, w, eps=two), F.pad(x, [(1, 1), (0, 0)], value=two),
              F.cross_entropy(x, np.array([0, 1]), label_smoothing=np.float64(0.1)),
              F.dropout(x, np.float64(0.5), rng=np.random.default_rng(0))):
        y.sum().backward()
        assert y.dtype == np.float32 and x.grad.dtype == np.float32


def test_a_list_keeps_the_precision_of_what_it_meets():
    assert (tensor(np.ones(2)) * [0.1, 0.2]).data.tolist() == [0.1, 0.2]
    assert Tensor([0.1], dtype=np.float64).data[0] == 0.1


def test_random_weights_in_gradcheck_find_a_wrong_gradient():
    """The tool itself: a gradient that is wrong is refused, and so is NaN."""
    from tinygrad_lm.tensor import op
    for factor in 1.001, np.nan:
        wrong = op(lambda x: (x * x, (x,)), lambda dy, saved: (dy * 2 * saved[0] * factor,))
        try:
            tg.gradcheck(wrong, tensor(np.array([1.0, 2.0])))
        except AssertionError as error:
            assert "first at (0,)" in str(error)
        else:
            raise AssertionError("gradcheck let a wrong gradient pass")
