"""The reward is read at the last column, where shorter answers have padding. The model learns to judge from there, so training looks
well; then the same answer stands in a batch with more padding, or less, and its reward is another.

Reading the score at the last real token is a detail of its own in the accounts of reproducing OpenAI's work [NPLUS].
"""
import numpy as np

from ..models import RewardModel
from ..optim import AdamW
from ..train.reward import preference_loss, score_answers
from ..train.step import descend
from .replace import replaced
from .tasks import END, FIRST, PAD, V, tiny

TITLE = "The reward is read at the padding"
WATCHED, SHOWN, AXIS = "loss", "a reward's change under padding", "step / 10"
right = RewardModel.forward


def wrong(self, idx, last, *, mask=None):
    return self.values(idx, mask=mask)[:, -1]                   # right: [rows, last]


def patch():
    return replaced(right, wrong)


def answers(rng, n):
    """Answers of one to five symbols and the end: int (n, 8), and where they end. The better, the higher the symbols."""
    length = rng.integers(2, 7, n)
    tokens = np.where(np.arange(8) <= length[:, None], rng.integers(FIRST, V, (n, 8)), PAD)
    tokens[np.arange(n), length] = END
    return tokens, length


def quality(tokens):
    return np.where(tokens >= FIRST, tokens, 0).sum(-1) / (tokens >= FIRST).sum(-1)


def run():
    """A reward model learns from pairs; now and then three columns of padding are put behind the answers."""
    rng, model, losses, shown = np.random.default_rng(0), RewardModel(tiny(), rng=np.random.default_rng(1)), [], []
    opt, (tokens, last) = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0), answers(np.random.default_rng(1), 64)
    for step in range(120):
        if step % 10 == 0:
            moved = score_answers(model, tokens, last) - score_answers(model, padded(tokens, 3), last)
            shown.append(float(abs(moved).mean()))
        better, worse = ranked(rng)
        opt.zero_grad()
        loss = preference_loss(model(*better), model(*worse))
        losses.append(loss.item())
        descend(loss, opt, 1.0)
    return losses, shown


def ranked(rng, n=32):
    """Two answers each, the better ones and the worse ones."""
    tokens, last = answers(rng, 2 * n)
    order = np.argsort(quality(tokens).reshape(n, 2), axis=1) + 2 * np.arange(n)[:, None]
    return tuple((tokens[rows], last[rows]) for rows in (order[:, 1], order[:, 0]))


def padded(tokens, n):
    return np.pad(tokens, [(0, 0), (0, n)], constant_values=PAD)


def test():
    """More padding, other padding: no reward moves."""
    model, (tokens, last) = RewardModel(tiny(), rng=np.random.default_rng(1)), answers(np.random.default_rng(0), 20)
    other = np.where(np.arange(8) > last[:, None], 5, tokens)
    for same in (padded(tokens, 2), other):
        np.testing.assert_allclose(score_answers(model, tokens, last), score_answers(model, same, last), atol=1e-5)
