"""The reward model: read at an answer's last token, taught by who was preferred, and normalised."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, gradcheck
from tinygrad_lm.models import RewardModel
from tinygrad_lm.text.batches import answer_mask, last_token
from tinygrad_lm.text import person
from tinygrad_lm.train import reward, road
from tinygrad_lm.train.calibration import calibration, calibration_error, preferences, true_preferences
from tinygrad_lm.train.reward import (MARGINS, RewardConfig, pair_accuracy, preference_loss, ranking_loss, score_answers,
                                      train_reward)
from tinygrad_lm.train.run import Run

from .strategies import array
from .test_gpt import V, grads, tiny

P, END = 2, 1


def reward_model(seed=0, dtype=np.float64, **shape):
    return RewardModel(tiny(dtype, seed=seed, **shape), rng=np.random.default_rng(seed)).to(dtype)


def answers(seed, n=6, T=7):
    tokens = np.random.default_rng(seed).integers(0, V, (n, T))
    return tokens, last_token(answer_mask(tokens, P, END))


def σ(x):
    return 1 / (1 + np.exp(-x))


# ---- where it is read -----------------------------------------------------------------------------------------------

@given(st.integers(0, 99), st.integers(0, V - 1), st.integers(0, 1))
def test_padding_changes_nothing(seed, pad, surplus):
    """What stands after the last token, and how much of it: not the rewards, not the loss, not a gradient."""
    model, (tokens, last) = reward_model(seed), answers(seed)
    other = np.concatenate([tokens, np.full((6, surplus), pad)], axis=1)
    other[np.arange(other.shape[1]) > last[:, None]] = pad
    np.testing.assert_allclose(model(tokens, last).data, model(other, last).data, atol=1e-12)
    np.testing.assert_allclose(score_answers(model, tokens, last), score_answers(model, other, last), atol=1e-12)
    g, h = (grads(model, ranking_loss(model(t, last).reshape(2, 3))) for t in (tokens, other))
    for name in g:
        if g[name] is not None:                                       # mean and std are not learned
            np.testing.assert_allclose(g[name], h[name], atol=1e-12, err_msg=name)


def test_each_answer_is_read_alone_at_its_last_token():
    model, (tokens, last) = reward_model(), answers(1, n=20)
    assert len(set(last)) > 2
    for row, n, r in zip(tokens, last, model(tokens, last).data):
        assert model.values(row[None, :n + 1]).data[0, -1] == pytest.approx(r, rel=1e-9)
    assert abs(model(tokens, last).data - model(tokens, np.full(20, 6)).data).max() > 0.1      # the last column is no answer


def test_the_gradient_through_the_model():
    model, (tokens, last) = reward_model(n_embd=4, n_layer=1), answers(2)
    assert gradcheck(lambda *p: ranking_loss(model(tokens, last).reshape(2, 3)), *model.parameters())


# ---- Bradley and Terry ----------------------------------------------------------------------------------------------

pairs = array((4,)).flatmap(lambda a: array((4,)).map(lambda b: (a, b)))


@given(pairs, st.sampled_from([0.0, 0.5, 3.0]))
def test_the_loss_its_gradient_and_the_margin(ab, margin):
    a, b = Tensor(ab[0], True), Tensor(ab[1], True)
    loss = preference_loss(a, b, margin=margin)
    assert loss.item() == pytest.approx(-np.log(σ(ab[0] - ab[1] - margin)).mean())
    assert gradcheck(lambda a, b: preference_loss(a, b, margin=margin), a, b)
    preference_loss(a, b, margin=margin).backward()
    np.testing.assert_allclose(a.grad, -σ(ab[1] - ab[0] + margin) / 4, atol=1e-12)
    np.testing.assert_allclose(a.grad, -b.grad, atol=1e-12)


@given(pairs)
def test_symmetries(ab):
    a, b = map(Tensor, ab)
    plain = preference_loss(a, b).item()
    assert preference_loss(a, b, margin=0).item() == plain
    assert preference_loss(a + 5, b + 5).item() == pytest.approx(plain)                    # a constant changes nothing
    np.testing.assert_allclose(np.exp(-preference_loss(a[:1], b[:1]).item())               # swapped: the other's share
                               + np.exp(-preference_loss(b[:1], a[:1]).item()), 1)
    assert preference_loss(a, a - 3, margin=3).item() == pytest.approx(np.log(2))          # difference = margin


def test_a_large_difference_does_not_overflow():
    a = Tensor(np.array([-1000.0, 1000.0]), True)
    with np.errstate(over="raise", invalid="raise"):
        loss = preference_loss(a, -1.0 * a)
        loss.backward()
    assert loss.item() == pytest.approx(1000) and np.allclose(a.grad, [-1, 0])


@given(st.integers(2, 5), st.integers(1, 3), st.integers(0, 99))
def test_k_ranked_answers_are_all_their_pairs(K, B, seed):
    r = np.random.default_rng(seed).normal(size=(B, K))
    one_by_one = [preference_loss(Tensor(r[b, [i]]), Tensor(r[b, [j]])).item()
                  for b in range(B) for i in range(K) for j in range(i + 1, K)]
    assert len(one_by_one) == B * K * (K - 1) / 2
    assert ranking_loss(Tensor(r)).item() == pytest.approx(np.mean(one_by_one))
    assert gradcheck(ranking_loss, Tensor(r, True))


@given(st.integers(2, 5), st.integers(1, 3), st.integers(0, 99))
def test_each_pair_of_a_ranking_has_its_own_margin(K, B, seed):
    rng = np.random.default_rng(seed)
    r, margin = rng.normal(size=(B, K)), rng.integers(0, 4, (B, K * (K - 1) // 2)).astype(float)
    pairs = [(b, i, j) for b in range(B) for i in range(K) for j in range(i + 1, K)]
    one_by_one = [preference_loss(Tensor(r[b, [i]]), Tensor(r[b, [j]]), margin=m).item()
                  for (b, i, j), m in zip(pairs, margin.ravel())]
    assert ranking_loss(Tensor(r), margin=margin).item() == pytest.approx(np.mean(one_by_one))
    assert gradcheck(lambda r: ranking_loss(r, margin=margin), Tensor(r, True))


def test_llama_2s_margins():
    """By how much better: significantly, plainly, slightly, negligibly. At the margin the loss is log 2; 0 is the plain loss."""
    assert MARGINS["large"][::-1] == (3, 2, 1, 0) and MARGINS["small"][::-1] == pytest.approx((1, 2 / 3, 1 / 3, 0))
    for name, margins in MARGINS.items():
        for rating, margin in enumerate(margins):
            assert margin == 0 or rating > 0, name
            assert preference_loss(Tensor(np.full(2, 0.3 + margin)), Tensor(np.full(2, 0.3)), margin=margin).item() == \
                pytest.approx(np.log(2))


def test_the_rating_is_how_much_better_it_seemed():
    """Without noise to speak of: whole numbers of the difference, three at most, in the pairs' order."""
    order, ratings = person.rank(1e6 * np.array([[0.0, 2, 1]]), np.random.default_rng(0))
    assert order.tolist() == [[1, 2, 0]] and ratings.tolist() == [[3, 3, 3]]
    still = type("", (), {"gumbel": staticmethod(lambda size: np.zeros(size))})
    assert person.rank(np.array([0.0, 2.5, 1.2, 2.1]), still)[1].tolist() == [0, 1, 2, 0, 2, 1]     # 2.5 2.1 1.2 0


# ---- calibration -----------------------------------------------------------------------------------------------------

def test_preferences_are_bradley_and_terrys_told_of_the_likelier_answer():
    r, true = np.array([[1.0, 3.0], [0.5, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    p, order = preferences(r)
    np.testing.assert_allclose(p, [[σ(2)], [σ(0.5)]])
    np.testing.assert_allclose(true_preferences(true, order), [[σ(1)], [σ(-1)]])             # right once, wrong once
    np.testing.assert_allclose(preferences(r + 7)[0], p)                                     # a constant says nothing


@given(st.integers(0, 99), st.integers(1, 12))
def test_calibration_is_a_loop_over_bins(seed, bins):
    rng = np.random.default_rng(seed)
    p, y = rng.random((5, 8)), rng.random((5, 8))
    p.flat[0] = 1.0                                                                          # belongs to the last bin
    said, found, n = calibration(p, y, bins=bins)
    expected, k = 0.0, 0
    for b in range(bins):
        inside = (p >= b / bins) & ((p < (b + 1) / bins) | (b == bins - 1))
        if inside.any():
            assert n[k] == inside.sum()
            assert (said[k], found[k]) == (pytest.approx(p[inside].mean()), pytest.approx(y[inside].mean()))
            expected, k = expected + inside.sum() / 40 * abs(p[inside].mean() - y[inside].mean()), k + 1
    assert k == len(n) and calibration_error(p, y, bins=bins) == pytest.approx(expected)


def test_a_calibrated_prediction_has_no_error_and_a_bold_one_has():
    rng = np.random.default_rng(0)
    r = rng.normal(size=(5000, 2))
    p, order = preferences(r)
    assert calibration_error(p, true_preferences(r, order)) < 1e-9                           # the truth is its own reward
    votes = rng.random(p.shape) < p
    assert calibration_error(p, votes) < 0.02
    bold, order = preferences(3 * r)                                                         # the same order, too sure of it
    assert calibration_error(bold, true_preferences(r, order)) > 0.15


def test_pair_accuracy():
    assert pair_accuracy(np.array([[3.0, 2, 1]])) == 1 and pair_accuracy(np.array([[1.0, 2, 3], [3, 2, 1]])) == 0.5
    assert pair_accuracy(np.array([[1.0, 2, 3]]), truth=np.array([[0.0, 5, 9]])) == 1
    assert pair_accuracy(np.array([[1.0, 2, 3]]), truth=np.array([[0.0, 0, -9]])) == 0     # two pairs; a tie is none
    assert pair_accuracy(np.array([[1.0, 1.0]])) == 0                                      # no opinion is no success


# ---- scale and training ---------------------------------------------------------------------------------------------

def test_normalised_rewards_have_mean_0_and_std_1():
    model, (tokens, last) = reward_model(dtype=np.float32), answers(3, n=50)
    order = score_answers(model, tokens, last).argsort()
    for _ in range(2):                                                                     # once more changes nothing
        model.normalise(score_answers(model, tokens, last))
        r = score_answers(model, tokens, last)
        assert r.mean() == pytest.approx(0, abs=1e-5) and r.std() == pytest.approx(1, abs=1e-5)
    assert (r.argsort() == order).all()
    model.normalise(r * 2 + 1)                                                             # rewards that are not its own mean
    np.testing.assert_allclose(score_answers(model, tokens, last), (r - 1) / 2, atol=1e-5)


def test_rewards_without_a_spread_are_refused():
    model = reward_model()
    for rewards in (np.full(5, 2.0), np.array([np.nan, 1.0])):
        with pytest.raises(ValueError, match="without a spread"):
            model.normalise(rewards)
    assert model.std.data == 1 and model.mean.data == 0


def test_scores_are_the_same_in_batches_and_without_dropout():
    model, (tokens, last) = reward_model(dropout=0.5), answers(4, n=20)
    r = score_answers(model, tokens, last)
    np.testing.assert_allclose(score_answers(model, tokens, last, batch_size=3), r, atol=1e-12)
    assert r.shape == (20,) and model.body.training


def test_training_recovers_the_true_differences():
    """From how often each of four answers is preferred to each other, their rewards but for a constant."""
    true = np.array([0.0, 1.0, -0.7, 0.4])
    tokens = np.array([[[3, 3, i + 2, END], [3, 3, j + 2, END]] for i in range(4) for j in range(4) if i != j
                       for _ in range(round(100 * σ(true[i] - true[j])))])
    model = reward_model(dtype=np.float32)
    one_of_each, last = np.array([[3, 3, i + 2, END] for i in range(4)]), np.full(4, 3)
    train_reward(model, tokens, np.full(tokens.shape[:2], 3), RewardConfig(epochs=40, batch_size=150, lr=5e-3, weight_decay=0),
                 rng=np.random.default_rng(0), run=(run := Run()))
    learned = score_answers(model, one_of_each, last)
    np.testing.assert_allclose(learned - learned[0], true - true[0], atol=0.05)
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_training_normalises_on_the_baseline():
    model, (tokens, last) = reward_model(dtype=np.float32), answers(5)
    train_reward(model, tokens.reshape(2, 3, -1), last.reshape(2, 3), RewardConfig(epochs=2, batch_size=1),
                 rng=np.random.default_rng(0), run=Run(), baseline=(tokens, last))
    r = score_answers(model, tokens, last)
    assert r.mean() == pytest.approx(0, abs=1e-5) and r.std() == pytest.approx(1, abs=1e-5)


def test_in_training_every_pair_keeps_its_own_margin(monkeypatch):
    """Whatever order the batches come in: the first token says what the ratings are."""
    tokens = np.random.default_rng(0).integers(0, V, (7, 3, 5))
    tokens[:, :, 0] = np.arange(7)[:, None] % 4
    ratings = np.stack([np.arange(7) % 4] * 3, axis=1)
    seen, plain, model = [], reward.ranking_loss, reward_model(dtype=np.float32)
    read = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, idx, last: seen.append(idx) or read(self, idx, last))
    monkeypatch.setattr(reward, "ranking_loss", lambda r, *, margin: seen.append(margin) or plain(r, margin=margin))
    train_reward(model, tokens, np.full((7, 3), 4), RewardConfig(epochs=2, batch_size=3, margin="large"),
                 rng=np.random.default_rng(1), run=Run(), ratings=ratings)
    assert len(seen) == 12
    for idx, margin in zip(seen[::2], seen[1::2]):
        np.testing.assert_array_equal(margin, np.array(MARGINS["large"])[idx.reshape(-1, 3, 5)[:, :, 0]])


# ---- the rankings of the road ---------------------------------------------------------------------------------------

def test_rankings():
    """Four answers each to the same prompt, a broken instruction among them; the better ones tend to stand first."""
    prompts = road.names.prompts_from(["kevin", "anna", "olivia", "bo", "zoe"] * 40)
    model = road.new_model(np.random.default_rng(0))
    ranked = road.rank_answers(model, prompts, np.random.default_rng(1))
    assert ranked.shape == (160, 4, road.WIDTH) and (ranked[:, :, :4] == prompts[:, None]).all()
    np.testing.assert_array_equal(ranked, road.rank_answers(model, prompts, np.random.default_rng(1)))
    true = road.true_scores(ranked)
    assert np.sign(true[:, 0] - true[:, -1]).mean() > 0.1                                  # first against last, many tied
    (better, better_mask), (worse, worse_mask) = road.all_pairs(ranked)
    assert better.shape == worse.shape == (160 * 6, road.WIDTH)
    np.testing.assert_array_equal(better[:, :4], worse[:, :4])
    np.testing.assert_array_equal(better.reshape(160, 6, -1)[:, 1], ranked[:, 0])          # 01 02 03 12 13 23
    np.testing.assert_array_equal(worse.reshape(160, 6, -1)[:, 1], ranked[:, 2])
    np.testing.assert_array_equal(better_mask, road.mask_of(better))


def test_win_rate():
    tok = road.tokenizer
    good, bad = (road.widen(np.array([[*tok.encode("^a4>" + a), END]])) for a in ("anna", "qxzj"))
    assert road.win_rate(good, bad) == 1 and road.win_rate(bad, good) == 0 and road.win_rate(good, good) == 0.5
    assert road.obedience(np.concatenate([good, bad])) == 0.5
