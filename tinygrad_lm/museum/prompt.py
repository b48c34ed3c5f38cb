"""The loss counts the prompt's tokens as well as the answer's. The model spends itself on guessing what the user will say, which
it never has to say, and the loss that is printed is mostly about that.

It is seldom an error that anyone notices: a prompt that can be predicted makes the curve look even better.
"""
import numpy as np

from .. import functional as F
from ..modes import no_grad
from ..text import batches
from .replace import replaced
from .tasks import END, FIRST, V, after, tiny, train

TITLE = "The loss is on the prompt, too"
WATCHED, SHOWN, AXIS = "loss", "loss that is printed (nats)", "step"
PROMPT = 6
right = batches.next_tokens


def wrong(tokens, mask):
    everything = np.arange(tokens.shape[1]) <= batches.last_token(mask)[:, None]      # right: the mask itself
    return right(tokens, everything)


def patch():
    return replaced(right, wrong)


def examples(rng, n=16):
    """Six random tokens; the answer is the symbol after the last of them, and the end."""
    prompt = rng.integers(FIRST, V, (n, PROMPT))
    return np.concatenate([prompt, after(prompt[:, -1:]), np.full((n, 1), END)], axis=1)


def run():
    """A model learns to answer."""
    rng = np.random.default_rng(0)

    def batch():
        tokens = examples(rng)
        return batches.next_tokens(tokens, batches.answer_mask(tokens, PROMPT, END))
    losses, _ = train(tiny(), (batch() for _ in range(120)))
    return losses, losses


def test():
    """A prompt's targets have no say: through them no score gets a gradient."""
    tokens = examples(np.random.default_rng(0))
    idx, targets = batches.next_tokens(tokens, batches.answer_mask(tokens, PROMPT, END))
    with no_grad():
        z = tiny()(idx)
    z.requires_grad = True
    F.cross_entropy(z, targets).backward()
    assert z.grad[:, PROMPT - 1:].any(axis=-1).all() and not z.grad[:, :PROMPT - 1].any()
