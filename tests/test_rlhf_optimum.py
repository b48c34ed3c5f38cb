"""The whole loop against a truth: the best policy under a KL penalty is π*(y) ∝ π_ref(y) exp(r(y)/β), and PPO finds it.

Answers of two tokens over K = 6 symbols are few enough to list, so that π*, the policy, their KL and the objective are
known exactly. The same without a part of the loop, or with a popular mistake in it, misses by far.
"""
from copy import deepcopy

import numpy as np
import pytest

from tinygrad_lm import no_grad
from tinygrad_lm.models import GPT, GPTConfig, RewardModel
from tinygrad_lm.train import ppo as loop
from tinygrad_lm.train.logprobs import token_logprobs
from tinygrad_lm.train.ppo import PPOConfig, ppo
from tinygrad_lm.train.run import Run

K, BETA, SEEDS = 6, 0.5, (0, 1, 2)
PROMPT = np.zeros((1, 1), np.int64)


class Task:
    """A random reference, random rewards, and the exact answer."""

    def __init__(self, seed, *, temperature=1.0, end=None, length=2):
        rng = np.random.default_rng(seed)
        self.temperature, self.end, self.length = temperature, end, length
        self.reference = GPT(GPTConfig(K, length + 1, n_layer=1, n_head=2, n_embd=16), rng=rng)
        for p in self.reference.parameters():
            p.data[...] += rng.normal(0, 0.3, p.shape)
        self.answers = list(self.all_answers(()))
        self.rewards = {y: r for y, r in zip(self.answers, rng.normal(0, 1, len(self.answers)))}
        self.policy = deepcopy(self.reference)
        self.value = RewardModel(self.reference)

    def all_answers(self, start):
        """Every answer: all of full length, or shorter ones that end."""
        if start and (len(start) == self.length or start[-1] == self.end):
            yield start
        else:
            for k in range(K):
                yield from self.all_answers((*start, k))

    def score(self, tokens, last):
        return np.array([self.rewards[tuple(row[1:n + 1])] for row, n in zip(tokens.tolist(), last)])

    def true_rewards(self):
        """What the loop is to maximise: −1 instead of the score for an answer that does not end."""
        return np.array([r if self.end is None or y[-1] == self.end else PPOConfig.no_end_reward
                         for y, r in self.rewards.items()])

    def probabilities(self, model):
        """π(y) for every answer, as sampled: under the temperature."""
        logp = np.zeros(len(self.answers))
        for n in range(1, self.length + 1):
            rows = [i for i, y in enumerate(self.answers) if len(y) == n]
            if rows:
                tokens = np.array([(0, *self.answers[i]) for i in rows])
                with no_grad():
                    mask = np.arange(n + 1) + np.zeros((len(rows), 1)) > 0
                    logp[rows] = token_logprobs(model, tokens, mask, temperature=self.temperature).data.sum(-1)
        return np.exp(logp)

    def optimum(self):
        p = self.probabilities(self.reference) * np.exp(self.true_rewards() / BETA)
        return p / p.sum()

    def train(self, seed, **settings):
        config = PPOConfig(**dict(iterations=150, batch_size=256, epochs=4, lr=1e-2, warmup=5, kl_coef=BETA,
                                  temperature=self.temperature, max_new_tokens=self.length, max_norm=1.0) | settings)
        run = Run()
        ppo(self.policy, self.value, self.reference, self.score, PROMPT, config, rng=np.random.default_rng(seed), run=run,
            end=self.end)
        return run.history

    def distance(self):
        return 0.5 * abs(self.probabilities(self.policy) - self.optimum()).sum()
