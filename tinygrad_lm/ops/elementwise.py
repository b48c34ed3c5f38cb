"""One number in, one number out, applied to every element; two inputs are broadcast against each other."""
from ..backend import array_module


def as_array(x, xp):
    """x; a Python number as an array without axes, which CuPy's `where` asks for, made on the device."""
    return x if hasattr(x, "dtype") else xp.full((), x)


def add_forward(a, b):
    return a + b, ()


def add_backward(dy, saved):
    return dy, dy


def sub_forward(a, b):
    return a - b, ()


def sub_backward(dy, saved, needs):
    return dy, -dy if needs[1] else None


def mul_forward(a, b):
    return a * b, (a, b)


def mul_backward(dy, saved, needs):
    """da = dy b,  db = dy a"""
    a, b = saved
    return dy * b if needs[0] else None, dy * a if needs[1] else None


def div_forward(a, b):
    return a / b, (a, b)


def div_backward(dy, saved, needs):
    """da = dy / b,  db = −dy a / b²"""
    a, b = saved
    return dy / b if needs[0] else None, -dy * a / (b * b) if needs[1] else None


def neg_forward(x):
    return -x, ()


def neg_backward(dy, saved):
    return -dy,


def power_forward(a, b):
    y = a ** b
    return y, (a, b, y)


def power_backward(dy, saved, needs):
    """da = dy b aᵇ⁻¹ (0 where b = 0),  db = dy aᵇ log a (0 where a ≤ 0: there aᵇ is no smooth function of b)"""
    a, b, y = saved
    xp = array_module(y)
    da = db = None
    if needs[0]:
        da = dy * b * a ** (b - (b != 0))
    if needs[1]:
        a = as_array(a, xp)
        db = dy * y * xp.log(xp.where(a > 0, a, 1))
    return da, db


def exp_forward(x):
    y = array_module(x).exp(x)
    return y, (y,)


def exp_backward(dy, saved):
    y, = saved
    return dy * y,


def log_forward(x):
    return array_module(x).log(x), (x,)


def log_backward(dy, saved):
    x, = saved
    return dy / x,


def sqrt_forward(x):
    y = array_module(x).sqrt(x)
    return y, (y,)


def sqrt_backward(dy, saved):
    """dx = dy / 2√x, infinite at 0"""
    y, = saved
    return 0.5 * dy / y,


def tanh_forward(x):
    y = array_module(x).tanh(x)
    return y, (y,)


def tanh_backward(dy, saved):
    y, = saved
    return dy * (1 - y * y),


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), written with tanh because exp(−x) would overflow"""
    return 0.5 * array_module(x).tanh(0.5 * x) + 0.5


def sigmoid_forward(x):
    y = sigmoid(x)
    return y, (y,)


def sigmoid_backward(dy, saved):
    y, = saved
    return dy * y * (1 - y),


def sin_forward(x):
    return array_module(x).sin(x), (x,)


def sin_backward(dy, saved):
    x, = saved
    return dy * array_module(x).cos(x),


def cos_forward(x):
    return array_module(x).cos(x), (x,)


def cos_backward(dy, saved):
    x, = saved
    return -dy * array_module(x).sin(x),


def abs_forward(x):
    return abs(x), (x,)


def abs_backward(dy, saved):
    """dx = dy sign(x), 0 at 0"""
    x, = saved
    return dy * array_module(x).sign(x),


def maximum_forward(a, b):
    y = array_module(b if hasattr(b, "dtype") else a).maximum(a, b)
    return y, (a, b, y)


def minimum_forward(a, b):
    y = array_module(b if hasattr(b, "dtype") else a).minimum(a, b)
    return y, (a, b, y)


def extremum_backward(dy, saved, needs):
    """The one that was chosen receives the gradient; equal ones receive half each."""
    a, b, y = saved
    share = dy * (1 - 0.5 * (a == b).astype(dy.dtype))
    return share * (a == y) if needs[0] else None, share * (b == y) if needs[1] else None


def clip_forward(x, *, low, high):
    return array_module(x).clip(x, low, high), (x, low, high)


def clip_backward(dy, saved):
    """dx = dy where low ≤ x ≤ high, else 0"""
    x, low, high = saved
    inside = array_module(x).ones(x.shape, bool)
    if low is not None:
        inside &= x >= low
    if high is not None:
        inside &= x <= high
    return dy * inside,


def where_forward(a, b, *, condition):
    xp = array_module(b if hasattr(b, "dtype") else a)
    condition = as_array(condition, xp)
    return xp.where(condition, a, b), (condition,)


def where_backward(dy, saved, needs):
    condition, = saved
    where = array_module(dy).where
    return where(condition, dy, 0) if needs[0] else None, where(condition, 0, dy) if needs[1] else None


def masked_fill_forward(x, *, mask, value):
    xp = array_module(x)
    mask = as_array(mask, xp)
    return xp.where(mask, x.dtype.type(value), x), (mask,)


def masked_fill_backward(dy, saved):
    mask, = saved
    return array_module(dy).where(mask, 0, dy),


def astype_forward(x, *, dtype):
    return x.astype(dtype), ()


def astype_backward(dy, saved):
    return dy,                                    # the engine casts a gradient to its input's dtype
