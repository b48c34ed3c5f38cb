"""A layer keeps what its backward needs on itself. Used twice in one graph, as reward models and DPO use theirs, it has forgotten
the first input when the first gradient arrives, and multiplies it with the second.

Torch7's modules kept their output and gradient on themselves; a layer in two places had to be a clone that shares its weights.
"""
import numpy as np

from .. import functional as F
from ..gradcheck import gradcheck
from ..nn import Linear
from ..optim import AdamW
from ..tensor import Tensor, op
from .replace import replaced

TITLE = "A layer used twice forgets its first use"
WATCHED, SHOWN, AXIS = "loss", "loss", "step"
right = Linear.forward
last_input = {}                                                 # what "the layer" remembers: one thing


def layer_forward(x, w, b):
    last_input[id(w)] = x
    return x @ w.T + b, (w,)


def layer_backward(dy, saved):
    w, = saved
    x = last_input[id(w)]                                       # right: the x of this use, from `saved`
    return dy @ w, dy.T @ x, dy.sum(0)


layer = op(layer_forward, layer_backward)


def wrong(self, x, add_to=None):
    if add_to is not None or self.bias is None or x.ndim != 2:
        return right(self, x, add_to)
    return layer(x, self.weight, self.bias)


def patch():
    return replaced(right, wrong)


def both(first, second, a, b):
    """The same two layers read a and b, and their words are added."""
    return sum(second(F.relu(first(x))) for x in (a, b))


def run():
    """f(a) + f(b) learns to be |a|² + |b|², b being the nearer to 0."""
    rng = np.random.default_rng(0)
    first, second = Linear(3, 24, rng=rng), Linear(24, 1, rng=rng)
    opt, losses = AdamW([*first.parameters(), *second.parameters()], lr=1e-2, weight_decay=0.0), []
    for _ in range(150):
        a, b = (scale * rng.normal(size=(64, 3)).astype(np.float32) for scale in (1.0, 0.3))
        loss = ((both(first, second, Tensor(a), Tensor(b)) - (a * a + b * b).sum(-1, keepdims=True)) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses, losses


def test():
    """Central differences."""
    rng = np.random.default_rng(0)
    first, second = (Linear(*shape, rng=rng).to(np.float64) for shape in ((3, 4), (4, 1)))
    a, b = (Tensor(rng.normal(size=(2, 3))) for _ in range(2))
    assert gradcheck(lambda *p: both(first, second, a, b), *first.parameters(), *second.parameters())
