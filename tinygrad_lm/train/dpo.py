"""A rival of PPO that needs no reward model: direct preference optimization (Rafailov et al. 2023 [DPO])."""
from dataclasses import dataclass

import numpy as np

from .. import functional as F
from ..backend import beside
from ..optim import AdamW, warmup_cosine
from ..modes import no_grad
from .logprobs import answer_logprobs
from .step import descend


@dataclass(frozen=True)
class DPOConfig:
    epochs: int = 3
    batch_size: int = 64                # pairs
    lr: float = 1e-4
    warmup: int = 20
    beta: float = 0.1
    max_norm: float = 1.0


def dpo_loss(better, worse, ref_better, ref_worse, beta):
    """mean of −log σ(β [(log π⁺ − log π_ref⁺) − (log π⁻ − log π_ref⁻)]) ([DPO] eq. 7); log 2 where π = π_ref."""
    return -F.logsigmoid(beta * ((better - ref_better) - (worse - ref_worse))).mean()


def dpo(policy, reference, better, worse, config, *, rng, run):
    """Train `policy` on pairs: better and worse are each (tokens int (N, T), mask bool (N, T)) of the answers."""
    N = len(better[0])
    for model in (policy, reference):
        model.eval()                                                     # no dropout: the ratio is of two models only
    opt = AdamW(policy.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0.0)
    with no_grad():
        ref_better, ref_worse = (np.concatenate([answer_logprobs(reference, t[i:i + 512], m[i:i + 512]).numpy()
                                                 for i in range(0, N, 512)]) for t, m in (better, worse))
    per_epoch = -(-N // config.batch_size)
    total = config.epochs * per_epoch
    orders = [rng.permutation(N) for _ in range(config.epochs)]          # drawn here: the same again after a resume
    for step in run.steps(total, model=policy, opt=opt, rng=rng):
        epoch, i = divmod(step, per_epoch)
        opt.lr = warmup_cosine(step, lr=config.lr, warmup=config.warmup, total=total)
        rows = orders[epoch][i * config.batch_size:(i + 1) * config.batch_size]
        both = answer_logprobs(policy, np.concatenate([better[0][rows], worse[0][rows]]),
                               np.concatenate([better[1][rows], worse[1][rows]]))
        opt.zero_grad()
        references = (beside(ref[rows], both.data) for ref in (ref_better, ref_worse))
        loss = dpo_loss(both[:len(rows)], both[len(rows):], *references, config.beta)
        descend(loss, opt, config.max_norm)
        if (step + 1) % 10 == 0 or step + 1 == total:
            run.log(step + 1, loss=loss.item(), lr=opt.lr, grad_norm=opt.grad_norm)
