"""A task whose best policy is known: answers so short that all can be listed, and so can what a trained policy does.

Under a price β of KL to the reference the best policy is π*(y) ∝ π_ref(y) exp(r(y)/β) ([DPO] eq. 4), whatever finds it. So a
whole loop can be compared with the truth, which no curve of rewards can do.
"""
from copy import deepcopy

import numpy as np

from ..models import GPT, GPTConfig
from ..modes import no_grad
from .dpo import DPOConfig, dpo
from .logprobs import token_logprobs
from .ppo import PPOConfig, ppo, value_for
from .run import Run
from .safety import sigmoid

K = 6                                               # symbols
PROMPT = np.zeros((1, 1), np.int64)                 # one prompt: the symbol 0


class Task:
    """A random reference (a small GPT), random rewards of all answers, and a policy that starts as the reference.

    Answers have `length` symbols; with `end`, a symbol, they may be shorter, and get −1 where they do not end.
    """

    def __init__(self, seed, *, temperature=1.0, end=None, length=2, beta=0.5):
        rng = np.random.default_rng(seed)
        self.temperature, self.end, self.length, self.beta = temperature, end, length, beta
        self.reference = GPT(GPTConfig(K, length + 1, n_layer=1, n_head=2, n_embd=16), rng=rng)
        for p in self.reference.parameters():
            p.data[...] += rng.normal(0, 0.3, p.shape)
        self.answers = list(self.all_answers(()))
        self.rewards = {y: r for y, r in zip(self.answers, rng.normal(0, 1, len(self.answers)))}
        self.policy = deepcopy(self.reference)

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
        """π*(y) for every answer."""
        p = self.probabilities(self.reference) * np.exp(self.true_rewards() / self.beta)
        return p / p.sum()

    def distance(self):
        """Total variation between the policy and π*: the largest difference in the probability of any set of answers."""
        return 0.5 * abs(self.probabilities(self.policy) - self.optimum()).sum()

    def ppo(self, seed, **settings):
        """Train the policy; returns what was logged."""
        config = PPOConfig(**dict(iterations=150, batch_size=256, epochs=4, lr=5e-3, warmup=5, kl_coef=self.beta,
                                  temperature=self.temperature, max_new_tokens=self.length, max_norm=1.0) | settings)
        run = Run()
        ppo(self.policy, value_for(self.reference, config), self.reference, self.score, PROMPT, config,
            rng=np.random.default_rng(seed), run=run, end=self.end)
        return run.history

    def dpo(self, seed, *, pairs=400_000, epochs=2):
        """Train the policy on pairs of any two answers, A preferred to B with probability σ(r(A) − r(B))."""
        rng, n = np.random.default_rng(seed), len(self.answers)
        i = rng.integers(n, size=pairs)
        j = (i + rng.integers(1, n, size=pairs)) % n                                # another answer
        r = np.array([*self.rewards.values()])
        swap = rng.random(pairs) > sigmoid(r[i] - r[j])
        tokens = np.array([(0, *y) for y in self.answers])                          # all of one length
        mask = np.ones_like(tokens, bool)
        mask[:, 0] = False
        better, worse = np.where(swap, j, i), np.where(swap, i, j)
        dpo(self.policy, self.reference, (tokens[better], mask[better]), (tokens[worse], mask[worse]),
            DPOConfig(epochs=epochs, batch_size=1000, lr=5e-3, beta=self.beta), rng=rng, run=Run())
