"""PPO: every piece equals its formula written as loops, and the real loop, watched from outside, puts them together right."""
import re
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, gradcheck, no_grad
from tinygrad_lm.checkpoint import CheckpointError, load
from tinygrad_lm.models import RewardModel
from tinygrad_lm.text.batches import answer_mask, last_token
from tinygrad_lm.train import ppo as loop, road
from tinygrad_lm.train.advantages import explained_variance, gae, group_normalised, leave_one_out, whiten
from tinygrad_lm.train.kl import Penalty, kl_estimates, kl_loss, token_rewards
from tinygrad_lm.train.logprobs import answer_logprobs, token_logprobs
from tinygrad_lm.train.ppo import PPOConfig, over_updates, policy_loss, ppo, update_stats, value_for, value_loss
from tinygrad_lm.train.run import Run, Stopped

from .stages import TOKENIZER
from .test_gpt import V, logits, tiny

P, END, MAX = 2, 1, 5
seeds = st.integers(0, 999)


def masks(rng, B=4, T=7):
    """Answers of at least one token that begin after the prompt and end somewhere."""
    t = np.arange(T)
    return (t >= P - 1) & (t <= rng.integers(P - 1, T, B)[:, None])


def drawn(seed, n):
    """(mask, then n arrays (4, 7))"""
    rng = np.random.default_rng(seed)
    return masks(rng), *(rng.normal(size=(4, 7)) for _ in range(n))


# ---- log-probabilities ----------------------------------------------------------------------------------------------

@given(seeds, st.sampled_from([1.0, 0.7, 2.0]))
def test_token_logprobs_are_a_loop(seed, temperature):
    model, tokens = tiny(seed=seed), np.random.default_rng(seed).integers(0, V, (3, 6))
    mask, z = answer_mask(tokens, P, END), logits(model, tokens) / temperature
    with no_grad():
        logp = token_logprobs(model, tokens, mask, temperature=temperature).data
        whole = answer_logprobs(model, tokens, mask).data
    for b in range(3):
        for t in range(1, 6):
            wanted = z[b, t - 1, tokens[b, t]] - np.log(np.exp(z[b, t - 1]).sum()) if mask[b, t] else 0
            assert logp[b, t - 1] == pytest.approx(wanted, abs=1e-12)
    if temperature == 1:
        np.testing.assert_allclose(whole, logp.sum(-1), atol=1e-12)


# ---- reward and advantage -------------------------------------------------------------------------------------------

@given(seeds, st.floats(0, 2))
def test_the_kl_penalty_and_the_place_of_the_score(seed, beta):
    m, log_ratio = drawn(seed, 1)
    scores = np.random.default_rng(seed).normal(size=4)
    rewards = token_rewards(scores, log_ratio, m, beta)
    for b in range(4):
        last = max(t for t in range(7) if m[b, t])
        for t in range(7):
            wanted = -beta * log_ratio[b, t] * m[b, t] + (scores[b] if t == last else 0)
            assert rewards[b, t] == pytest.approx(wanted)
    np.testing.assert_allclose(rewards.sum(-1), scores - beta * (log_ratio * m).sum(-1), atol=1e-12)
    at_reference = token_rewards(scores, 0 * log_ratio, m, beta)
    assert (at_reference != 0).sum() == 4 and (at_reference[range(4), last_token(m)] == scores).all()


def gae_by_double_sum(rewards, values, m, gamma, lam):
    A = np.zeros_like(rewards)
    for b in range(len(m)):
        inside = [t for t in range(m.shape[1]) if m[b, t]]
        for i, t in enumerate(inside):
            for k, u in enumerate(inside[i:]):
                following = values[b, u + 1] if u != inside[-1] else 0
                A[b, t] += (gamma * lam) ** k * (rewards[b, u] + gamma * following - values[b, u])
    return A


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_double_sum(seed, gamma, lam):
    m, rewards, values = drawn(seed, 2)                                   # outside the mask: rubbish, which must not leak
    A, R = gae(rewards, values, m, gamma, lam)
    np.testing.assert_allclose(A, gae_by_double_sum(rewards, values, m, gamma, lam), atol=1e-12)
    np.testing.assert_allclose(R, (A + values) * m, atol=1e-12)


@given(seeds)
def test_gae_at_both_ends(seed):
    m, rewards, values = drawn(seed, 2)
    rewards, values = rewards * m, values * m
    A, R = gae(rewards, values, m, 1.0, 1.0)
    to_go = np.flip(np.flip(rewards, -1).cumsum(-1), -1) * m
    np.testing.assert_allclose(A, (to_go - values) * m, atol=1e-12)       # λ = 1: what really followed, less the value
    np.testing.assert_allclose(R, to_go, atol=1e-12)
    A, _ = gae(rewards, values, m, 1.0, 0.0)
    following = np.concatenate([values[:, 1:], np.zeros((4, 1))], axis=1)
    np.testing.assert_allclose(A, (rewards + following - values) * m, atol=1e-12)         # λ = 0: one step


@given(seeds)
def test_whitening_is_over_the_mask(seed):
    m, x = drawn(seed, 1)
    y = whiten(x, m)
    assert y[m].mean() == pytest.approx(0, abs=1e-6) and (y[m].std() == pytest.approx(1, abs=1e-5) or m.sum() == 1)
    assert (y[~m] == 0).all()
    np.testing.assert_array_equal(y, whiten(np.where(m, x, 1e6), m))


@pytest.mark.parametrize("value", [0.1, -3.3, 100.3, 0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_advantages_that_are_all_equal_become_0(value, dtype):
    """Not ±1, which is what rounding makes of 0/0 otherwise."""
    x, m = np.full((7, 11), value, dtype), np.ones((7, 11), bool)
    y = whiten(x, m)
    assert abs(y).max() < 1e-4 and y.dtype == dtype


# ---- losses ---------------------------------------------------------------------------------------------------------

@given(seeds)
def test_the_policy_loss_is_a_loop_and_its_gradient_right(seed):
    m, new, old, A = drawn(seed, 3)
    ratio = np.exp(new - old)
    wanted = np.mean([max(-A[i] * ratio[i], -A[i] * min(max(ratio[i], 0.8), 1.2)) for i in zip(*np.nonzero(m))])
    assert policy_loss(Tensor(new), old, A, m, 0.2).item() == pytest.approx(wanted)
    assert gradcheck(lambda new: policy_loss(new, old, A, m, 0.2), Tensor(new, True))


def policy_gradient(ratio, A, n=4):
    """d loss / d log π of one token among n, at this ratio and advantage."""
    new, m = Tensor(np.full((1, n), np.log(ratio)), True), np.ones((1, n), bool)
    policy_loss(new, np.zeros((1, n)), np.array([[A, 0, 0, 0]]), m, 0.2).backward()
    assert not new.grad[0, 1:].any()                                      # no advantage, no gradient
    return new.grad[0, 0]


@pytest.mark.parametrize("ratio, A, moves", [(1.5, 1, False), (1.5, -1, True), (0.5, 1, True), (0.5, -1, False),
                                             (1.1, 1, True), (1.1, -1, True), (1, 2, True)])
def test_the_clip_stops_what_has_gone_far_enough(ratio, A, moves):
    """Beyond the clip a token that should go further gets nothing; one that should come back gets all."""
    assert policy_gradient(ratio, A) == (pytest.approx(-A * ratio / 4) if moves else 0)


@given(seeds)
def test_the_value_loss_is_a_loop_and_its_gradient_right(seed):
    m, v, old, R = drawn(seed, 3)
    wanted = np.mean([0.5 * max((v[i] - R[i]) ** 2, (np.clip(v[i], old[i] - 0.2, old[i] + 0.2) - R[i]) ** 2)
                      for i in zip(*np.nonzero(m))])
    assert value_loss(Tensor(v), old, R, m, 0.2).item() == pytest.approx(wanted)
    near = old + 0.1 * np.tanh(v)                                         # inside the clip: the plain square
    assert value_loss(Tensor(near), old, R, m, 0.2).item() == pytest.approx(0.5 * ((near - R)[m] ** 2).mean())
    assert gradcheck(lambda v: value_loss(v, old, R, m, 0.2), Tensor(v, True))


@given(seeds, st.integers(0, 3), st.sampled_from(["rubbish", "zeros"]))
def test_padding_changes_nothing(seed, surplus, kind):
    """More columns behind, with anything in them: no reward, advantage, loss, gradient or statistic of the answers moves."""
    m, *plain = drawn(seed, 6)
    rng = np.random.default_rng(seed + 1)
    wide = np.pad(m, [(0, 0), (0, surplus)])

    def around(x):
        out = np.zeros(wide.shape) if kind == "zeros" else rng.normal(size=wide.shape)
        out[wide] = x[m]
        return out
    padded = [around(x) for x in plain]
    scores = plain[0][:, 0]

    def everything(m, new, old, ref, v, old_values, _):
        new, v = Tensor(new, True), Tensor(v, True)
        rewards = token_rewards(scores, old - ref, m, 0.3)
        A, R = gae(rewards, old_values, m, 0.9, 0.95)
        A = whiten(A, m)
        losses = policy_loss(new, old, A, m, 0.2), value_loss(v, old_values, R, m, 0.2)
        for loss in losses:
            loss.backward()
        stats = update_stats(new.data - old, m, 0.2).values()
        return [rewards[m], A[m], R[m], new.grad[m], v.grad[m], *(loss.item() for loss in losses), *stats], \
            [new.grad[~m], v.grad[~m], A[~m]]
    (a, outside), (b, outside_too) = everything(m, *plain), everything(wide, *padded)
    for x, y in zip(a, b):
        np.testing.assert_allclose(x, y, atol=1e-12)
    assert not any(x.any() for x in outside + outside_too)


def test_statistics():
    mask = np.array([[True, True, True, False]])
    stats = update_stats(np.array([[0.0, 0.3, -0.1, 9]]), mask, 0.2)
    assert stats["ratio_max"] == pytest.approx(np.exp(0.3)) and stats["ratio_min"] == pytest.approx(np.exp(-0.1))
    both = over_updates([stats, update_stats(np.array([[0.0, 0.1, -0.5, 9]]), mask, 0.2)])
    assert both["ratio_max"] == pytest.approx(np.exp(0.3)) and both["ratio_min"] == pytest.approx(np.exp(-0.5))
    assert both["clip_fraction"] == pytest.approx(1 / 3) and both["approx_kl"] == pytest.approx((0.1 + 0.26) / 12)
    assert stats["approx_kl"] == pytest.approx(0.5 * (0.09 + 0.01) / 3) and stats["clip_fraction"] == pytest.approx(1 / 3)
    R = np.array([1.0, 2, 4])
    assert explained_variance(R, R) == 1 and explained_variance(np.full(3, 9.0), R) == pytest.approx(0)
    assert explained_variance(-R, R) == pytest.approx(-3) and explained_variance(R, np.ones(3)) == 0


def test_minibatches_without_answers_are_refused():
    with pytest.raises(ValueError, match="a batch of 4 answers cannot be cut into 5 minibatches"):
        PPOConfig(batch_size=4, minibatches=5)


# ---- the real loop, watched -----------------------------------------------------------------------------------------

class Loop:
    """A tiny PPO run that keeps what its pieces were given."""

    def __init__(self, monkeypatch, *, dropout=0.3, seed=0, pad=0, prompts=None, end=END, folder=None, **settings):
        self.config = replace(PPOConfig(), **dict(iterations=3, batch_size=16, epochs=2, lr=3e-3, max_new_tokens=MAX) | settings)
        self.policy = tiny(np.float32, seed=seed, dropout=dropout)
        self.reference, self.value = deepcopy(self.policy), value_for(self.policy, self.config)
        self.calls = {}
        self.before = []                                                   # the policy that wrote each batch
        for name in ("generate", "token_rewards", "gae", "leave_one_out", "group_normalised", "policy_loss", "value_loss", "kl_loss"):
            monkeypatch.setattr(loop, name, self.watched(name, getattr(loop, name)))
        self.run = Run(folder, tokenizer=TOKENIZER)
        self.prompts = np.random.default_rng(0).integers(0, V, (9, P)) if prompts is None else prompts
        ppo(self.policy, self.value, self.reference, self.score, self.prompts, self.config, rng=np.random.default_rng(seed),
            run=self.run, end=end, pad=pad)

    def watched(self, name, f):
        def call(*args, **options):
            if name == "generate":
                self.before.append(deepcopy(self.policy))
            result = f(*args, **options)
            self.calls.setdefault(name, []).append((args, result))
            return result
        return call

    @staticmethod
    def score(tokens, last):
        return np.where(np.arange(tokens.shape[1]) <= last[:, None], tokens, 0).sum(-1) / 10


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("minibatches", [1, 2])
def test_every_ratio_is_1_before_the_first_update(monkeypatch, temperature, minibatches):
    """Though the model was built with dropout: it is off."""
    watched = Loop(monkeypatch, temperature=temperature, minibatches=minibatches)
    calls, per_iteration = watched.calls["policy_loss"], 2 * minibatches
    assert len(calls) == 3 * per_iteration
    for i, ((new, old, A, m, clip), _) in enumerate(calls):
        off = abs(np.exp(new.data - old) - 1)[m].max()
        assert off < 1e-4 if i % per_iteration == 0 else off > 1e-4
        assert (new.data[~m] == 0).all() and (old[~m] == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_old_log_probabilities_are_the_samplers(monkeypatch, temperature):
    """Worked out here, without cache and from scratch: a ratio of 1 alone would not see a temperature that both forget."""
    watched = Loop(monkeypatch, temperature=temperature)
    for (_, answers), policy, ((_, log_ratio, m, beta, _), _) in zip(watched.calls["generate"], watched.before,
                                                                  watched.calls["token_rewards"]):
        def logp(model):
            z = logits(model.eval(), answers.tokens)[:, :-1].astype(np.float64) / temperature
            z = z - np.log(np.exp(z).sum(-1, keepdims=True))
            return np.take_along_axis(z, answers.tokens[:, 1:, None], -1)[..., 0]
        np.testing.assert_array_equal(m, answer_mask(answers.tokens, P, END)[:, 1:])
        np.testing.assert_allclose(answers.logprobs[m[:, P - 1:]], logp(policy)[:, P - 1:][m[:, P - 1:]], atol=1e-5)
        np.testing.assert_allclose(log_ratio[m], (logp(policy) - logp(watched.reference))[m], atol=2e-5)
        assert beta == watched.config.kl_coef


def test_rewards_at_the_start_are_the_scores_alone(monkeypatch):
    """The policy is the reference: no penalty. The score stands at the true last token; −1 where there was no end."""
    watched = Loop(monkeypatch, no_end_reward=-7.0)
    (_, answers), ((rewards, values, m, *_), (A, R)) = watched.calls["generate"][0], watched.calls["gae"][0]
    last = last_token(answer_mask(answers.tokens, P, END))
    expected = np.zeros_like(rewards)
    expected[np.arange(16), last - 1] = np.where(answers.ended, Loop.score(answers.tokens, last), -7)
    np.testing.assert_allclose(rewards, expected, atol=1e-5)
    assert 0 < answers.ended.mean() < 1 and not values.any()               # a value model that starts at 0
    h = watched.run.history
    assert h[0]["kl"] == pytest.approx(0, abs=1e-5) and h[2]["kl"] > 1e-4 and h[0]["ended"] == answers.ended.mean()
    np.testing.assert_allclose(R[m], gae_by_double_sum(rewards, values, m, 1, 0.95)[m], atol=1e-5)


def test_advantages_are_white_and_minibatches_cover_the_batch(monkeypatch):
    watched = Loop(monkeypatch, minibatches=3, epochs=2)
    for i in range(3):
        calls = [args for args, _ in watched.calls["policy_loss"][6 * i:6 * i + 6]]
        for epoch in (calls[:3], calls[3:]):
            A, m = (np.concatenate([c[k] for c in epoch]) for k in (2, 3))
            assert len(A) == 16 and A[m].mean() == pytest.approx(0, abs=1e-5) and A[m].std() == pytest.approx(1, abs=1e-4)


def test_each_loss_learns_from_what_is_meant_for_it(monkeypatch):
    """The policy from whitened advantages, the value from returns and from what it said itself; all in float32."""
    watched = Loop(monkeypatch)
    for i in range(3):
        (_, old_values, m, *_), (A, R) = watched.calls["gae"][i]
        for (p_args, _), (v_args, _) in zip(watched.calls["policy_loss"][2 * i:2 * i + 2], watched.calls["value_loss"][2 * i:2 * i + 2]):
            rows_m = p_args[3]
            np.testing.assert_array_equal(rows_m, v_args[3])
            for given, meant in ((p_args[2], whiten(A, m)), (v_args[2], R), (v_args[1], old_values)):
                assert given.dtype == np.float32
                np.testing.assert_array_equal(np.sort(given[rows_m]), np.sort(meant[m]))
        v, said, _, rows_m, _ = watched.calls["value_loss"][2 * i][0]
        np.testing.assert_allclose(v.data[rows_m], said[rows_m], atol=1e-5)        # before the iteration's first update
        assert v.dtype == np.float32


def test_the_reference_stays_and_the_value_head_does_not(monkeypatch):
    untouched = tiny(np.float32, dropout=0.3).state_dict()
    watched = Loop(monkeypatch)
    for name, a in watched.reference.state_dict().items():
        assert a.tobytes() == untouched[name].tobytes(), name
    assert watched.value.weight.data.any() and any((a != untouched[n]).any() for n, a in watched.policy.state_dict().items())


def test_the_value_model_does_not_disturb_the_policy(monkeypatch):
    """Whatever its parameters: at the same advantages the policy goes the same way, to the bit."""
    def policy_after(shift):
        with monkeypatch.context() as m:
            m.setattr(loop, "gae", lambda r, v, mask, *_: (r, r))
            m.setattr(RewardModel, "values", (lambda values: lambda self, *a, **k: values(self, *a, **k) + shift)(RewardModel.values))
            return Loop(m).policy.state_dict()
    a, b = policy_after(0.0), policy_after(3.0)
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("pad", [0, 5])
def test_the_padding_token_has_no_say_in_the_loop(monkeypatch, pad):
    with monkeypatch.context() as m:
        a = Loop(m, pad=3)
    with monkeypatch.context() as m:
        b = Loop(m, pad=pad)
    assert a.run.history == b.run.history
    for name, array in a.policy.state_dict().items():
        np.testing.assert_allclose(array, b.policy.state_dict()[name], atol=1e-6, err_msg=name)


def test_unfinished_answers_become_fewer(monkeypatch):
    monkeypatch.setattr(Loop, "score", staticmethod(lambda tokens, last: np.zeros(len(tokens))))
    h = Loop(monkeypatch, iterations=30, batch_size=64, lr=1e-2, kl_coef=0.05).run.history
    assert h[-1]["ended"] > 0.95 > 0.9 > h[0]["ended"] + 0.1


def test_the_learning_rate_warms_up_and_falls_to_0(monkeypatch):
    lr = [h["lr"] for h in Loop(monkeypatch, iterations=10, warmup=4, lr=1.0e-3).run.history]
    np.testing.assert_allclose(lr, [1e-3 * min((i + 1) / 4, 1) * (1 - i / 10) for i in range(10)])


def test_the_first_update_is_small():
    """½ E[(Δ log π)²] of the first iteration on the road's own model and prompts: warm-up keeps Adam's first steps short."""
    prompts = road.names.prompts_from(["kevin", "anna", "olivia", "zoe", "maria", "liam"])

    def moved(warmup):
        policy = road.new_model(np.random.default_rng(0))
        before = deepcopy(policy)
        ppo(policy, RewardModel(policy), before, lambda tokens, last: 0.1 * last, prompts,
            PPOConfig(iterations=1, batch_size=64, epochs=4, lr=1e-3, warmup=warmup, max_new_tokens=12),
            rng=np.random.default_rng(0), run=Run(), end=END)
        tokens = road.answer(before, prompts.repeat(20, axis=0), np.random.default_rng(1))
        mask = road.mask_of(tokens)
        with no_grad():
            d = token_logprobs(policy, tokens, mask).data - token_logprobs(before, tokens, mask).data
        return 0.5 * (d[mask[:, 1:]] ** 2).mean()
    assert moved(5) < 0.02 < moved(0)


# ---- the price of leaving the reference -----------------------------------------------------------------------------

@given(st.floats(0, 50), st.floats(0.1, 10), st.floats(0.001, 1))
def test_the_adaptive_penalty_moves_towards_its_target(kl, target, pace):
    """From both sides, by at most a fifth of the pace, and not at all on the target."""
    beta = Penalty(0.1)
    beta.adapt(kl, target, pace)
    assert beta.value == pytest.approx(0.1 * (1 + min(max(kl / target - 1, -0.2), 0.2) * pace))
    assert np.sign(beta.value - 0.1) == np.sign(kl - target) or abs(kl / target - 1) < 1e-12


def test_the_loop_pays_the_adapted_price(monkeypatch):
    paid, plain = [], loop.token_rewards
    monkeypatch.setattr(loop, "token_rewards", lambda *a: paid.append(a[3]) or plain(*a))
    h = Loop(monkeypatch, iterations=6, kl_coef=0.5, kl_target=1e-6, kl_horizon=100, lr=1e-2).run.history
    assert paid[:6] == [x["beta"] for x in h] and paid[0] == 0.5
    moved = [b / a for a, b in zip(paid, paid[1:6])]
    pace = 0.2 * Loop(monkeypatch).config.batch_size / 100
    assert moved == pytest.approx([1 + pace * np.sign(x["kl"] / 1e-6 - 1) for x in h[:5]], rel=1e-3)
    fixed = Loop(monkeypatch, iterations=3, kl_coef=0.5).run.history
    assert {x["beta"] for x in fixed} == {0.5}


def test_a_target_below_zero_is_refused():
    with pytest.raises(ValueError, match="kl_target=-1"):
        PPOConfig(kl_target=-1)


# ---- every trick has its switch -------------------------------------------------------------------------------------

@given(seeds, st.sampled_from([1, 2, 3]), st.floats(0, 2))
def test_the_penalty_in_the_reward_is_the_estimator_asked_for(seed, k, beta):
    m, log_ratio = drawn(seed, 1)
    rewards = token_rewards(np.zeros(4), log_ratio, m, beta, f"k{k}")
    np.testing.assert_allclose(rewards, -beta * kl_estimates(log_ratio)[k - 1] * m, atol=1e-12)


@given(seeds, st.sampled_from([1, 2, 3]))
def test_the_penalty_in_the_loss_is_a_loop_and_its_gradient_right(seed, k):
    m, new, ref = drawn(seed, 2)
    wanted = np.mean([kl_estimates(new[i] - ref[i])[k - 1] for i in zip(*np.nonzero(m))])
    assert kl_loss(Tensor(new), ref, m, f"k{k}").item() == pytest.approx(wanted)
    assert gradcheck(lambda new: kl_loss(new, ref, m, f"k{k}"), Tensor(new, True))
    rubbish = np.where(m, ref, 1e3)                                       # padding has no say
    a = Tensor(np.where(m, new, -1e3), True)
    kl_loss(a, rubbish, m, f"k{k}").backward()
    assert not a.grad[~m].any() and np.isfinite(a.grad).all()


@given(seeds)
def test_infinity_switches_the_clips_off(seed):
    m, new, old, A = drawn(seed, 3)
    ratio, x = np.exp(new - old), Tensor(new, True)
    loss = policy_loss(x, old, A, m, np.inf)
    loss.backward()
    assert loss.item() == pytest.approx(-(A * ratio)[m].mean())
    np.testing.assert_allclose(x.grad, -A * ratio * m / m.sum(), atol=1e-12)
    assert value_loss(Tensor(new), old, A, m, np.inf).item() == pytest.approx(0.5 * ((new - A)[m] ** 2).mean())


def test_a_penalty_in_the_loss_holds_the_policy_and_is_not_paid_twice(monkeypatch):
    def kl_after(beta, kl="k2"):
        with monkeypatch.context() as m:
            watched = Loop(m, iterations=12, kl_coef=beta, kl_in="loss", kl=kl, lr=1e-2)
        assert all(args[3] == 0 for args, _ in watched.calls["token_rewards"])
        for (new, ref, rows_m, kind), _ in watched.calls["kl_loss"][:1]:  # on the batch's first update π is π_ref
            assert kind == kl and abs((new.data - ref) * rows_m).max() < 1e-4
        return watched.run.history[-1]["kl"]
    free = kl_after(0.0)
    assert kl_after(3.0) < 0.3 * free and kl_after(3.0, "k3") < 0.3 * free


@pytest.mark.parametrize("advantage, compare", [("rloo", leave_one_out), ("grpo", group_normalised)])
def test_a_group_instead_of_a_value_model(monkeypatch, advantage, compare):
    """Each prompt is answered four times; an answer's tokens share its advantage; what it pays for KL is part of it."""
    watched = Loop(monkeypatch, advantage=advantage, group=4, whiten_advantages=False, lr=1e-2)
    assert watched.value is None and "gae" not in watched.calls and "value_loss" not in watched.calls
    for (_, answers), (_, rewards), ((sums, group), A) in zip(watched.calls["generate"], watched.calls["token_rewards"],
                                                              watched.calls[compare.__name__]):
        prompts = answers.tokens[:, :P].reshape(4, 4, P)
        assert (prompts == prompts[:, :1]).all() and group == 4
        np.testing.assert_array_equal(sums, rewards.sum(-1))
    (_, _, learned, rows_m, _), _ = watched.calls["policy_loss"][0]
    m, A = watched.calls["token_rewards"][0][0][2], watched.calls[compare.__name__][0][1]
    np.testing.assert_allclose(np.sort(learned[rows_m]), np.sort((A[:, None] * m)[m]), atol=1e-6)
    assert "explained_variance" not in watched.run.history[0]


def test_the_value_on_the_policys_own_trunk(monkeypatch):
    """Every ratio is 1 at first; without a weight its loss leaves the policy as a separate model would; with one, it does not."""
    def trained(**settings):
        with monkeypatch.context() as m:
            watched = Loop(m, **dict(iterations=1, lr=1e-2, warmup=0) | settings)
        new, old, _, m, _ = watched.calls["policy_loss"][0][0]
        assert abs(np.exp(new.data - old) - 1)[m].max() < 1e-4
        return watched, watched.policy.state_dict()
    (_, apart), (unheard, free), (heard, bound) = (trained(), trained(shared=True, value_coef=0.0),
                                                   trained(shared=True, value_coef=10.0))
    for name, a in apart.items():
        np.testing.assert_allclose(free[name], a, atol=1e-5, err_msg=name)
    assert any(abs(bound[name] - a).max() > 1e-3 for name, a in free.items())
    assert heard.value.weight.data.any() and not unheard.value.weight.data.any()
    losses = [loss.item() for _, loss in heard.calls["value_loss"]]
    assert losses[-1] < losses[0]


def test_whitening_can_be_switched(monkeypatch):
    def learned_from(**settings):
        with monkeypatch.context() as m:
            watched = Loop(m, iterations=1, epochs=1, **settings)
        (_, _, A, rows_m, _), _ = watched.calls["policy_loss"][0]
        (given, _, m, *_), (raw, _) = watched.calls["gae"][0]
        return A[rows_m], raw[m], given[m], watched.calls["token_rewards"][0][1][m]
    A, raw, given, rewards = learned_from(whiten_advantages=False, lr=0.0)
    np.testing.assert_array_equal(np.sort(A), np.sort(raw))
    np.testing.assert_array_equal(given, rewards)
    _, _, given, rewards = learned_from(whiten_rewards=True, lr=0.0)
    assert given.std() == pytest.approx(1, abs=1e-4) != rewards.std() and given.mean() == pytest.approx(rewards.mean(), abs=1e-5)


def test_what_is_logged_each_iteration(monkeypatch):
    for h in Loop(monkeypatch).run.history:
        assert {"reward", "kl", "beta", "entropy", "ended", "length", "lr", "approx_kl", "clip_fraction", "ratio_min",
                "ratio_max", "explained_variance"} <= h.keys()
        assert 0 < h["ratio_min"] < 1 < h["ratio_max"]


@pytest.mark.parametrize("settings, message", [
    ({"advantage": "rloo"}, "group is at least 2, not 1"), ({"group": 3}, "128 answers cannot hold 3 to each prompt"),
    ({"kl": "k4"}, "kl is one of k1, k2, k3, not 'k4'"), ({"kl_in": "both"}, "kl_in is one of reward, loss"),
    ({"advantage": "grpo", "group": 4, "shared": True}, "no value model"), ({"group": 0}, "cannot hold 0")])
def test_settings_that_fit_no_loop_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**settings)


def test_a_value_of_another_kind_is_refused():
    policy = tiny(np.float32)
    for settings, value in (({"shared": True}, RewardModel(policy)), ({"advantage": "rloo", "group": 2}, RewardModel(policy)), ({}, None)):
        with pytest.raises(ValueError, match=r"value_for\(policy, config\) makes it"):
            ppo(policy, value, deepcopy(policy), Loop.score, np.zeros((1, P), int), PPOConfig(max_new_tokens=MAX, **settings),
                rng=np.random.default_rng(0), run=Run(), end=END)


# ---- what goes wrong ------------------------------------------------------------------------------------------------

def test_a_kl_that_explodes_stops_the_run(monkeypatch, tmp_path):
    """It says so; policy and checkpoint are those that the last batch below the limit was written with; no resuming."""
    kept = []

    def watched_stop(run, step, why):
        kept.append(deepcopy(run._objects["model"]))
        return stop(run, step, why)
    stop = Run.stop
    monkeypatch.setattr(Run, "stop", watched_stop)
    loops, init = [], Loop.watched
    monkeypatch.setattr(Loop, "watched", lambda self, *a: loops.append(self) or init(self, *a))
    with pytest.raises(Stopped, match=r"the KL to the reference has risen to .* above kl_stop=2: lower the learning rate \(0.05\)"):
        Loop(monkeypatch, iterations=30, lr=0.05, warmup=0, kl_coef=0.0, kl_stop=2.0, folder=tmp_path)
    assert len(loops[0].before) > 2                                      # so that the last good policy is not the first
    tensors, meta = load(tmp_path / "checkpoint.safetensors")
    assert "above kl_stop=2" in meta["stopped"] and meta["history"][-1]["kl"] <= 2 and meta["step"] == len(meta["history"])
    last_good = loops[0].before[-2].state_dict()                         # the writer of the batch before the one that exploded
    for name, a in loops[0].policy.state_dict().items():
        np.testing.assert_array_equal(a, last_good[name])
        np.testing.assert_array_equal(tensors[f"model/{name}"], a)
    assert any((a != loops[0].before[-1].state_dict()[name]).any() for name, a in last_good.items())
    with pytest.raises(CheckpointError, match="what was left when the KL to the reference has risen"):
        for _ in Run(tmp_path, tokenizer=TOKENIZER, resume=True).steps(30, model=loops[0].policy):
            pass


def test_a_kl_that_is_no_number_stops_the_run(monkeypatch):
    monkeypatch.setattr(loop, "token_logprobs", lambda *a, **k: Tensor(np.nan * token_logprobs(*a, **k).data))
    with pytest.raises(Stopped, match="risen to nan"):
        Loop(monkeypatch)


@pytest.mark.parametrize("length", [4, 8])
def test_a_prompt_as_long_as_the_context_is_refused(length):
    policy = tiny(np.float32, block_size=8)
    with pytest.raises(ValueError, match=f"a prompt of {length} tokens with an answer of up to 6 needs a context of {length + 5}, and "
                                         "the policy's is 8"):
        ppo(policy, RewardModel(policy), deepcopy(policy), Loop.score, np.zeros((3, length), int), PPOConfig(max_new_tokens=6),
            rng=np.random.default_rng(0), run=Run(), end=END)


@pytest.mark.parametrize("settings", [{}, {"whiten_rewards": True}, {"advantage": "rloo", "group": 4},
                                      {"advantage": "grpo", "group": 4, "kl_in": "loss", "kl": "k3"}, {"shared": True}])
def test_answers_that_never_end_and_all_get_the_same(monkeypatch, settings):
    """No end token is ever written: −1 for all. Nothing blows up; a group of equals teaches nothing at all."""
    watched = Loop(monkeypatch, end=99, kl_coef=0.0, iterations=4, **settings)
    h = watched.run.history
    assert all(x["ended"] == 0 and x["reward"] == -1 and x["length"] == MAX and np.isfinite([*x.values()]).all() for x in h)
    moved = max(abs(a - b).max() for a, b in zip(watched.policy.state_dict().values(), watched.reference.state_dict().values()))
    assert moved == 0 if "group" in settings else moved < 0.2


def test_two_threads_give_the_same_bits(monkeypatch):
    """Policy and value learn side by side where they are large enough; what runs beside what changes nothing."""
    def trained(workers):
        with monkeypatch.context() as m:
            m.setattr(loop.parallel, "choose_workers", lambda *a: workers)
            used, plain = [], loop.parallel.on_threads
            m.setattr(loop.parallel, "on_threads", lambda work, jobs: used.append(len(jobs)) or plain(work, jobs))
            watched = Loop(m)
        assert set(used) == ({2} if workers > 1 else set())
        return watched
    alone, beside = trained(1), trained(2)
    assert alone.run.history == beside.run.history
    for model in ("policy", "value"):
        a, b = (getattr(x, model).state_dict() for x in (alone, beside))
        assert all((a[name] == b[name]).all() for name in a)


def test_every_test_that_the_chapter_names_is_there():
    """docs/ppo.md maps each property of a correct loop to its test."""
    root = Path(__file__).parents[1]
    named = set(re.findall(r"`(test_\w+)`", (root / "docs" / "ppo.md").read_text(encoding="utf-8")))
    there = {name for path in root.glob("tests/test_rlhf_*.py")
             for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)}
    assert len(named) > 30 and named <= there, named - there


def test_every_setting_has_its_flag_in_the_chapter():
    chapter = (Path(__file__).parents[1] / "docs" / "ppo.md").read_text(encoding="utf-8")
    plain = {"iterations", "batch_size", "epochs", "minibatches", "lr", "temperature", "max_new_tokens"}
    missing = {f.name for f in fields(PPOConfig) if f"--{f.name.replace('_', '-')}" not in chapter} - plain
    assert not missing
