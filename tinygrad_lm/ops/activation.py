"""The bend between two linear layers: ReLU, GELU (Hendrycks and Gimpel 2016 [GELU]), SiLU; and log σ for losses."""
from functools import lru_cache
from math import pi, sqrt

import numpy as np

from ..backend import array_module, pieces
from ..kernels import fits_kernel, launch, storage
from .elementwise import sigmoid
from .erf import erf
from .matmul import linear_backward, linear_forward
from .rows import BLOCK, dense, pack, parts_of, sum_partials

ROOT_2_PI = sqrt(2 / pi)
CUBIC = 0.044715


def relu_forward(x):
    return array_module(x).maximum(x, 0), (x,)


def relu_backward(dy, saved):
    x, = saved
    return dy * (x > 0),


def gelu_forward(x):
    """y = x Φ(x), with Φ the standard normal distribution function: ½ (1 + erf(x/√2))"""
    cdf = 0.5 * erf(x / sqrt(2)) + 0.5
    return x * cdf, (x, cdf)


def gelu_backward(dy, saved):
    """dx = dy (Φ(x) + x φ(x)),  φ(x) = exp(−x²/2) / √(2π)"""
    x, cdf = saved
    density = array_module(x).exp(-0.5 * x * x) / sqrt(2 * pi)
    return dy * (cdf + x * density),


def gelu_tanh_forward(x, *, out=None):
    """y = ½ x (1 + tanh u) = x σ(2u),  u = √(2/π) (x + 0.044715 x³)

    dy/dx is made here, too, while σ is in the cache, and kept in place of x: tanh is taken once. `out`, which may
    be x itself, receives y.
    """
    if fits_kernel(x):
        return gelu_tanh_kernel_forward(x)
    xp = array_module(x)
    y, slope = xp.empty_like(x, order="C") if out is None else out, xp.empty_like(x, order="C")
    for x_, y_, d in zip(pieces(x), pieces(y), pieces(slope)):
        s, square = _sigmoid_of_2u(x_)
        xp.multiply(x_, s, out=y_)
        _slope(y_, s, square, d)
    return y, (slope,)


def gelu_tanh(x):
    """The value alone, where nobody asks for a gradient: decoding. x (..., C)"""
    s, _ = _sigmoid_of_2u(x)
    s *= x
    return s


def _sigmoid_of_2u(x):
    """(σ(2u) = ½ (1 + tanh u), x²): NumPy's tanh takes less time than its exponential and a division"""
    xp = array_module(x)
    cubic, linear, half = constants(xp, x.dtype, CUBIC * ROOT_2_PI, ROOT_2_PI, 0.5)
    square = x * x
    s = square * cubic
    s += linear
    s *= x                                               # u
    xp.tanh(s, out=s)
    s *= half
    s += half
    return s, square


def _slope(y, s, square, d):
    """d = σ + y (1 − σ) 2u′"""
    xp = array_module(y)
    cubic, linear, one = constants(xp, y.dtype, 6 * CUBIC * ROOT_2_PI, 2 * ROOT_2_PI, 1)
    xp.multiply(square, cubic, out=d)
    d += linear                                          # 2u′
    d *= y
    xp.subtract(one, s, out=square)
    d *= square
    d += s


@lru_cache(maxsize=64)
def constants(xp, dtype, *numbers):
    """As arrays without axes, which NumPy takes a quarter of a microsecond sooner than Python's numbers."""
    return [xp.asarray(number, dtype) for number in numbers]


def gelu_tanh_backward(dy, saved):
    slope, = saved
    if fits_kernel(slope):
        return gelu_tanh_kernel_backward(dy, saved)
    return dy * slope,


def linear_gelu_forward(x, w, b):                            # x (..., I), w (O, I), b (O,)
    """y = gelu_tanh(x Wᵀ + b)"""
    if fits_kernel(x):
        z, kept = linear_forward(x, w)
        y, (slope,) = gelu_tanh_kernel_forward(z, b)
    else:
        z, kept = linear_forward(x, w, b)
        y, (slope,) = gelu_tanh_forward(z, out=z)
    return y, (slope, kept)


def linear_gelu_backward(dy, saved, needs):
    slope, kept = saved
    if fits_kernel(slope):
        return linear_gelu_kernel_backward(dy, saved, needs)
    return linear_backward(dy * slope, kept, needs)


def silu_forward(x):
    """y = x σ(x)  (Elfwing et al. 2018 [SILU])"""
    s = sigmoid(x)
    return x * s, (x, s)


def silu_backward(dy, saved):
    """dx = dy σ(x) (1 + x (1 − σ(x)))"""
    x, s = saved
    return dy * s * (1 + x * (1 - s)),


def logsigmoid_forward(x):
    """y = log σ(x) = min(x, 0) − log(1 + exp(−|x|)), which cannot overflow"""
    xp = array_module(x)
    return xp.minimum(x, 0) - xp.log1p(xp.exp(-abs(x))), (x,)


def logsigmoid_backward(dy, saved):
    """dx = dy σ(−x)"""
    x, = saved
    return dy * sigmoid(-x),


# ---- activation.cu: for arrays of the GPU, and for NumPy's on the emulator -------------------------------------------


def gelu_tanh_kernel_forward(x, b=None):                     # x (..., C), b (C,)
    x = dense(x)
    b = None if b is None else dense(b, like=x)
    xp = array_module(x)
    y, slope = xp.empty_like(x), xp.empty_like(x)
    C = x.size if b is None else b.size                      # without a bias, any run of neighbours will do
    _launch_flat("gelu_tanh_forward", (x, x if b is None else b, y, slope), C, f", {str(b is not None).lower()}",
                 np.int32(1 if b is None else C))
    return y, (slope,)


def gelu_tanh_kernel_backward(dy, saved):
    slope, = saved
    dy = dense(dy, like=slope)
    dx = array_module(slope).empty_like(slope)
    _launch_flat("gelu_tanh_backward", (dy, slope, dx), slope.size)
    return dx,


def bias_gelu_tanh_kernel_backward(dy, saved, needs):
    slope, = saved
    dy = dense(dy, like=slope)
    dx = gelu_tanh_kernel_backward(dy, saved)[0] if needs[0] else None
    if not needs[1]:
        return dx, None
    C = slope.shape[-1]
    rows = slope.size // max(C, 1)
    P = parts_of(rows)
    db = array_module(slope).zeros((P, C), np.float32)
    if rows * C:
        launch("activation.cu", f"gelu_tanh_backward_b<{storage(slope)}>", (-(-C // 32), P), (32, 8),
               (dy, slope, db, np.int32(rows), np.int32(C)))
    return dx, sum_partials("activation.cu", db, slope)


def linear_gelu_kernel_backward(dy, saved, needs):
    slope, kept = saved
    dz, db = bias_gelu_tanh_kernel_backward(dy, (slope,), (True, needs[2]))
    dx, dw = linear_backward(dz, kept, needs[:2])
    return dx, dw, db


def _launch_flat(kernel, arrays, C, options="", *numbers):
    """A thread for each pack of neighbours; C: a pack must not reach over a multiple of it."""
    size, N = arrays[0].size, pack(arrays, C)
    if size:
        launch("activation.cu", f"{kernel}<{storage(arrays[0])}, {N}{options}>", -(-size // (N * BLOCK)), BLOCK,
               (*arrays, np.int64(size), *numbers))
