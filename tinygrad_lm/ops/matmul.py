"""Products of matrices: matmul in every NumPy form, a linear layer, and einsum for two operands."""
from math import prod

from ..backend import array_module
from .reduce import column_sums


def matmul_forward(a, b):
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("a matrix product needs at least one axis on either side: use * for numbers")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"the last axis of the left ({a.shape[-1]}) must equal the "
                         f"{'second last' if b.ndim > 1 else 'only'} axis of the right ({b.shape[-2 if b.ndim > 1 else 0]})")
    return a @ b, (a, b)


def matmul_backward(dy, saved, needs):
    """dA = dY Bᵀ,  dB = Aᵀ dY; a vector is a matrix of one row (left) or one column (right)"""
    a, b = saved
    A = a if a.ndim > 1 else a[None, :]
    B = b if b.ndim > 1 else b[:, None]
    dY = dy if a.ndim > 1 else array_module(dy).expand_dims(dy, -1 if b.ndim == 1 else -2)
    dY = dY if b.ndim > 1 else dY[..., None]
    if B.ndim == 2 and A.ndim > 2:                                    # one matrix for the whole batch: one product
        rows = prod(A.shape[:-1])                                     # not −1, which an empty batch leaves open
        A, dY = A.reshape(rows, A.shape[-1]), dY.reshape(rows, dY.shape[-1])
        dA = (dY @ B.T).reshape(a.shape) if needs[0] else None
    else:
        dA = dY @ B.swapaxes(-1, -2) if needs[0] else None            # (..., N, K)
    dB = A.swapaxes(-1, -2) @ dY if needs[1] else None                # (..., K, M)
    if dA is not None and a.ndim == 1:
        dA = dA[..., 0, :]
    if dB is not None and b.ndim == 1:
        dB = dB[..., 0]
    return dA, dB


def linear_forward(x, w, b=None):                                     # x (..., I), w (O, I), b (O,)
    """Y = X Wᵀ + b"""
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"a weight of shape (out, in) = {w.shape} takes inputs of shape (..., {w.shape[-1]}), "
                         f"not {x.shape}")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"a weight of shape (out, in) = {w.shape} takes a bias of shape {w.shape[:1]}, not {b.shape}")
    y = x.reshape(-1, x.shape[-1]).dot(w.T)                           # one product for the whole batch; of two matrices,
    if b is not None:                                                 # NumPy's dot is @ with a microsecond less around it
        y += b
    return y.reshape(*x.shape[:-1], w.shape[0]), (x, w)


def linear_backward(dy, saved, needs):
    """dX = dY W,  dW = dYᵀ X,  db = Σ dY"""
    x, w = saved
    dY = dy.reshape(-1, w.shape[0])
    dx = dY.dot(w).reshape(x.shape) if needs[0] else None
    dw = dY.T.dot(x.reshape(-1, w.shape[1])) if needs[1] else None
    if len(needs) < 3:
        return dx, dw
    db = column_sums(dY) if needs[2] else None
    return dx, dw, db


def linear_add_forward(r, x, w, b=None):                              # r (..., O)
    """Y = R + X Wᵀ + b: what a transformer's block adds to its residual stream"""
    y, saved = linear_forward(x, w, b)
    if r.shape != y.shape:
        raise ValueError(f"a layer's result of shape {y.shape} is added to an equal shape, not to {r.shape}")
    y += r
    return y, saved


def linear_add_backward(dy, saved, needs):
    return (dy,) + linear_backward(dy, saved, needs[1:])


def einsum_forward(a, b, *, spec):
    left, right, out = parse(spec, a, b)
    return array_module(a).einsum(f"{left},{right}->{out}", a, b, optimize=True), (a, b, left, right, out)


def einsum_backward(dy, saved, needs):
    a, b, left, right, out = saved
    return (einsum_gradient(dy, out, b, right, a, left) if needs[0] else None,
            einsum_gradient(dy, out, a, left, b, right) if needs[1] else None)


def einsum_gradient(dy, out, other, theirs, mine, labels):
    """The same product with result and operand changing places; an axis that was summed alone is repeated."""
    xp = array_module(dy)
    found = "".join(c for c in labels if c in out or c in theirs)
    d = xp.einsum(f"{out},{theirs}->{found}", dy, other, optimize=True)
    d = xp.expand_dims(d, tuple(i for i, c in enumerate(labels) if c not in found))
    return xp.broadcast_to(d, [m if n == 1 else n for n, m in zip(d.shape, mine.shape)])


def parse(spec, a, b):
    """The labels of both operands and of the result, `...` written out and the result made explicit."""
    inputs, arrow, out = spec.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != 2:
        raise ValueError(f"einsum takes two operands here, and {spec!r} has {len(terms)}")
    spare = [c for c in "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in spec]
    dots = [max(0, x.ndim - len(t.replace("...", ""))) if "..." in t else 0 for t, x in zip(terms, (a, b))]
    batch = "".join(spare[:max(dots)])
    left, right = (t.replace("...", batch[len(batch) - n:]) for t, n in zip(terms, dots))
    for labels, x in ((left, a), (right, b)):
        if len(set(labels)) < len(labels):
            raise ValueError(f"einsum {spec!r}: a label twice in one operand (a diagonal) is not differentiated here: "
                             "index the diagonal first")
        if len(labels) != x.ndim:
            raise ValueError(f"einsum {spec!r} names {len(labels)} axes of an operand of shape {x.shape}")
    if not arrow:
        out = batch + "".join(sorted(c for c in left + right if (left + right).count(c) == 1 and c not in batch))
    return left, right, out.replace("...", batch)
