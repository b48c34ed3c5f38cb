"""How much better was this answer than expected? Against a value model, or against other answers to the same prompt."""
import numpy as np


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


def leave_one_out(rewards, group):
    """Each answer's whole reward less the mean of the others to its prompt: (B,) -> (B,), `group` rows a prompt (REINFORCE
    leave-one-out; Ahmadian et al. 2024 [RLOO] eq. 8)."""
    r = rewards.reshape(-1, group)
    return (r - (r.sum(-1, keepdims=True) - r) / (group - 1)).reshape(-1)


def group_normalised(rewards, group):
    """Each answer's whole reward less the mean of its prompt's group, over the group's standard deviation: (B,) -> (B,)
    (group relative policy optimization; Shao et al. 2024 [GRPO] sec. 4.1.2). A group of equals has no better: 0."""
    r = rewards.reshape(-1, group).astype(np.float64)
    return ((r - r.mean(-1, keepdims=True)) / (r.std(-1, keepdims=True) + 1e-4)).reshape(-1).astype(rewards.dtype)


def whiten(x, m, *, shift_mean=True):
    """Mean 0 and standard deviation 1 over the mask, 0 outside; numbers that are all equal become 0. Without `shift_mean`
    the mean stays what it was: rewards keep their sign ([NPLUS])."""
    mean, std = float(x[m].mean(dtype=np.float64)), float(x[m].std(dtype=np.float64))     # exact where all are equal
    white = (x - mean) / (std + 1e-8) * m
    return white if shift_mean else white + mean * m


def explained_variance(values, returns):
    """1 − var(R − V) / var R: 1 is a perfect value model, 0 one that knows only the mean, below 0 a harmful one."""
    spread = returns.var()
    return 1 - (returns - values).var() / spread if spread > 0 else 0.0
