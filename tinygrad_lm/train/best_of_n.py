"""A rival of PPO that needs no training: write n answers and keep the one that the reward model likes best."""
from math import log

import numpy as np

from ..generate import generate
from ..text.batches import answer_mask, last_token


AT_ONCE = 4096                      # answers that are written together: their KV caches are what takes memory


def best_of_n(model, score, prompts, n, *, rng, max_new_tokens, end, pad=0):
    """The best of n answers to each prompt, by `score(tokens, last)`: prompts int (B, P) -> tokens int (B, P + N), padded
    behind their ends, N being max_new_tokens."""
    size = max(1, AT_ONCE // n)
    return np.concatenate([_best_of_n(model, score, prompts[i:i + size], n, rng, max_new_tokens, end, pad)
                           for i in range(0, len(prompts), size)])


def _best_of_n(model, score, prompts, n, rng, max_new_tokens, end, pad):
    B, P = prompts.shape
    answers = generate(model, prompts.repeat(n, axis=0), max_new_tokens, rng=rng, end=end, pad=pad)
    rewards = score(answers.tokens, last_token(answer_mask(answers.tokens, P, end)))
    if end is not None:
        rewards = np.where(answers.ended, rewards, -np.inf)
    tokens = answers.tokens.reshape(B, n, -1)[np.arange(B), rewards.reshape(B, n).argmax(-1)]
    return np.pad(tokens, [(0, 0), (0, P + max_new_tokens - tokens.shape[1])], constant_values=pad)


def best_of_n_kl(n):
    """KL of the best of n to the model that wrote them, at most: log n − (n − 1)/n (Stiennon et al. 2020 [SUMM], app.
    G)."""
    return log(n) - (n - 1) / n
