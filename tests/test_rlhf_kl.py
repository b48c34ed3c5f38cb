"""Estimators of the KL, and what each is worth as a penalty: expectations over a small softmax, listed and not sampled."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.train.kl import kl_estimates


def two_policies(seed, distance=1.0, K=6):
    """(π, π_ref) on K symbols"""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=K)
    p, q = (np.exp(x) / np.exp(x).sum() for x in (z, z + distance * rng.normal(size=K)))
    return p, q


@given(st.integers(0, 99), st.floats(0.01, 2))
def test_k1_and_k3_are_unbiased_and_k3_is_never_negative(seed, distance):
    p, q = two_policies(seed, distance)
    k1, k2, k3 = kl_estimates(np.log(p / q))
    assert p @ k1 == pytest.approx(p @ np.log(p / q)) == pytest.approx(p @ k3)
    assert (k3 >= 0).all() and (k2 >= 0).all()
    np.testing.assert_allclose(k3, q / p - 1 - np.log(q / p), atol=1e-12)
    np.testing.assert_allclose(k2, np.log(q / p) ** 2 / 2)


@given(st.integers(0, 99))
def test_near_0_k3_varies_least(seed):
    p, q = two_policies(seed, 0.1)
    k1, _, k3 = kl_estimates(np.log(p / q))
    assert variance(p, k3) < 0.1 * variance(p, k1)


def variance(p, x):
    return p @ x ** 2 - (p @ x) ** 2


def test_all_are_0_at_the_reference_and_exact_near_it():
    assert all((k == 0).all() for k in kl_estimates(np.zeros(3)))
    tiny = np.array([1e-8], np.float32)
    assert kl_estimates(tiny)[2] >= 0 and kl_estimates(tiny)[2] == pytest.approx(5e-17, abs=1e-8)


# ---- the gradient ---------------------------------------------------------------------------------------------------
# With logits θ: ∂ log π(y)/∂θ = onehot(y) − π. A penalty in the reward is a number that weighs ∇ log π; a penalty in the
# loss is differentiated itself. Both are averaged over what π draws.

def gradients(p, q):
    """The exact ∇KL, and for k1, k2, k3 the expected gradient (in the reward, in the loss)."""
    score = np.eye(len(p)) - p                                            # row y: ∇ log π(y)
    log_ratio, h = np.log(p / q), 1e-6
    exact = (p * log_ratio) @ score
    above, below = kl_estimates(log_ratio + h), kl_estimates(log_ratio - h)
    in_reward = [(p * k) @ score for k in kl_estimates(log_ratio)]
    in_loss = [(p * (a - b) / (2 * h)) @ score for a, b in zip(above, below)]
    return exact, in_reward, in_loss


def test_the_exact_gradient_is_the_kls():
    p, q = two_policies(0)

    def kl(z):
        p = np.exp(z) / np.exp(z).sum()
        return p @ np.log(p / q)
    differences = [(kl(np.log(p) + e) - kl(np.log(p) - e)) / 2e-6 for e in 1e-6 * np.eye(6)]
    np.testing.assert_allclose(gradients(p, q)[0], differences, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_which_penalties_have_the_gradient_of_the_kl(seed):
    exact, in_reward, in_loss = gradients(*two_policies(seed))

    def error(g):
        return np.linalg.norm(g - exact) / np.linalg.norm(exact)
    assert error(in_reward[0]) < 1e-9                                     # k1 in the reward: what PPO does here
    assert error(in_reward[1]) > 0.05 and error(in_reward[2]) > 0.05      # another objective's
    assert np.linalg.norm(in_loss[0]) < 1e-8                              # k1 in the loss: nothing at all, on average
    assert error(in_loss[1]) < 1e-8                                       # k2 in the loss: right while on policy
    assert error(in_loss[2]) > 0.05                                       # k3 in the loss: that of KL(π_ref‖π)
    p, q = two_policies(seed)
    np.testing.assert_allclose(in_loss[2], p - q, atol=1e-8)
