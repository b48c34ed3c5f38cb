"""Advantages against other answers to the same prompt, and whitening that keeps the mean: each equals its loop."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.train.advantages import group_normalised, leave_one_out, whiten

seeds, groups = st.integers(0, 999), st.integers(2, 6)


@given(seeds, groups)
def test_leave_one_out_is_a_loop(seed, group):
    r = np.random.default_rng(seed).normal(size=3 * group)
    A = leave_one_out(r, group)
    for i in range(len(r)):
        others = [r[j] for j in range(len(r)) if j // group == i // group and j != i]
        assert A[i] == pytest.approx(r[i] - np.mean(others), abs=1e-12)


@given(seeds, groups)
def test_group_normalised_is_a_loop(seed, group):
    r = np.random.default_rng(seed).normal(size=3 * group)
    A = group_normalised(r, group)
    for i in range(len(r)):
        mine = r[i // group * group:][:group]
        assert A[i] == pytest.approx((r[i] - mine.mean()) / (np.sqrt(((mine - mine.mean()) ** 2).mean()) + 1e-4), abs=1e-12)


@pytest.mark.parametrize("compare", [leave_one_out, group_normalised])
@given(seed=seeds, group=groups)
def test_what_all_answers_to_a_prompt_share_is_no_advantage(compare, seed, group):
    rng = np.random.default_rng(seed)
    r, easy = rng.normal(size=3 * group), 100 * rng.normal(size=3).repeat(group)
    np.testing.assert_allclose(compare(r + easy, group), compare(r, group), atol=1e-9)
    np.testing.assert_allclose(compare(r, group).reshape(3, group).sum(-1), 0, atol=1e-12)


@pytest.mark.parametrize("compare", [leave_one_out, group_normalised])
@pytest.mark.parametrize("value", [0.1, -3.3, 100.3, 0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_group_of_equals_has_no_advantage(compare, value, dtype):
    A = compare(np.full(21, value, dtype), 7)
    assert abs(A).max() < 1e-4 and A.dtype == dtype


def test_leave_one_out_is_unbiased_and_the_groups_mean_is_not():
    """The baseline must not know the answer itself: E[A ∇log π] over all groups of two is ∇E[r], listed."""
    rng, group = np.random.default_rng(0), 2
    p, r = rng.dirichlet(np.ones(5)), rng.normal(size=5)
    score = np.eye(5) - p                                                           # row y: ∇ log π(y)
    exact = (p * r) @ score

    def expected(compare):
        return sum(p[a] * p[b] * (compare(r[[a, b]], group)[:, None] * score[[a, b]]).mean(0) for a in range(5) for b in range(5))
    np.testing.assert_allclose(expected(leave_one_out), exact, atol=1e-12)
    np.testing.assert_allclose(expected(lambda x, _: x - x.mean()), exact / 2, atol=1e-12)         # half: it is in the mean


@given(seeds)
def test_whitening_that_keeps_the_mean(seed):
    rng = np.random.default_rng(seed)
    x, m = 3 * rng.normal(size=(4, 7)) + 2, rng.random((4, 7)) < 0.6
    m[0, :2] = True
    y = whiten(x, m, shift_mean=False)
    assert y[m].mean() == pytest.approx(x[m].mean()) and y[m].std() == pytest.approx(1, abs=1e-5) and not y[~m].any()


@pytest.mark.parametrize("value", [0.1, -3.3, 100.3, 0])
def test_rewards_that_are_all_equal_stay(value):
    x, m = np.full((7, 11), value), np.ones((7, 11), bool)
    np.testing.assert_allclose(whiten(x, m, shift_mean=False), x, atol=1e-4)
