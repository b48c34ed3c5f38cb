"""Scores become probabilities, along one axis."""
from ..backend import array_module


def softmax_forward(x, *, axis=-1):                          # x (..., V)
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)"""
    xp = array_module(x)
    y = x - x.max(axis, keepdims=True)                       # the shift cancels; exp cannot overflow
    xp.exp(y, out=y)
    y /= y.sum(axis, keepdims=True)
    return y, (y, axis)


def softmax_backward(dy, saved):
    """dxᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)"""
    y, axis = saved
    return y * (dy - (dy * y).sum(axis, keepdims=True)),


def log_softmax_forward(x, *, axis=-1):
    """yᵢ = xᵢ − log Σⱼ exp(xⱼ)"""
    xp = array_module(x)
    y = x - x.max(axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis, keepdims=True))
    return y, (y, axis)


def log_softmax_backward(dy, saved):
    """dxᵢ = dyᵢ − exp(yᵢ) Σⱼ dyⱼ"""
    y, axis = saved
    return dy - array_module(y).exp(y) * dy.sum(axis, keepdims=True),
