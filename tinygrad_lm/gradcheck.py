"""Is a gradient right? Compare backward() with central differences, which need nothing but the function itself."""
import numpy as np

from .backend import to_host
from .tensor import Tensor


def gradcheck(f, *tensors, eps=1e-6, atol=1e-6, rtol=1e-5, seed=0):
    """True if backward() through `f(*tensors)` agrees with (f(x + ε) − f(x − ε)) / 2ε for every element of every tensor
    that requires a gradient; otherwise an AssertionError that names the tensor, the element and both numbers.

    Tensors must be float64: in float32 the difference would drown in rounding. A result that is no scalar is summed
    with random weights drawn from `seed`, so that no two elements can hide each other's mistakes.
    """
    for i, t in enumerate(tensors):
        if t.requires_grad and t.dtype != np.float64:
            raise TypeError(f"gradcheck needs float64 and tensor {i} is {t.dtype}: make it Tensor(x, True, dtype='f8')")
        t.grad = None
    y = f(*tensors)
    weights = np.random.default_rng(seed).standard_normal(y.shape)
    if y.requires_grad:
        y.backward(weights)

    def value():
        return float((f(*tensors).numpy() * weights).sum())

    for i, t in enumerate(tensors):
        if not t.requires_grad:
            continue
        given = np.zeros(t.shape) if t.grad is None else to_host(t.grad)
        expected = central_differences(value, t, eps)
        wrong = ~(np.abs(given - expected) <= atol + rtol * np.abs(expected))           # NaN is wrong, too
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise AssertionError(f"gradient of input {i} (shape {t.shape}) is wrong in {wrong.sum()} of {t.size} "
                                 f"elements, first at {at}: backward says {given[at]:.8g}, central differences "
                                 f"{expected[at]:.8g}")
        t.grad = None
    return True


def central_differences(value, t, eps):
    """d value() / d t, an element at a time, by moving the element in place."""
    d = np.zeros(t.shape)
    for at in np.ndindex(t.shape):
        here = float(t.data[at])
        t.data[at] = here + eps
        above = value()
        t.data[at] = here - eps
        d[at] = (above - value()) / (2 * eps)
        t.data[at] = here
    return d
