"""Rejection sampling learns from the best of n, from nothing but its answer, and becomes better by its own measure."""
import numpy as np
import pytest

from tinygrad_lm.generate import generate
from tinygrad_lm.text.batches import answer_mask, last_token, next_tokens
from tinygrad_lm.train import rejection
from tinygrad_lm.train.best_of_n import best_of_n
from tinygrad_lm.train.rejection import RejectionConfig, rejection_sampling
from tinygrad_lm.train.run import Run

from .test_gpt import V, tiny

P, END, MAX = 2, 1, 4
PROMPTS = np.random.default_rng(0).integers(0, V, (30, P))


def score(tokens, last):
    """How many threes the answer has."""
    inside = (np.arange(tokens.shape[1]) <= last[:, None]) & (np.arange(tokens.shape[1]) >= P)
    return ((tokens == 3) & inside).sum(-1)


def test_it_learns_the_best_of_n_and_nothing_else(monkeypatch):
    learned, plain = [], rejection.train_step
    monkeypatch.setattr(rejection, "train_step", lambda model, opt, idx, targets, **k: learned.append((idx, targets)) or
                        plain(model, opt, idx, targets, **k))
    rejection_sampling(tiny(np.float32), score, PROMPTS, RejectionConfig(rounds=1, prompts=20, n=3, epochs=1, batch_size=8),
                       rng=np.random.default_rng(1), run=Run(), end=END, max_new_tokens=MAX)
    rng = np.random.default_rng(1)
    asked = PROMPTS[rng.integers(30, size=20)]
    best = best_of_n(tiny(np.float32), score, asked, 3, rng=rng, max_new_tokens=MAX, end=END)
    ended = best[(best[:, P:] == END).any(-1)]
    idx, targets = next_tokens(ended, answer_mask(ended, P, END))
    assert 0 < len(ended) < 20
    for given, meant in zip(map(np.concatenate, zip(*learned)), (idx, targets)):
        assert sorted(map(tuple, given)) == sorted(map(tuple, meant))


def test_its_answers_become_better():
    policy, run = tiny(np.float32), Run()
    rejection_sampling(policy, score, PROMPTS, RejectionConfig(rounds=5, prompts=64, n=8, lr=1e-2), rng=np.random.default_rng(1),
                       run=run, end=END, max_new_tokens=MAX)

    def mean(model):
        tokens = generate(model, PROMPTS.repeat(10, axis=0), MAX, rng=np.random.default_rng(2), end=END).tokens
        return score(tokens, last_token(answer_mask(tokens, P, END))).mean()
    assert mean(policy) > mean(tiny(np.float32)) + 0.5 and run.history[-1]["reward"] > run.history[0]["reward"]


def test_answers_that_never_end_are_refused():
    with pytest.raises(ValueError, match="none of 12 answers of 4 tokens has ended"):
        rejection_sampling(tiny(np.float32), score, PROMPTS, RejectionConfig(rounds=1, prompts=4, n=3),
                           rng=np.random.default_rng(1), run=Run(), end=99, max_new_tokens=MAX)
