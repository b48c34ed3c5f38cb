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
    margin: str = "none"                # how far apart two answers should be, by how much better one is: see MARGINS
    label_coef: float = 1.0             # safety: weight of each answer's own label, beside the pairs

    def __post_init__(self):
        if self.margin not in MARGINS:
            raise ValueError(f"margin={self.margin!r} is none of {', '.join(MARGINS)}")


# The difference that a pair's rewards should have at least, where the better answer is negligibly, slightly, plainly or
# significantly better ([LLAMA2] table 27).
MARGINS = {"none": (0.0, 0.0, 0.0, 0.0), "small": (0.0, 1 / 3, 2 / 3, 1.0), "large": (0.0, 1.0, 2.0, 3.0)}


def preference_loss(better, worse, *, margin=0.0):
    """−log σ(r⁺ − r⁻ − margin), the mean over pairs (the margin: Touvron et al. 2023 [LLAMA2], eq. 2)."""
    return -F.logsigmoid(better - worse - margin).mean()


def ranking_loss(rewards, *, margin=0.0):
    """The mean of −log σ(r⁺ − r⁻ − margin) over all K(K−1)/2 pairs of each row: rewards (B, K), best first (eq. 1);
    margin a number, or one for each pair (B, K(K−1)/2)."""
    better, worse = (beside(i, rewards.data) for i in pairs_of(rewards))
    return preference_loss(rewards[:, better], rewards[:, worse], margin=margin)


def safety_loss(rewards, safe, *, label_coef=1.0):
    """−log σ(r⁺ − r⁻) over the pairs of which one is safe and one is not, and −log σ(±r) over all answers, whose own label
    is the sign: rewards (B, K), safe bool (B, K) ([LLAMA2] app. A.3.3).

    The pairs see differences only. It is the second term, a binary cross-entropy, that makes σ(r) the probability of being
    safe, so that a threshold on it means something.
    """
    i, j = pairs_of(rewards)
    sign = lambda labels: beside(labels.astype(rewards.dtype), rewards.data)
    first = sign(safe[:, i]) - sign(safe[:, j])                          # 1: i is the safe one, −1: j is, 0: no such pair
    i, j = (beside(k, rewards.data) for k in (i, j))
    pairs = -(F.logsigmoid((rewards[:, i] - rewards[:, j]) * first) * first * first).sum() / max(int(abs(first).sum()), 1)
    return pairs - label_coef * F.logsigmoid(rewards * sign(2.0 * safe - 1)).mean()


def pairs_of(rewards):
    """The K(K−1)/2 pairs of K answers, as two index arrays: 01 02 … 12 …; of ranked answers the first is the better."""
    return np.triu_indices(rewards.shape[1], k=1)


def train_reward(model, tokens, last, config, *, rng, run, baseline=None, ratings=None, safe=None):
    """Train a RewardModel on ranked answers: tokens int (N, K, T), the K answers to one prompt, best first; last int
    (N, K), the index of each one's last token; ratings int (N, K(K−1)/2), 0 to 3, how much better the better one of each
    pair is, which the margin asks for. With `safe`, bool (N, K), it learns that instead, in any order.

    At the end rewards are normalised to mean 0 and standard deviation 1 on the answers `baseline`, (tokens, last): those
    of the model that PPO will start from. A safety model is not: σ of its reward is a probability.
    """
    if config.margin != "none" and ratings is None:
        raise ValueError(f"the {config.margin} margin depends on how much better an answer is: pass ratings")
    if safe is not None and baseline is not None:
        raise ValueError("a safety model's reward is the logit of a probability: normalised it would be none")
    margins = np.zeros(1) if ratings is None else np.array(MARGINS[config.margin])[ratings]
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
        if safe is not None:
            loss = safety_loss(rewards, safe[rows], label_coef=config.label_coef)
        else:
            margin = margins if ratings is None else margins[rows]
            loss = ranking_loss(rewards, margin=beside(margin.astype(rewards.dtype), rewards.data))
        descend(loss, opt, config.max_norm)
        if step + 1 == total and baseline:
            model.normalise(score_answers(model, *baseline))             # before the last checkpoint is written
        if (step + 1) % 10 == 0 or step + 1 == total:
            r = rewards.numpy()
            run.log(step + 1, loss=loss.item(), lr=opt.lr, grad_norm=opt.grad_norm, tokens=len(rows) * K * T,
                    accuracy=pair_accuracy(r) if safe is None else ((r > 0) == safe[rows]).mean())


def pair_accuracy(rewards, truth=None):
    """The share of pairs that the rewards (B, K) put in the right order: best first, or as `truth` (B, K) has it. Pairs
    that are equal in truth have no order and do not count."""
    i, j = pairs_of(rewards)
    right = np.ones_like(rewards[:, i]) if truth is None else np.sign(truth[:, i] - truth[:, j])
    return float((np.sign(rewards[:, i] - rewards[:, j]) == right)[right != 0].mean())


def score_answers(model, tokens, last, *, batch_size=512):
    """The rewards of answers (N, T) as an array (N,) on the host; dropout off."""
    with no_grad(), evaluating(model):
        return np.concatenate([model(tokens[i:i + batch_size], last[i:i + batch_size]).numpy()
                               for i in range(0, len(tokens), batch_size)])
