"""Some elements, drawn at random, become zero, and the rest grow so that the mean stays (Srivastava et al. 2014 [DROP])."""

from ..backend import random


def dropout_forward(x, *, p, rng):
    keep = (random(rng, x) >= p) * x.dtype.type(1 / (1 - p))   # 0 or 1/(1−p)
    return x * keep, (keep,)


def dropout_backward(dy, saved):
    keep, = saved
    return dy * keep,
