"""A conversation's mask is made by the rule for one question and one answer: from the prompt to the first end token. The second
answer and all that follow are never learned, though they are most of the data.

FastChat's trainer for Vicuna found the turns by splitting the text at its separators. Where the counts of tokens did not meet, it
printed "tokenization mismatch" and ignored the conversation: data lost in the same silence, but for a line in a log.
"""
import numpy as np

from ..modes import no_grad
from ..text.batches import answer_mask, next_tokens
from . import tasks
from .replace import replaced
from .tasks import END, FIRST, V, after, tiny, train

TITLE = "The mask is lost on the second turn"
WATCHED, SHOWN, AXIS = "loss", "loss on the second answer (nats)", "step / 5"
right = tasks.chat_mask


def wrong(tokens, question):
    return answer_mask(tokens, question, END)                   # right: that of every turn


def patch():
    return replaced(right, wrong)


def chats(rng, n=16):
    """Two questions of two symbols. The answers: one further on than the question's last symbol, and then three further on."""
    asked = rng.integers(FIRST, V, (n, 4))
    ends = np.full((n, 1), END)
    return np.concatenate([asked[:, :2], after(asked[:, 1:2]), ends, asked[:, 2:], after(asked[:, 3:], 3), ends], axis=1)


def run():
    """A model learns to answer, and is asked the second question."""
    rng, checked = np.random.default_rng(0), chats(np.random.default_rng(1), 64)
    second = next_tokens(checked, np.arange(8) + 0 * checked >= 6)

    def look(model):
        with no_grad():
            return model.loss(*second).item()

    def batch():
        tokens = chats(rng)
        return next_tokens(tokens, tasks.chat_mask(tokens, 2))
    return train(tiny(), (batch() for _ in range(120)), look=look)


def test():
    """Every answer and its end are learned, and no question is."""
    tokens = chats(np.random.default_rng(0))
    assert (tasks.chat_mask(tokens, 2) == np.array([0, 0, 1, 1, 0, 0, 1, 1], bool)).all()
