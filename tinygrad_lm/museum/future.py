"""The causal mask lets each token see the next one too. That is the token it is asked to predict, so the training loss falls
below what is possible; when the model writes, the next token is not there yet, and it has learned nothing else.

An off-by-one in the diagonal of `tril` is enough. A loss that is too good is the only sign, and few look at it with suspicion.
"""
import numpy as np

from ..modes import no_grad
from ..ops import causal_attention
from .replace import replaced
from .tasks import FIRST, V, after, tiny, train

TITLE = "Attention sees the future by one token"
WATCHED, SHOWN, AXIS = "loss", "training loss (nats)", "step"
right = causal_attention.future


def wrong(xp, t, dtype, order):
    """−∞ where a key is to be hidden."""
    hidden = np.triu(np.full((t, t), -np.inf, dtype), 2)         # right: np.triu(…, 1)
    return xp.asarray(hidden, order=order)


def patch():
    return replaced(right, wrong)


def run():
    """Texts whose every token is one or three further on than the last, as a coin decides: log 2 nats are the least."""
    rng = np.random.default_rng(0)

    def texts():
        steps = np.cumsum(rng.choice([1, 3], (16, 11)), axis=1)
        return after(np.concatenate([np.zeros((16, 1), int), steps], axis=1) + FIRST, rng.integers(V - FIRST, size=(16, 1)))
    losses, _ = train(tiny(), ((t[:, :-1], t[:, 1:]) for t in (texts() for _ in range(150))))
    return losses, losses


def test():
    """Change a token: no score before it changes."""
    rng, model = np.random.default_rng(0), tiny()
    a = rng.integers(V, size=(4, 8))
    with no_grad():
        for t in range(1, 8):
            b = a.copy()
            b[:, t:] = rng.integers(V, size=b[:, t:].shape)
            np.testing.assert_allclose(model(a).data[:, :t], model(b).data[:, :t], atol=1e-6)
