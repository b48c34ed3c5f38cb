"""Stage three, first half: learn from ranked answers what people like (Bradley and Terry 1952 [BT]; Ouyang et al. 2022
[INSTRUCT], eq. 1)."""
from dataclasses import dataclass

import numpy as np

from .. import functional as F
from ..backend import beside
from ..nn import evaluating
from ..optim import AdamW, warmup_cosine
from ..modes import no_grad
from .step import descend


@dataclass(frozen=True)
class RewardConfig:
    epochs: int = 4
    batch_size: int = 32                # prompts; each brings all pairs of its ranked answers
    lr: float = 1e-3
    warmup: int = 20
    weight_decay: float = 0.1
    max_norm: float = 1.0


def preference_loss(better, worse, *, margin=0.0):
    """−log σ(r⁺ − r⁻ − margin), the mean over pairs (the margin: Touvron et al. 2023 [LLAMA2], eq. 2)."""
    return -F.logsigmoid(better - worse - margin).mean()


def ranking_loss(rewards):
    """The mean of −log σ(r⁺ − r⁻) over all K(K−1)/2 pairs of each row: rewards (B, K), best first (eq. 1)."""
    better, worse = np.triu_indices(rewards.shape[1], k=1)               # i before j: i is better
    better, worse = (beside(i, rewards.data) for i in (better, worse))
    return preference_loss(rewards[:, better], rewards[:, worse])


def train_reward(model, tokens, last, config, *, rng, run, baseline=None):
    """Train a RewardModel on ranked answers: tokens int (N, K, T), the K answers to one prompt, best first; last int
    (N, K), the index of each one's last token.

    At the end rewards are normalised to mean 0 and standard deviation 1 on the answers `baseline`, (tokens, last): those
    of the model that PPO will start from.
    """
    opt = AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay)
    N, K, T = tokens.shape
    per_epoch = -(-N // config.batch_size)
    total = config.epochs * per_epoch
    orders = [rng.permutation(N) for _ in range(config.epochs)]          # drawn here: the same again after a resume
    for step in run.steps(total, model=model, opt=opt, rng=rng):
        epoch, i = divmod(step, per_epoch)
        opt.lr = warmup_cosine(step, lr=config.lr, warmup=config.warmup, total=total)
        rows = orders[epoch][i * config.batch_size:(i + 1) * config.batch_size]
        opt.zero_grad()
        rewards = model(tokens[rows].reshape(-1, T), last[rows].reshape(-1)).reshape(-1, K)
        loss = ranking_loss(rewards)
        descend(loss, opt, config.max_norm)
        if step + 1 == total and baseline:
            model.normalise(score_answers(model, *baseline))             # before the last checkpoint is written
        if (step + 1) % 10 == 0 or step + 1 == total:
            run.log(step + 1, loss=loss.item(), accuracy=pair_accuracy(rewards.numpy()), lr=opt.lr)


def pair_accuracy(rewards, truth=None):
    """The share of pairs that the rewards (B, K) put in the right order: best first, or as `truth` (B, K) has it. Pairs
    that are equal in truth have no order and do not count."""
    i, j = np.triu_indices(rewards.shape[1], k=1)
    right = np.ones_like(rewards[:, i]) if truth is None else np.sign(truth[:, i] - truth[:, j])
    return float((np.sign(rewards[:, i] - rewards[:, j]) == right)[right != 0].mean())


def score_answers(model, tokens, last, *, batch_size=512):
    """The rewards of answers (N, T) as an array (N,) on the host; dropout off."""
    with no_grad(), evaluating(model):
        return np.concatenate([model(tokens[i:i + batch_size], last[i:i + batch_size]).numpy()
                               for i in range(0, len(tokens), batch_size)])
