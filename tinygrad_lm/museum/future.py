"""The causal mask lets each token see the next one too. That is the token it is asked to predict, so the training loss falls
below what is possible; when the model writes, the next token is not there yet, and it has learned nothing else.

An off-by-one in the diagonal of `tril` is enough. A loss that is too good is the only sign, and few look at it with suspicion.
"""
import numpy as np

from .. import functional as F
from ..models.transformer import Attention
from ..modes import no_grad
from .replace import replaced
from .tasks import FIRST, V, after, tiny, train

TITLE = "Attention sees the future by one token"
WATCHED, SHOWN, AXIS = "loss", "training loss (nats)", "step"
right = Attention.attend


def wrong(self, qkv, mask, cache, turn):
    if cache is not None or mask is not None:
        return right(self, qkv, mask, cache, turn)
    B, T, _ = qkv.shape
    c = self.config
    q, k, v = F.split(qkv.reshape(B, T, -1, c.head_size).swapaxes(1, 2), [c.n_head, c.n_kv_head, c.n_kv_head], axis=1)
    y = F.scaled_dot_product_attention(q, k, v, np.tri(T, T, 1, dtype=bool))         # right: np.tri(T, T, 0)
    return y.swapaxes(1, 2).reshape(B, T, c.n_head * c.head_size)


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
