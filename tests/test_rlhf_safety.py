"""Two reward models: what is safe is a probability, and Llama 2's rule makes one reward of two."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, gradcheck
from tinygrad_lm.models import RewardModel
from tinygrad_lm.text import person
from tinygrad_lm.train import road
from tinygrad_lm.train.reward import RewardConfig, preference_loss, safety_loss, score_answers, train_reward
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.safety import THRESHOLD, combined_score, llama2_rule, logit, weighted_sum

from .test_gpt import tiny
from .test_rlhf_reward import END, reward_model, σ

seeds = st.integers(0, 99)


# ---- what a safety model learns --------------------------------------------------------------------------------------

@given(seeds, st.integers(2, 4), st.integers(1, 4), st.sampled_from([1.0, 0.3, 0.0]))
def test_the_loss_is_pairs_and_labels_one_by_one_and_its_gradient_right(seed, K, B, coef):
    rng = np.random.default_rng(seed)
    r, safe = rng.normal(size=(B, K)), rng.random((B, K)) < 0.6
    pairs = [preference_loss(Tensor(r[b, [i]]), Tensor(r[b, [j]])).item()
             for b in range(B) for i in range(K) for j in range(K) if safe[b, i] and not safe[b, j]]
    labels = [-np.log(σ(x) if s else 1 - σ(x)) for x, s in zip(r.ravel(), safe.ravel())]
    assert safety_loss(Tensor(r), safe, label_coef=coef).item() == pytest.approx(sum(pairs) / max(len(pairs), 1)
                                                                                   + coef * np.mean(labels))
    assert gradcheck(lambda r: safety_loss(r, safe, label_coef=coef), Tensor(r, True))


@given(seeds, st.floats(-3, 3))
def test_pairs_alone_cannot_tell_a_constant_and_labels_can(seed, constant):
    """Why a threshold on σ(r) means nothing without the second term: r and r + c have one loss."""
    rng = np.random.default_rng(seed)
    r, safe = rng.normal(size=(3, 4)), np.array([[True, True, False, False]] * 3)
    at = lambda shift, coef: safety_loss(Tensor(r + shift), safe, label_coef=coef).item()
    assert at(constant, 0.0) == pytest.approx(at(0, 0.0))
    both = Tensor(r, True)
    safety_loss(both, safe, label_coef=0.0).backward()
    assert abs(both.grad.sum()) < 1e-12
    assert at(constant, 1.0) + at(-constant, 1.0) >= 2 * at(0, 1.0) + 0.01 * constant ** 2


def test_training_makes_the_reward_the_logit_of_the_share_that_is_safe():
    """Answers of which 20, 50 and 90 in a hundred are safe: the reward is each one's logit, not only their order."""
    shares, rng = np.array([0.2, 0.5, 0.9]), np.random.default_rng(0)
    tokens = np.tile(np.array([[3, 3, k + 2, END] for k in range(3)]), (400, 1, 1))
    safe, last = rng.random((400, 3)) < shares, np.full((400, 3), 3)

    def learned(coef):
        model = RewardModel(tiny(np.float32), rng=np.random.default_rng(0))
        run = Run()
        train_reward(model, tokens, last, RewardConfig(epochs=6, batch_size=50, lr=3e-3, weight_decay=0, label_coef=coef),
                     rng=np.random.default_rng(1), run=run, safe=safe)
        assert run.history[-1]["accuracy"] == pytest.approx(0.73, abs=0.12)
        return score_answers(model, tokens[0], last[0])
    np.testing.assert_allclose(σ(learned(1.0)), safe.mean(0), atol=0.05)


def test_a_safety_model_is_not_normalised_and_a_margin_needs_ratings():
    model, tokens, last = reward_model(), np.zeros((2, 2, 4), int), np.full((2, 2), 3)
    train = lambda config=RewardConfig(), **more: train_reward(model, tokens, last, config, rng=None, run=Run(), **more)
    with pytest.raises(ValueError, match="logit of a probability"):
        train(safe=np.ones((2, 2), bool), baseline=(tokens[0], last[0]))
    with pytest.raises(ValueError, match="the large margin depends on how much better"):
        train(RewardConfig(margin="large"))
    with pytest.raises(ValueError, match="margin='huge' is none of none, small, large"):
        RewardConfig(margin="huge")


def test_what_is_safe():
    assert person.is_safe("kevin") and person.is_safe("") and not person.is_safe("anna") and not person.is_safe("ivan")
    tok = road.tokenizer
    tokens = road.widen(np.array([[*tok.encode("^a4>anna"), END], [*tok.encode("^a4>alma"), END],
                                  [*tok.encode("^a4>al"), END, *tok.encode("an")]]))
    assert road.safe(tokens).tolist() == [False, True, True]                                 # behind its end nothing counts
    assert road.safe(tokens.reshape(3, 1, -1)).tolist() == [[False], [True], [True]]
    unfinished = np.array([tok.encode("^a8>alanalanalan")])
    assert road.safe(unfinished).tolist() == [False]


# ---- one reward of two ----------------------------------------------------------------------------------------------

@given(st.floats(-30, 30))
def test_logit_takes_the_sigmoid_back(x):
    assert logit(σ(x)) == pytest.approx(x, rel=1e-3, abs=1e-9)


@given(seeds)
def test_the_rule_is_the_papers(seed):
    """In its own words: σ of both, choose, logit."""
    rng = np.random.default_rng(seed)
    h, s, about = rng.normal(0, 3, 50), rng.normal(0, 3, 50), rng.random(50) < 0.2
    R_h, R_s = σ(h), σ(s)
    R = np.array([R_s[i] if about[i] or R_s[i] < 0.15 else R_h[i] for i in range(50)])
    np.testing.assert_allclose(llama2_rule(h, s, about_safety=about), logit(R), rtol=1e-6)


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_below_the_threshold_helpfulness_has_no_say_and_above_it_all(a, b):
    below, above = (np.full(1, logit(THRESHOLD) + d) for d in (-1e-9, 1e-9))
    a, b = np.array([a]), np.array([b])
    assert llama2_rule(a, below) == llama2_rule(b, below) == below
    assert llama2_rule(a, above) == a and llama2_rule(b, above) == b
    assert llama2_rule(a, above, about_safety=True) == above                                 # whatever it helps


def test_what_llama_2_pays_and_does_not_say():
    """logit .15 = −1.73: an unsafe answer near the threshold is paid more than a safe one that helps less than that."""
    assert logit(THRESHOLD) == pytest.approx(-1.7346, abs=1e-4)
    unsafe, unhelpful = llama2_rule(np.array([0.0, -2.5]), np.array([-1.75, 5.0]))
    assert unsafe > unhelpful


def test_the_weighted_sum():
    assert weighted_sum(2.0, -1.0, weight=0.25) == 1.25 and weighted_sum(2.0, -1.0, weight=0) == 2


def test_the_combined_score_is_white_on_the_safe_answers_of_the_start():
    helpful, safety, rng = reward_model(0), reward_model(1), np.random.default_rng(2)
    tokens, last = rng.integers(0, 6, (60, 7)), rng.integers(2, 7, 60)
    safety.mean.data[...] = np.median(score_answers(safety, tokens, last)) - logit(THRESHOLD)          # half are unsafe
    for combine in (llama2_rule, weighted_sum):
        score = combined_score(combine, helpful, safety, (tokens, last))
        r, h, s = score(tokens, last), *(score_answers(m, tokens, last) for m in (helpful, safety))
        passed, raw = s >= logit(THRESHOLD), combine(h, s)
        assert 0 < passed.sum() < 60                                                         # else it would show nothing
        assert r[passed].mean() == pytest.approx(0, abs=1e-6) and r[passed].std() == pytest.approx(1)
        np.testing.assert_allclose(r, (raw - raw[passed].mean()) / raw[passed].std(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(score(tokens[:5], last[:5]), r[:5])                       # an answer's own, in any batch
    unsafe = reward_model(1)
    unsafe.mean.data[...] = s.max() + 9
    with pytest.raises(ValueError, match="holds all of these 60 answers to be unsafe"):
        combined_score(llama2_rule, helpful, unsafe, (tokens, last))
    with pytest.raises(ValueError, match="without a spread nothing can be whitened"):
        combined_score(lambda h, s: 0 * h, helpful, safety, (tokens, last))
