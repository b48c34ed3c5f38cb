"""Prompts of different length are padded on the left, and the cache of keys and values holds a mask that says what is padding. Its rows
are out of step with the batch by one (sequences were sorted, or one was dropped, and the mask was not): each is written with its
neighbour's mask.

Training knows nothing of it. With prompts of one length nothing happens, so no quick trial shows it either.
"""
import numpy as np

from ..generate import generate
from ..models.cache import KVCache
from .replace import replaced
from .tasks import FIRST, PAD, V, tiny, train

TITLE = "The KV cache's mask has its rows shifted"
WATCHED, SHOWN, AXIS = "loss", "share of right answers in a batch", "step / 5"
right = KVCache.extend


def wrong(self, mask, B, T):
    mask = right(self, mask, B, T)
    return mask if mask is None else self.xp.roll(mask, 1, axis=0)                    # right: as it is


def patch():
    return replaced(right, wrong)


def prompts(rng, n=32):
    """One to six symbols, padding on the left, and whether they are real: int (n, 6), bool (n, 6)."""
    mask = np.arange(6) >= rng.integers(0, 6, (n, 1))
    return np.where(mask, rng.integers(FIRST, V, (n, 6)), PAD), mask


def answer_to(tokens, mask):
    """The first of the prompt's symbols."""
    return tokens[np.arange(len(tokens)), mask.argmax(-1)]


def run():
    """A model learns to answer with the first symbol of its prompt; how many does it write rightly, in a batch?"""
    rng, asked = np.random.default_rng(0), prompts(np.random.default_rng(1), 64)

    def batch():
        tokens, mask = prompts(rng)
        targets = np.full(tokens.shape, -100)
        targets[:, -1] = answer_to(tokens, mask)
        return tokens, targets, mask

    def look(model):
        written = generate(model, asked[0], 1, rng=rng, temperature=0, mask=asked[1]).tokens[:, -1]
        return float((written == answer_to(*asked)).mean())
    return train(tiny(), (batch() for _ in range(200)), look=look)


def test():
    """A prompt is continued in a batch as it is alone."""
    rng, model = np.random.default_rng(0), tiny()
    for p in model.parameters():
        p.data[...] += rng.normal(0, 0.3, p.shape)
    tokens, mask = prompts(rng, 8)
    together = generate(model, tokens, 3, rng=rng, temperature=0, mask=mask)
    for row, real, written, logp in zip(tokens, mask, together.tokens, together.logprobs):
        alone = generate(model, row[real][None], 3, rng=rng, temperature=0)
        np.testing.assert_array_equal(alone.tokens[0, -3:], written[-3:])
        np.testing.assert_allclose(alone.logprobs[0], logp, atol=1e-4)
