"""One step of training: forward, backward, clip, update."""
from contextlib import nullcontext
from math import inf, isfinite

import numpy as np

from .. import parallel
from ..backend import keep_memory_warm


def train_step(model, opt, idx, targets, documents=None, *, max_norm=1.0, workers=None):
    """Move the model's parameters once along the gradient of its loss on one batch; returns the loss before.

    idx and targets are int (B, T); a target of −100 is ignored; documents, int (B, T), says which of the examples in a
    packed row each token belongs to. The gradient's norm is clipped to `max_norm`. The batch
    is split over `workers` threads: by default as many as the work is worth, and one for a model on the GPU, whose batch
    may lie on the host.
    """
    keep_memory_warm()
    if opt.device == "cuda":
        workers = 1
    workers = parallel.choose_workers(opt.n_parameters, idx) if workers is None else workers
    opt.zero_grad()
    batch = (idx, targets) if documents is None else (idx, targets, documents)
    with parallel.one_blas_thread(), quiet_overflow(opt):
        loss = parallel.backward(model, opt, *batch, workers=workers)
        check_loss(loss, opt)
        update(opt, max_norm, workers=workers)
    return loss


def descend(loss, opt, max_norm):
    """Backward, clip, update, for a loss that is a tensor; returns the gradient's norm."""
    keep_memory_warm()
    check_loss(loss.item(), opt)
    with quiet_overflow(opt):
        loss.backward(np.asarray(opt.loss_scale))
    return update(opt, max_norm)


def update(opt, max_norm, *, workers=1):
    """Clip, and step; returns the gradient's norm, and leaves it in `opt.grad_norm`. Where the gradients of a scaled loss
    overflowed float16, nothing moves and the norm is infinite."""
    if not opt.unscale():
        opt.grad_norm = inf
        return inf
    opt.grad_norm = opt.clip_grad_norm_(max_norm, workers=workers)
    opt.step(workers=workers)
    return opt.grad_norm


def quiet_overflow(opt):
    """with quiet_overflow(opt): no warnings where a scaled gradient overflows, which `update` sees and mends."""
    return np.errstate(over="ignore", invalid="ignore") if opt.scaler else nullcontext()


def check_loss(loss, opt):
    """A loss that is not finite raises before anything has moved."""
    if not isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} at step {opt.step_count + 1} (learning rate {opt.lr:g}): "
                                 "lower the learning rate, or find the first operation that fails with "
                                 "`with tinygrad_lm.detect_anomaly():` around the step")
