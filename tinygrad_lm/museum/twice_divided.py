"""A batch is too large and is learned in parts, whose gradients are added. Each part's loss is a mean already, is divided by the
number of parts, and is weighted by its share once more: the gradient comes out smaller by the number of parts.

Its published sibling was in many trainers until October 2024: means of parts with different numbers of tokens were averaged as if they
had the same. Adam hides a constant factor, but not from weight decay, nor from the clipping of the gradient.
"""
import numpy as np

from .. import parallel
from ..optim import SGD
from .replace import replaced
from .tasks import FIRST, V, after, tiny

TITLE = "Gradient accumulation divides twice"
WATCHED, SHOWN, AXIS = "loss", "loss (nats)", "step"
PARTS = 4
right = parallel.sum_of_parts


def wrong(model, opt, batch, parts, counts):
    loss = right(model, opt, batch, parts, counts)
    opt.flat_grad /= len(parts)                                 # right: as it is
    return loss


def patch():
    return replaced(right, wrong)


def texts(rng):
    start = rng.integers(FIRST, V, (16, 1))
    return after(start, np.arange(9))


def run():
    """Plain gradient descent on batches in four parts."""
    rng, model = np.random.default_rng(0), tiny()
    opt, losses = SGD(model.parameters(), lr=0.2), []
    for _ in range(60):
        t = texts(rng)
        opt.zero_grad()
        losses.append(parallel.backward(model, opt, t[:, :-1], t[:, 1:], workers=PARTS))
        opt.step()
    return losses, losses


def test():
    """In one part or in four, also of different length: one gradient."""
    t = texts(np.random.default_rng(0))
    targets = np.where(np.arange(8) < np.arange(1, 17)[:, None], t[:, 1:], -100)
    found = []
    for workers in (1, PARTS):
        model = tiny()
        opt = SGD(model.parameters(), lr=0.5)
        parallel.backward(model, opt, t[:, :-1], targets, workers=workers)
        found.append(np.concatenate([p.grad.ravel() for p in model.parameters()]))
    np.testing.assert_allclose(*found, atol=1e-6)
