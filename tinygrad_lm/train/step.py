"""One step of training: forward, backward, clip, update."""
from math import isfinite

from ..backend import keep_memory_warm
from ..optim import clip_grad_norm_


def train_step(model, opt, idx, targets, *, max_norm=1.0):
    """Move the model's parameters once along the gradient of its loss on one batch; returns the loss before.

    idx and targets are int (B, T); a target of −100 is ignored. The gradient's norm is clipped to `max_norm`.
    """
    keep_memory_warm()
    opt.zero_grad()
    loss = model.loss(idx, targets)
    descend(loss, opt, max_norm)
    return loss.item()


def descend(loss, opt, max_norm):
    """Backward, clip, update; a loss that is not finite raises before anything has moved. Returns the gradient's norm."""
    if not isfinite(loss.item()):
        raise FloatingPointError(f"the loss is {loss.item()} at step {opt.step_count + 1} (learning rate {opt.lr:g}): "
                                 "lower the learning rate, or find the first operation that fails with "
                                 "`with tinygrad_lm.detect_anomaly():` around the step")
    loss.backward()
    norm = clip_grad_norm_(opt.params, max_norm)
    opt.step()
    return norm
