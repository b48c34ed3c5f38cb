"""DPO: log 2 at the start, the right gradient, no say for padding, and, given enough pairs, the same optimum as PPO."""
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, gradcheck
from tinygrad_lm.text.batches import answer_mask
from tinygrad_lm.train.dpo import DPOConfig, dpo, dpo_loss
from tinygrad_lm.train.logprobs import answer_logprobs
from tinygrad_lm.train.run import Run

from .strategies import array
from .test_gpt import V, grads, logits, tiny

P, END = 2, 1


def answers(seed, n=5, T=6):
    tokens = np.random.default_rng(seed).integers(0, V, (n, T))
    return tokens, answer_mask(tokens, P, END)


def σ(x):
    return 1 / (1 + np.exp(-x))


@given(array((4, 3)), st.floats(0.05, 2))
def test_the_loss_and_its_gradient(x, beta):
    better, worse, ref_better, ref_worse = x
    margin = beta * ((better - ref_better) - (worse - ref_worse))
    a, b = Tensor(better, True), Tensor(worse, True)
    loss = dpo_loss(a, b, ref_better, ref_worse, beta)
    assert loss.item() == pytest.approx(-np.log(σ(margin)).mean())
    loss.backward()
    np.testing.assert_allclose(a.grad, -beta * σ(-margin) / 3, atol=1e-12)
    np.testing.assert_allclose(b.grad, -a.grad, atol=1e-12)
    assert gradcheck(lambda a, b: dpo_loss(a, b, ref_better, ref_worse, beta), Tensor(better, True), Tensor(worse, True))


def test_the_gradient_through_the_model():
    model, reference = tiny(n_embd=4, n_layer=1), tiny(n_embd=4, n_layer=1, seed=1)
    better, worse = answers(0), answers(1)
    ref = [answer_logprobs(reference, *x).data for x in (better, worse)]
    assert gradcheck(lambda *p: dpo_loss(answer_logprobs(model, *better), answer_logprobs(model, *worse), *ref, 0.5),
                     *model.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_log_2_at_the_start(dropout):
    """Whatever the pairs; also for a model built with dropout, which is off."""
    policy, run = tiny(np.float32, dropout=dropout), Run()
    dpo(policy, deepcopy(policy), answers(0), answers(1), DPOConfig(epochs=1, batch_size=5), rng=np.random.default_rng(0), run=run)
    assert run.history[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)


@given(st.integers(0, 99), st.integers(0, V - 1), st.integers(0, 2))
def test_padding_changes_nothing(seed, pad, surplus):
    model = tiny(seed=seed)
    tokens, mask = answers(seed)
    other = np.pad(np.where(mask | (np.arange(6) < P), tokens, pad), [(0, 0), (0, surplus)], constant_values=pad)
    wide = np.pad(mask, [(0, 0), (0, surplus)])
    a, b = (answer_logprobs(model, *x) for x in ((tokens, mask), (other, wide)))
    np.testing.assert_allclose(a.data, b.data, atol=1e-12)
    g, h = (grads(model, x.sum()) for x in (a, b))
    for name in g:
        np.testing.assert_allclose(g[name], h[name], atol=1e-12, err_msg=name)


def test_the_reference_stays_and_the_margin_grows():
    policy, better, worse, run = tiny(np.float32), answers(0, n=20), answers(1, n=20), Run()
    reference = deepcopy(policy)
    before = {name: a.tobytes() for name, a in reference.state_dict().items()}
    dpo(policy, reference, better, worse, DPOConfig(epochs=20, batch_size=8, lr=3e-3, beta=0.5), rng=np.random.default_rng(0),
        run=run)
    assert all(a.tobytes() == before[name] for name, a in reference.state_dict().items())

    def margin(m):
        return (answer_logprobs(m, *better).data - answer_logprobs(m, *worse).data).mean()
    assert margin(policy) > margin(reference) + 1 and run.history[-1]["loss"] < 0.5


@pytest.mark.parametrize("seed", range(2))
def test_the_optimum_is_ppos(seed):
    """Pairs of one-token answers, preferred with σ(r − r′): the policy becomes π*(y) ∝ π_ref(y) exp(r(y)/β)."""
    beta, rewards = 0.5, np.random.default_rng(seed).normal(0, 0.7, V)
    policy, prompt = tiny(np.float32, seed=seed), [0, 0]
    reference = deepcopy(policy)
    pairs = np.array([(i, j) for i in range(V) for j in range(V) if i != j for _ in range(round(60 * σ(rewards[i] - rewards[j])))])
    better, worse = (np.array([[*prompt, y] for y in pairs[:, k]]) for k in (0, 1))
    mask = np.array([[False, False, True]] * len(pairs))

    def probabilities(model):
        z = logits(model, np.array([prompt]))[0, -1]
        return np.exp(z) / np.exp(z).sum()
    dpo(policy, reference, (better, mask), (worse, mask), DPOConfig(epochs=60, batch_size=400, lr=5e-3, beta=beta),
        rng=np.random.default_rng(0), run=Run())
    best = probabilities(reference) * np.exp(rewards / beta)
    best /= best.sum()
    assert 0.5 * abs(probabilities(policy) - best).sum() < 0.02 < 0.1 < 0.5 * abs(probabilities(reference) - best).sum()
