"""The bend between two linear layers: ReLU, GELU (Hendrycks and Gimpel 2016 [GELU]), SiLU; and log σ for losses."""
from math import pi, sqrt

from ..backend import array_module, pieces
from .elementwise import sigmoid
from .erf import erf

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


def gelu_tanh_forward(x):
    """y = ½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))"""
    xp = array_module(x)
    y = xp.empty_like(x, order="C")
    for x_, y_ in zip(pieces(x), pieces(y)):
        _tanh_of_cubic(x_, y_)
        y_ += 1
        y_ *= x_
        y_ *= 0.5
    return y, (x,)


def gelu_tanh_backward(dy, saved):
    """dx = dy ½ (1 + t + x (1 − t²) u′),  u′ = √(2/π) (1 + 3 · 0.044715 x²);  t is made again: cheaper than keeping it"""
    x, = saved
    xp = array_module(x)
    dx = xp.empty_like(dy, order="C")
    for x_, dy_, d in zip(pieces(x), pieces(dy), pieces(dx)):
        t = xp.empty_like(d)
        _tanh_of_cubic(x_, t)
        xp.multiply(x_, x_, out=d)
        d *= 3 * CUBIC * ROOT_2_PI
        d += ROOT_2_PI
        d *= x_                                          # x u′
        d -= d * t * t
        d += t
        d += 1
        d *= 0.5
        d *= dy_
    return dx,


def _tanh_of_cubic(x, out):
    """out = tanh(√(2/π) (x + 0.044715 x³))"""
    xp = array_module(x)
    xp.multiply(x, x, out=out)
    out *= CUBIC * ROOT_2_PI
    out += ROOT_2_PI
    out *= x
    xp.tanh(out, out=out)


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
