"""Stage three, second half: proximal policy optimization against the learned reward, held close to the fine-tuned model
by a KL penalty (Schulman et al. 2017 [PPO]; Ziegler et al. 2019 [LMHF]; Ouyang et al. 2022 [INSTRUCT], eq. 2)."""
from dataclasses import dataclass

import numpy as np

from .. import functional as F
from ..backend import beside
from ..generate import generate
from ..optim import AdamW
from ..modes import no_grad
from ..text.batches import answer_mask, last_token
from .logprobs import token_logprobs
from .step import descend


@dataclass(frozen=True)
class PPOConfig:
    iterations: int = 80
    batch_size: int = 128               # answers an iteration
    epochs: int = 4                     # times that each batch is learned from
    minibatches: int = 1                # parts that a batch is cut into in each epoch
    lr: float = 1e-3                    # falls to 0 in a straight line, after `warmup` iterations
    warmup: int = 10
    kl_coef: float = 0.16               # β, at the start
    kl_target: float = 0.0              # KL, in nats an answer, that β is adapted to hold; 0: β stays as it is
    kl_horizon: int = 10000             # answers over which β adapts: fewer, the sooner
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    temperature: float = 1.0
    no_end_reward: float = -1.0         # instead of the score, for an answer that does not end
    max_norm: float = 1.0
    max_new_tokens: int = 12

    def __post_init__(self):
        if not 1 <= self.minibatches <= self.batch_size:
            raise ValueError(f"a batch of {self.batch_size} answers cannot be cut into {self.minibatches} minibatches")
        if self.kl_target < 0 or self.kl_horizon < 1:
            raise ValueError(f"kl_target={self.kl_target} is 0 or a KL above it, kl_horizon={self.kl_horizon} at least 1")


def ppo(policy, value, reference, score, prompts, config, *, rng, run, end, pad=0, watch=None):
    """Train `policy` (a GPT) and `value` (a RewardModel whose head starts at zero) in place.

    `reference` is the frozen GPT that the policy started from; `score(tokens, last)` gives each answer's reward (B,);
    prompts int (N, P) are drawn from at random; `end` ends an answer (None: every answer has max_new_tokens).
    `watch(tokens)` may return more numbers to log: they are never learned from.
    """
    c, P = config, prompts.shape[1]
    for model in (policy, value, reference):
        model.eval()                                            # no dropout: a ratio compares two passes of one model
    opt = AdamW(policy.parameters(), lr=c.lr, eps=1e-5, weight_decay=0.0)
    value_opt = AdamW(value.parameters(), lr=c.lr, eps=1e-5, weight_decay=0.0)
    beta = Penalty(c.kl_coef)
    for it in run.steps(c.iterations, model=policy, value=value, opt=opt, value_opt=value_opt, beta=beta, rng=rng):
        opt.lr = value_opt.lr = c.lr * min((it + 1) / max(c.warmup, 1), 1.0) * (1 - it / c.iterations)

        # write: an answer to each prompt, and what everyone thinks of it
        batch = prompts[rng.integers(len(prompts), size=c.batch_size)]
        answers = generate(policy, batch, c.max_new_tokens, rng=rng, temperature=c.temperature, end=end, pad=pad)
        tokens, mask = answers.tokens, answer_mask(answers.tokens, P, end)          # (B, T)
        m = mask[:, 1:]                                                             # (B, T−1): about token t + 1
        old = np.zeros(m.shape, answers.logprobs.dtype)
        old[:, P - 1:] = answers.logprobs                                           # as recorded while sampling
        with no_grad():
            ref = token_logprobs(reference, tokens, mask, temperature=c.temperature).numpy()
            old_values = value.values(tokens[:, :-1]).numpy() * m                   # (B, T−1): before token t + 1
        scores = np.asarray(score(tokens, last_token(mask)))                        # (B,)
        if end is not None:
            scores = np.where(answers.ended, scores, c.no_end_reward)

        # judge: reward, less the price of leaving the reference, becomes an advantage for each token
        rewards = token_rewards(scores, old - ref, m, float(beta.value))
        advantages, returns = gae(rewards, old_values, m, c.gamma, c.lam)
        advantages = whiten(advantages, m)

        # learn: several passes over the batch, each kept near the policy that wrote it
        stats = []
        for _ in range(c.epochs):
            for rows in np.array_split(rng.permutation(c.batch_size), c.minibatches):
                new = token_logprobs(policy, tokens[rows], mask[rows], temperature=c.temperature)
                here = lambda x: beside(x[rows], new.data)                          # of these rows, where the models are
                opt.zero_grad()
                descend(policy_loss(new, here(old), here(advantages), here(m), c.clip), opt, c.max_norm)
                v = value.values(tokens[rows][:, :-1])
                value_opt.zero_grad()
                descend(value_loss(v, here(old_values), here(returns), here(m), c.value_clip), value_opt, c.max_norm)
                stats.append(update_stats(new.numpy() - old[rows], m[rows], c.clip))
        kl = ((old - ref) * m).sum(-1).mean()
        run.log(it + 1, reward=scores.mean(), kl=kl, beta=beta.value,
                entropy=-(old * m).sum() / m.sum(), ended=answers.ended.mean() if end is not None else 1.0,
                explained_variance=explained_variance(old_values[m], returns[m]), length=m.sum(-1).mean(), lr=opt.lr,
                **{k: np.mean([s[k] for s in stats]) for k in stats[0]}, **(watch(tokens) if watch else {}))
        if c.kl_target:
            beta.adapt(kl, c.kl_target, c.batch_size / c.kl_horizon)


class Penalty:
    """β, the price of leaving the reference; checkpoints keep it, since it may change."""

    def __init__(self, value):
        self.value = np.array(float(value))

    def adapt(self, kl, target, pace):
        """β ← β (1 + clip(KL/target − 1, −0.2, 0.2) · pace): dearer above the target, cheaper below ([LMHF] sec. 2.2)"""
        self.value *= 1 + np.clip(kl / target - 1, -0.2, 0.2) * pace

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value[...] = state["value"]


def token_rewards(scores, log_ratio, m, kl_coef):
    """−β (log π − log π_ref) on every answer token, and the score on the last one ([LMHF] eq. 2). (B, T)

    The penalty is this plain log ratio ("k1"): other estimators of the same KL have another gradient.
    """
    rewards = -kl_coef * log_ratio * m
    rewards[np.arange(len(m)), last_token(m)] += scores
    return rewards


def gae(rewards, values, m, gamma, lam):
    """Generalised advantage estimation, δₜ + γλ δₜ₊₁ + (γλ)² δₜ₊₂ + … with δₜ = rₜ + γ Vₜ₊₁ − Vₜ, over answer tokens;
    what lies outside the mask is worth 0 (Schulman et al. 2016 [GAE] eq. 16). Returns (advantages, returns), (B, T)."""
    advantages = np.zeros_like(rewards)
    following = next_value = np.zeros(len(rewards), rewards.dtype)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following) * m[:, t]
        advantages[:, t], next_value = following, values[:, t] * m[:, t]
    return advantages, advantages + values * m


def whiten(x, m):
    """Mean 0 and standard deviation 1 over the mask, 0 outside; numbers that are all equal become 0."""
    mean, std = float(x[m].mean(dtype=np.float64)), float(x[m].std(dtype=np.float64))     # exact where all are equal
    return (x - mean) / (std + 1e-8) * m


def policy_loss(new, old, advantages, m, clip):
    """mean over answer tokens of max(−A ρ, −A clip(ρ, 1−ε, 1+ε)) with ρ = π/π_old ([PPO] eq. 7)."""
    ratio = F.exp(new - old)
    worse = F.maximum(ratio * -advantages, F.clip(ratio, 1 - clip, 1 + clip) * -advantages)
    return (worse * m).sum() / int(m.sum())


def value_loss(v, old, returns, m, clip):
    """mean over answer tokens of ½ max((V−R)², (clip(V, V_old ± ε)−R)²) ([INSTRUCT]'s implementation; [DETAILS] 9)."""
    near = old + F.clip(v - old, -clip, clip)
    worse = F.maximum((v - returns) ** 2, (near - returns) ** 2)
    return 0.5 * (worse * m).sum() / int(m.sum())


def update_stats(log_ratio, m, clip):
    """How far this update has left the policy that wrote the answers."""
    r = log_ratio[m]
    return {"approx_kl": 0.5 * (r * r).mean(), "clip_fraction": (abs(np.exp(r) - 1) > clip).mean()}


def explained_variance(values, returns):
    """1 − var(R − V) / var R: 1 is a perfect value model, 0 one that knows only the mean, below 0 a harmful one."""
    spread = returns.var()
    return 1 - (returns - values).var() / spread if spread > 0 else 0.0


def kl_estimates(log_ratio):
    """Three estimators of KL(π‖π_ref) from samples of π, with log_ratio = log π − log π_ref: (k1, k2, k3), each an array
    of the same shape (Schulman 2020 [KL]). k1 and k3 are unbiased, k3 is never negative."""
    return log_ratio, 0.5 * log_ratio ** 2, np.expm1(-log_ratio) + log_ratio
