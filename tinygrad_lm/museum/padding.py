"""The reward is read at the last column, where shorter answers have padding. The model learns to judge from there, so training looks
well; then the same answer stands in a batch with more padding, or less, and its reward is another.

Reading the score at the last real token is a detail of its own in the accounts of reproducing OpenAI's work [NPLUS].
"""
import numpy as np

from ..models import RewardModel
from ..train.reward import RewardConfig, score_answers, train_reward
from ..train.run import Run
from .replace import replaced
from .tasks import END, FIRST, PAD, V, tiny

TITLE = "The reward is read at the padding"
WATCHED, SHOWN, AXIS = "loss", "change of a reward by three columns of padding", "training"
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
    rng, model, run, shown = np.random.default_rng(0), RewardModel(tiny(), rng=np.random.default_rng(1)), Run(), []
    checked = answers(rng, 64)
    for _ in range(8):
        tokens, last = answers(rng, 256)
        pairs = np.argsort(-quality(tokens).reshape(128, 2), axis=1)
        tokens, last = (np.take_along_axis(x.reshape(128, 2, -1), pairs[..., None], 1) for x in (tokens, last))
        train_reward(model, tokens, last[..., 0], RewardConfig(epochs=1, batch_size=32, lr=1e-2, warmup=0), rng=rng, run=run)
        shown.append(float(abs(score_answers(model, *checked) - score_answers(model, padded(checked[0], 3), checked[1])).mean()))
    return [h["loss"] for h in run.history], shown


def padded(tokens, n):
    return np.pad(tokens, [(0, 0), (0, n)], constant_values=PAD)


def test():
    """More padding, other padding: no reward moves."""
    model, (tokens, last) = RewardModel(tiny(), rng=np.random.default_rng(1)), answers(np.random.default_rng(0), 20)
    other = np.where(np.arange(8) > last[:, None], 5, tokens)
    for same in (padded(tokens, 2), other):
        np.testing.assert_allclose(score_answers(model, tokens, last), score_answers(model, same, last), atol=1e-5)
