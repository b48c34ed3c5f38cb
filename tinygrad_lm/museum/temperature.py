"""Answers are drawn at temperature 0.7, and their probabilities are computed at temperature 1. The model that is improved is not the
one that wrote, and its distance from the reference is measured between two others.

The accounts of reproducing OpenAI's code name the scaling of the logits by the sampling temperature as a detail that matters
[NDETAILS].
"""
import numpy as np

from ..modes import no_grad
from ..train import logprobs
from .replace import replaced
from .tasks import V, bandit, tiny

TITLE = "Log-probabilities at the wrong temperature"
WATCHED, SHOWN, AXIS = "reward", "distance from the optimum", "iteration of PPO"
right = logprobs.token_logprobs


def wrong(model, tokens, mask, *, temperature=1.0):
    return right(model, tokens, mask)                           # right: temperature=temperature


def patch():
    return replaced(right, wrong)


def run():
    """PPO where the optimum is known, sampled at temperature 0.7."""
    return bandit(temperature=0.7)


def test():
    """Worked out from the scores: log softmax(z / 0.7) at the tokens that follow."""
    model, tokens = tiny(), np.random.default_rng(0).integers(V, size=(3, 6))
    with no_grad():
        z = model(tokens[:, :-1]).data.astype(np.float64) / 0.7
        found = logprobs.token_logprobs(model, tokens, np.ones(tokens.shape, bool), temperature=0.7).data
    z = z - np.log(np.exp(z).sum(-1, keepdims=True))
    np.testing.assert_allclose(found, np.take_along_axis(z, tokens[:, 1:, None], -1)[..., 0], atol=1e-5)
