"""The bend between two linear layers: ReLU, GELU (Hendrycks and Gimpel 2016 [GELU]), SiLU; and log σ for losses."""
from math import pi, sqrt

from ..backend import array_module
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
    t = array_module(x).asarray(x * x)                  # an array also where x has no axes
    t *= CUBIC * ROOT_2_PI                              # √(2/π) (1 + 0.044715 x²) x, in place: memory is what is slow
    t += ROOT_2_PI
    t *= x
    array_module(x).tanh(t, out=t)
    y = t + 1
    y *= x
    y *= 0.5
    return y, (x, t)


def gelu_tanh_backward(dy, saved):
    """dx = dy ½ (1 + t + x (1 − t²) u′),  u′ = √(2/π) (1 + 3 · 0.044715 x²)"""
    x, t = saved
    d = x * x
    d *= 3 * CUBIC * ROOT_2_PI
    d += ROOT_2_PI
    d *= x
    d *= 1 - t * t
    d += t
    d += 1
    d *= dy
    d *= 0.5
    return d,


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
