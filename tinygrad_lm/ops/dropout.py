"""Some elements, drawn at random, become zero, and the rest grow so that the mean stays (Srivastava et al. 2014 [DROP])."""

import numpy as np

from ..backend import array_module, random
from ..kernels import fits_kernel, launch, storage
from .rows import dense


def dropout_forward(x, *, p, rng):
    if fits_kernel(x):
        key = array_module(x).asarray(rng.integers(0, 2**32, 2, dtype=np.int64).astype(np.uint32))
        return dropout_kernel(x, p, key), (p, key)
    keep = (random(rng, x) >= p) * x.dtype.type(1 / (1 - p))   # 0 or 1/(1−p)
    return x * keep, (keep,)


def dropout_backward(dy, saved):
    if len(saved) == 2:
        return dropout_kernel(dy, *saved),
    keep, = saved
    return dy * keep,


# ---- on the GPU: dropout.cu -------------------------------------------------------------------------------------------

def dropout_kernel(x, p, key):
    """x or dy, dropped by the mask that p and key (2 words) determine: none is kept between forward and backward."""
    xp = array_module(x)
    x = dense(x)
    y = xp.empty_like(x)
    if x.size:
        launch("dropout.cu", f"dropout<{storage(x)}>", -(-x.size // 1024), 256,
               (x, y, key, np.uint32(p * 2**32), np.float32(1 / (1 - p)), np.int32(x.size)))
    return y
