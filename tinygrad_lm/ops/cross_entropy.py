"""How surprised the model is by the right answer: −log softmax(logits)[target], and its gradient p − onehot."""
import numpy as np

from ..backend import array_module
from ..kernels import fits_kernel, launch, storage
from .reduce import row_sums


def cross_entropy_forward(logits, *, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """ℓ = −Σᵥ qᵥ log pᵥ with q = (1 − ε) onehot(target) + ε/V; 0 where the target is to be ignored, whatever the logits are.

    logits (..., V), targets int (...). Label smoothing ε: Szegedy et al. 2016 [SMOOTH].
    """
    if fits_kernel(logits):
        return cross_entropy_kernel_forward(logits, targets, ignore_index, reduction, label_smoothing)
    if logits.dtype == np.float16:                       # whose loss is float32 all the same
        logits = logits.astype(np.float32)
    xp = array_module(logits)
    z, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)       # (N, V), (N,)
    kept = targets != ignore_index
    rows, picked = xp.arange(len(z)), xp.where(kept, targets, 0)
    with np.errstate(invalid="ignore", over="ignore"):                           # ∞ − ∞: a row that counts shows it as NaN
        peak = z.max(-1, keepdims=True)
        e = z - peak
        xp.exp(e, out=e)
        lse = xp.log(row_sums(e)) + peak                                         # (N, 1): log Σ exp
        loss = (lse[:, 0] - z[rows, picked]) * (1 - label_smoothing)
        if label_smoothing:
            loss += label_smoothing * (lse[:, 0] - z.mean(-1))
    loss = xp.where(kept, loss, 0)                                               # not · kept: 0 · ∞ is NaN
    count = kept.sum(dtype="float32") if reduction == "mean" else 1              # no int(): a GPU would be waited for
    saved = logits, lse, rows, picked, kept, count, label_smoothing              # no second copy of the logits
    return (loss.reshape(logits.shape[:-1]) if reduction == "none" else loss.sum() / count), saved


def cross_entropy_backward(dy, saved):
    """dlogits = (p − q) dy; p is made again from the logits, which is cheaper than keeping it"""
    if len(saved) == 2:
        return cross_entropy_kernel_backward(dy, saved)
    logits, lse, rows, picked, kept, count, label_smoothing = saved
    V = logits.shape[-1]
    with np.errstate(invalid="ignore", over="ignore"):
        d = logits.reshape(-1, V) - lse                                          # (N, V)
        array_module(d).exp(d, out=d)
        if label_smoothing:
            d -= label_smoothing / V
        d[rows, picked] -= 1 - label_smoothing
        d *= (dy.reshape(-1) / count)[:, None].astype(d.dtype, copy=False)
    d[~kept] = 0
    return d.reshape(logits.shape),


# ---- on the GPU: cross_entropy.cu -------------------------------------------------------------------------------------

def cross_entropy_kernel_forward(logits, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """The loss, in float32 whatever the logits are stored in; saved: p − q of every row, and what a row's loss counts."""
    xp = array_module(logits)
    shape, V = logits.shape, logits.shape[-1]
    z, t = xp.ascontiguousarray(logits), xp.ascontiguousarray(targets.reshape(-1), dtype=np.int32)
    N = len(t)
    gradient, loss, weight = xp.empty_like(z), xp.empty(N, np.float32), xp.ones(1, np.float32)
    ignored = np.int32(ignore_index)
    if N:
        launch("cross_entropy.cu", f"cross_entropy_forward<{storage(z)}>", N, row_threads(V),
               (z, t, gradient, loss, np.int32(V), ignored, np.float32(label_smoothing)))
    if reduction == "none":
        return loss.reshape(shape[:-1]), (gradient, weight)
    total = xp.empty(1, np.float32)
    launch("cross_entropy.cu", "cross_entropy_total", 1, 256,
           (loss, t, total, weight, np.int32(N), ignored, np.int32(reduction == "mean")))
    return total.reshape(()), (gradient, weight)


def cross_entropy_kernel_backward(dy, saved):
    gradient, weight = saved
    xp, V = array_module(gradient), gradient.shape[-1]
    dlogits, dy = xp.empty_like(gradient), xp.ascontiguousarray(dy, dtype=np.float32).reshape(-1)
    if gradient.size:
        launch("cross_entropy.cu", f"cross_entropy_backward<{storage(gradient)}>", gradient.size // V, row_threads(V),
               (gradient, dy, weight, dlogits, np.int32(V), np.int32(len(dy) > 1)))
    return dlogits,


def row_threads(n):
    """Threads of a block that has a row of n: whole warps, about four elements a thread, 512 at most."""
    return min(512, max(32, -(-n // 128) * 32))
