"""Best of n: the best is kept, an answer without an end only if there is no other, and the KL is the formula's."""
import numpy as np
import pytest

from tinygrad_lm.generate import generate, next_logprobs
from tinygrad_lm.text.batches import answer_mask, last_token
from tinygrad_lm.train import best_of_n as best_of_n_module
from tinygrad_lm.train.best_of_n import best_of_n, best_of_n_kl

from .test_gpt import V, logits, tiny

P, END, N = 2, 1, 4
PROMPTS = np.random.default_rng(0).integers(0, V, (30, P))


def score(tokens, last):
    return np.where(np.arange(tokens.shape[1]) <= last[:, None], tokens, 0).sum(-1) + 0.01 * last


def test_the_best_of_the_same_draws():
    model = tiny()
    best = best_of_n(model, score, PROMPTS, N, rng=np.random.default_rng(1), max_new_tokens=2, end=END)
    drawn = generate(model, PROMPTS.repeat(N, axis=0), 2, rng=np.random.default_rng(1), end=END)
    rewards = score(drawn.tokens, last_token(answer_mask(drawn.tokens, P, END)))
    unfinished = 0
    for i, row in enumerate(best):
        mine = range(i * N, (i + 1) * N)
        ended = [k for k in mine if drawn.ended[k]]
        unfinished += not ended
        assert (row[:P] == PROMPTS[i]).all()
        if ended:
            np.testing.assert_array_equal(row, drawn.tokens[max(ended, key=lambda k: rewards[k])])
    assert 0 < unfinished < 30


def test_the_best_of_one_is_the_model():
    best = best_of_n(tiny(), score, PROMPTS, 1, rng=np.random.default_rng(1), max_new_tokens=5, end=END)
    np.testing.assert_array_equal(best, generate(tiny(), PROMPTS, 5, rng=np.random.default_rng(1), end=END).tokens)
    assert best_of_n_kl(1) == 0


def test_a_few_prompts_at_a_time(monkeypatch):
    """What is written together is bounded; the answers come in the prompts' order, in one rectangle."""
    monkeypatch.setattr(best_of_n_module, "AT_ONCE", 3 * N)
    written, plain = [], best_of_n_module.generate
    monkeypatch.setattr(best_of_n_module, "generate", lambda model, idx, *a, **k: written.append(len(idx)) or plain(model, idx, *a, **k))
    best = best_of_n(tiny(), score, PROMPTS[:7], N, rng=np.random.default_rng(1), max_new_tokens=5, end=END)
    assert written == [3 * N, 3 * N, N] and best.shape == (7, P + 5)
    np.testing.assert_array_equal(best[:, :P], PROMPTS[:7])


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_kl_is_that_of_many_equally_likely_answers(n):
    """The best of n among M answers, all different in reward: P(k-th) = ((k/M)ⁿ − ((k−1)/M)ⁿ); M → ∞ gives the formula."""
    M = 20_000
    k = np.arange(1, M + 1)
    p = (k / M) ** n - ((k - 1) / M) ** n
    inside = p > 0
    assert p[inside] @ np.log(p[inside] * M) == pytest.approx(best_of_n_kl(n), rel=1e-3)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_kl_of_a_small_distribution(n):
    """Two tokens over six symbols, listed: what best_of_n draws has the exact distribution, whose KL the formula bounds."""
    model, draws = tiny(vocab_size=6), 20_000
    answers = np.array([(0, a, b) for a in range(6) for b in range(6)])
    logp = [next_logprobs(logits(model, answers)[:, t])[range(36), answers[:, t + 1]] for t in (0, 1)]
    p, rank = np.exp(logp[0] + logp[1]), np.random.default_rng(0).permutation(36)
    below = np.array([p[rank < r].sum() for r in rank])
    q = (below + p) ** n - below ** n                                     # the best of n has this rank, and none above
    drawn = best_of_n(model, lambda tokens, _: rank[tokens[:, 1] * 6 + tokens[:, 2]], np.zeros((draws, 1), int), n,
                      rng=np.random.default_rng(1), max_new_tokens=2, end=None)
    counted = np.bincount(drawn[:, 1] * 6 + drawn[:, 2], minlength=36) / draws
    assert 0.5 * abs(counted - q).sum() < 0.02
    kl = q @ np.log(q / p)
    assert counted @ np.log(np.maximum(counted, 1e-300) / p) == pytest.approx(kl, abs=0.02)
    assert 0.5 * best_of_n_kl(n) < kl < best_of_n_kl(n)                   # below: answers are few, and ties with oneself
