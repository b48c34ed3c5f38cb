"""How surprised the model is by the right answer: −log softmax(logits)[target], and its gradient p − onehot."""
import numpy as np

from ..backend import array_module
from ..kernels import fits_kernel, launch, storage
from .reduce import row_sums


def cross_entropy_forward(logits, *, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """ℓ = −Σᵥ qᵥ log pᵥ with q = (1 − ε) onehot(target) + ε/V; 0 where the target is to be ignored, whatever the logits are.

    logits (..., V), targets int (...); ignore_index None: every target counts. Label smoothing ε: Szegedy et al. 2016
    [SMOOTH].
    """
    if fits_kernel(logits):
        return cross_entropy_kernel_forward(logits, targets, ignore_index, reduction, label_smoothing)
    if logits.dtype == np.float16:                       # whose loss is float32 all the same
        logits = logits.astype(np.float32)
    xp = array_module(logits)
    z, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)       # (N, V), (N,)
    kept = None if ignore_index is None else targets != ignore_index
    right = xp.arange(len(z)), targets if kept is None else xp.where(kept, targets, 0)     # where each row's target is
    with np.errstate(invalid="ignore", over="ignore"):                           # ∞ − ∞: a row that counts shows it as NaN
        e = z - z.max(-1, keepdims=True)                                         # the shift cancels; exp cannot overflow
        expected = e[right]                                                      # Σᵥ qᵥ zᵥ, shifted as well: (N,)
        if label_smoothing:
            expected = (1 - label_smoothing) * expected + label_smoothing * e.mean(-1)
        xp.exp(e, out=e)
        total = row_sums(e)                                                      # (N, 1)
        loss = xp.log(total)[:, 0] - expected
    if kept is not None:
        loss = xp.where(kept, loss, 0)                                           # not · kept: 0 · ∞ is NaN
    count = 1 if reduction != "mean" else len(z) if kept is None else kept.sum(dtype="float32")      # no int(): a GPU would
    saved = e, total, logits.shape, right, kept, count, label_smoothing          # be waited for; not saved: the logits
    return (loss.reshape(logits.shape[:-1]) if reduction == "none" else loss.sum() / count), saved


def cross_entropy_backward(dy, saved):
    """dlogits = (p − q) dy,  p = e / Σ e"""
    if len(saved) == 2:
        return cross_entropy_kernel_backward(dy, saved)
    e, total, shape, right, kept, count, label_smoothing = saved
    with np.errstate(invalid="ignore", over="ignore"):                           # in a row that is ignored
        share = dy.reshape(-1, 1) / count                                        # (N, 1), or (1, 1) for a sum or mean
        d = e * (share / total)                                                  # (N, V)
        if label_smoothing:
            d -= label_smoothing / shape[-1] * share
        d[right] -= (1 - label_smoothing) * share[:, 0]
    if kept is not None:
        d[~kept] = 0
    return d.reshape(shape),


# ---- on the GPU: cross_entropy.cu -------------------------------------------------------------------------------------

def cross_entropy_kernel_forward(logits, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """The loss, in float32 whatever the logits are stored in; saved: p − q of every row, and what a row's loss counts."""
    xp = array_module(logits)
    shape, V = logits.shape, logits.shape[-1]
    z, t = xp.ascontiguousarray(logits), xp.ascontiguousarray(targets.reshape(-1), dtype=np.int32)
    N = len(t)
    gradient, loss, weight = xp.empty_like(z), xp.empty(N, np.float32), xp.ones(1, np.float32)
    ignored = np.int32(-1 if ignore_index is None else ignore_index)             # no target is −1
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
