"""Stage three, second half: proximal policy optimization against the learned reward, held close to the fine-tuned model
by a KL penalty (Schulman et al. 2017 [PPO]; Ziegler et al. 2019 [LMHF]; Ouyang et al. 2022 [INSTRUCT], eq. 2)."""
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal, get_args

import numpy as np

from .. import functional as F, parallel
from ..backend import beside
from ..generate import generate
from ..models.reward import RewardModel, ValueHead
from ..optim import AdamW
from ..modes import anomaly_detection, no_grad
from ..text.batches import answer_mask, last_token
from .advantages import explained_variance, gae, group_normalised, leave_one_out, whiten
from .kl import Penalty, kl_loss, token_rewards
from .logprobs import logprobs_of, token_logprobs
from .step import descend


@dataclass(frozen=True)
class PPOConfig:
    """Every trick has its switch; infinity switches off what has a size (clip, value_clip, max_norm, kl_stop)."""
    iterations: int = 80
    batch_size: int = 128               # answers an iteration
    group: int = 1                      # answers to each prompt of a batch
    epochs: int = 4                     # times that each batch is learned from
    minibatches: int = 1                # parts that a batch is cut into in each epoch
    lr: float = 1e-3                    # falls to 0 in a straight line, after `warmup` iterations
    warmup: int = 10
    adam_eps: float = 1e-5
    kl_coef: float = 0.16               # β, at the start; 0: no penalty
    kl: Literal["k1", "k2", "k3"] = "k1"            # the estimator that is the penalty
    kl_in: Literal["reward", "loss"] = "reward"     # a number that weighs ∇ log π, or differentiated itself
    kl_target: float = 0.0              # KL, in nats an answer, that β is adapted to hold; 0: β stays as it is
    kl_horizon: int = 10000             # answers over which β adapts: fewer, the sooner
    kl_stop: float = 100.0              # KL, in nats an answer, at which the run gives up
    advantage: Literal["gae", "rloo", "grpo"] = "gae"   # against a value model, or against the group: see advantages.py
    gamma: float = 1.0
    lam: float = 0.95
    shared: bool = False                # is the value a head on the policy's own trunk?
    value_coef: float = 0.1             # of the value loss, where the trunk is shared
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    clip: float = 0.2
    value_clip: float = 0.2
    temperature: float = 1.0
    no_end_reward: float = -1.0         # instead of the score, for an answer that does not end
    max_norm: float = 1.0
    max_new_tokens: int = 12

    def __post_init__(self):
        for f in fields(self):
            if get_args(f.type) and getattr(self, f.name) not in get_args(f.type):
                raise ValueError(f"{f.name} is one of {', '.join(get_args(f.type))}, not {getattr(self, f.name)!r}")
        if not 1 <= self.minibatches <= self.batch_size:
            raise ValueError(f"a batch of {self.batch_size} answers cannot be cut into {self.minibatches} minibatches")
        if self.group < 1 or self.batch_size % self.group:
            raise ValueError(f"a batch of {self.batch_size} answers cannot hold {self.group} to each prompt: make "
                             "batch_size a multiple of group")
        if self.advantage != "gae" and self.group < 2:
            raise ValueError(f"advantage={self.advantage} compares answers to the same prompt: group is at least 2, not "
                             f"{self.group}")
        if self.shared and self.advantage != "gae":
            raise ValueError(f"advantage={self.advantage} has no value model that could share the policy's trunk")
        if self.kl_target < 0 or self.kl_horizon < 1:
            raise ValueError(f"kl_target={self.kl_target} is 0 or a KL above it, kl_horizon={self.kl_horizon} at least 1")


def value_for(policy, config):
    """What expects rewards for this policy, knowing nothing yet: a model of its own, a head on the policy's trunk, or none
    where answers are compared with one another."""
    if config.advantage != "gae":
        return None
    return ValueHead(policy) if config.shared else RewardModel(policy)


def ppo(policy, value, reference, score, prompts, config, *, rng, run, end, pad=0, watch=None):
    """Train `policy` (a GPT) and `value` (see `value_for`) in place.

    `reference` is the frozen GPT that the policy started from; `score(tokens, last)` gives each answer's reward (B,);
    prompts int (N, P) are drawn from at random; `end` ends an answer (None: every answer has max_new_tokens).
    `watch(tokens)` may return more numbers to log: they are never learned from. Where the KL rises above `kl_stop` the
    policy goes back to what it last was below, and run.stop raises Stopped.
    """
    c, P = config, prompts.shape[1]
    check_fit(policy, value, P, c)
    for model in (policy, reference, *([value] if value else [])):
        model.eval()                                            # no dropout: a ratio compares two passes of one model
    adam = lambda parameters: AdamW(parameters, lr=c.lr, eps=c.adam_eps, weight_decay=0.0)
    opt = adam([*policy.parameters(), *(value.parameters() if c.shared else [])])
    value_opt = adam(value.parameters()) if isinstance(value, RewardModel) else None
    beta, good = Penalty(c.kl_coef), copy_of(policy)
    saved = {"value": value, "opt": opt, "value_opt": value_opt, "beta": beta, "rng": rng}
    for it in run.steps(c.iterations, model=policy, **{k: x for k, x in saved.items() if x is not None}):
        lr = c.lr * min((it + 1) / max(c.warmup, 1), 1.0) * (1 - it / c.iterations)
        for o in filter(None, (opt, value_opt)):
            o.lr = lr

        # write: an answer to each prompt, and what everyone thinks of it
        batch = prompts[rng.integers(len(prompts), size=c.batch_size // c.group)].repeat(c.group, axis=0)
        answers = generate(policy, batch, c.max_new_tokens, rng=rng, temperature=c.temperature, end=end, pad=pad)
        tokens, mask = answers.tokens, answer_mask(answers.tokens, P, end)          # (B, T)
        m = mask[:, 1:]                                                             # (B, T−1): about token t + 1
        old = np.zeros(m.shape, answers.logprobs.dtype)
        old[:, P - 1:] = answers.logprobs                                           # as recorded while sampling
        ref, old_values = side_by_side(                                             # old_values: before token t + 1
            lambda: token_logprobs(reference, tokens, mask, temperature=c.temperature).numpy(),
            lambda: values_of(policy, value, tokens).numpy() * m if value else None, opt=opt, idx=tokens, learn=False)
        kl = float(((old - ref) * m).sum(-1).mean())                                # nats an answer
        if not kl <= c.kl_stop:                                                     # nor where it is no number
            policy.load_state_dict(good)
            run.stop(it, f"the KL to the reference has risen to {kl:.4g} nats an answer at iteration {it + 1}, above "
                         f"kl_stop={c.kl_stop:g}: lower the learning rate ({c.lr:g}) or raise kl_coef ({c.kl_coef:g})")
        good = copy_of(policy)
        scores = np.asarray(score(tokens, last_token(mask)))                        # (B,)
        if end is not None:
            scores = np.where(answers.ended, scores, c.no_end_reward)

        # judge: reward, less the price of leaving the reference, becomes an advantage for each token
        price = float(beta.value)
        rewards = token_rewards(scores, old - ref, m, price if c.kl_in == "reward" else 0.0, c.kl)
        advantages, returns = judge(rewards, old_values, m, c)

        # learn: several passes over the batch, each kept near the policy that wrote it
        def learn(rows):
            if c.shared:
                h = policy.hidden(tokens[rows][:, :-1])                             # (b, T−1, C): read once for both
                new = logprobs_of(policy.scores(h), tokens[rows], mask[rows], temperature=c.temperature)
            else:
                new = token_logprobs(policy, tokens[rows], mask[rows], temperature=c.temperature)
            here = lambda x: beside(x[rows], new.data)                              # of these rows, where the models are
            loss = policy_loss(new, here(old), here(advantages), here(m), c.clip)
            if c.kl_in == "loss":
                loss = loss + price * kl_loss(new, here(ref), here(m), c.kl)
            if c.shared:
                loss = loss + c.value_coef * value_loss(value(h), here(old_values), here(returns), here(m), c.value_clip)
            opt.zero_grad()
            descend(loss, opt, c.max_norm)
            return update_stats(new.numpy() - old[rows], m[rows], c.clip) | {"grad_norm": opt.grad_norm}

        def learn_value(rows):
            v = value.values(tokens[rows][:, :-1])
            here = lambda x: beside(x[rows], v.data)
            value_opt.zero_grad()
            descend(value_loss(v, here(old_values), here(returns), here(m), c.value_clip), value_opt, c.max_norm)

        stats = []
        for _ in range(c.epochs):
            for rows in np.array_split(rng.permutation(c.batch_size), c.minibatches):
                jobs = [partial(learn, rows)] + ([partial(learn_value, rows)] if value_opt else [])
                stats.append(side_by_side(*jobs, opt=opt, idx=tokens[rows])[0])
        run.log(it + 1, reward=scores.mean(), kl=kl, beta=price, entropy=-(old * m).sum() / m.sum(),
                ended=answers.ended.mean() if end is not None else 1.0, length=m.sum(-1).mean(), lr=lr,
                **over_updates(stats),
                **({"explained_variance": explained_variance(old_values[m], returns[m])} if value else {}),
                **(watch(tokens) if watch else {}))
        if c.kl_target:
            beta.adapt(kl, c.kl_target, c.batch_size / c.kl_horizon)


def check_fit(policy, value, P, c):
    """Refuse what could not be learned from, before anything is written."""
    needed, block = P + c.max_new_tokens - 1, policy.config.block_size
    if needed > block:
        raise ValueError(f"a prompt of {P} tokens with an answer of up to {c.max_new_tokens} needs a context of {needed}, "
                         f"and the policy's is {block}: shorten the prompts or lower max_new_tokens")
    wanted = {"gae": ValueHead if c.shared else RewardModel}.get(c.advantage, type(None))
    if not isinstance(value, wanted):
        raise ValueError(f"advantage={c.advantage} with shared={c.shared} takes {wanted.__name__} as its value, not "
                         f"{type(value).__name__}: value_for(policy, config) makes it")


def judge(rewards, values, m, c):
    """(advantages, returns), (B, T − 1), from each token's reward; a group has no returns."""
    returns = None
    if c.whiten_rewards:
        rewards = whiten(rewards, m, shift_mean=False)
    if c.advantage == "gae":
        advantages, returns = gae(rewards, values, m, c.gamma, c.lam)
    else:
        compare = leave_one_out if c.advantage == "rloo" else group_normalised
        advantages = compare(rewards.sum(-1), c.group)[:, None] * m                 # the same for every token of an answer
    return whiten(advantages, m) if c.whiten_advantages else advantages, returns


def side_by_side(*jobs, opt, idx, learn=True):
    """[job() for job in jobs], which have nothing to do with one another: on a thread each, where reading the tokens idx
    with a model of `opt`'s size is work enough. A GPU is given them in turn."""
    def work(job):
        with nullcontext() if learn else no_grad():
            return job()

    if opt.device == "cuda" or anomaly_detection() or parallel.choose_workers(opt.n_parameters, idx) == 1:
        return [work(job) for job in jobs]
    with parallel.one_blas_thread():
        return parallel.on_threads(work, [(job,) for job in jobs])


def copy_of(model):
    return {name: a.copy() for name, a in model.state_dict().items()}


def values_of(policy, value, tokens):
    """What the text before each token is worth, Tensor (B, T − 1): a model's word, or a head's on the policy's trunk."""
    idx = tokens[:, :-1]
    return value(policy.hidden(idx)) if isinstance(value, ValueHead) else value.values(idx)


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
    ratio = np.exp(r)
    return {"approx_kl": 0.5 * (r * r).mean(), "clip_fraction": (abs(ratio - 1) > clip).mean(),
            "ratio_min": ratio.min(), "ratio_max": ratio.max()}


def over_updates(stats):
    """One iteration's statistics from those of its updates: the mean, and of extremes the extreme."""
    summary = {"ratio_min": np.min, "ratio_max": np.max}
    return {k: summary.get(k, np.mean)([s[k] for s in stats]) for k in stats[0]}
