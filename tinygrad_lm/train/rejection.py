"""A rival of PPO that needs no gradient of a reward: write n answers, keep the best, and fine-tune on it, in rounds
(rejection-sampling fine-tuning; Touvron et al. 2023 [LLAMA2] sec. 3.2.3)."""
from dataclasses import dataclass

import numpy as np

from ..optim import AdamW
from ..text.batches import answer_mask, last_token, next_tokens
from .best_of_n import best_of_n
from .step import train_step


@dataclass(frozen=True)
class RejectionConfig:
    rounds: int = 4
    prompts: int = 1024                 # a round
    n: int = 16                         # answers to each prompt, of which the best is learned
    epochs: int = 2
    batch_size: int = 64
    lr: float = 1e-3                    # falls to 0 in a straight line over the rounds
    max_norm: float = 1.0


def rejection_sampling(policy, score, prompts, config, *, rng, run, end, pad=0, max_new_tokens=12):
    """Fine-tune `policy` in place on the best of its own answers, by `score(tokens, last)`; prompts int (N, P) are drawn
    from at random. Each round's answers are written by what the last round has made of the policy; one that does not end is
    not learned, and a round without any that ends raises ValueError."""
    c, P = config, prompts.shape[1]
    opt = AdamW(policy.parameters(), lr=c.lr, betas=(0.9, 0.95), weight_decay=0.0)
    for it in run.steps(c.rounds, model=policy, opt=opt, rng=rng):
        opt.lr = c.lr * (1 - it / c.rounds)
        asked = prompts[rng.integers(len(prompts), size=c.prompts)]
        tokens = best_of_n(policy, score, asked, c.n, rng=rng, max_new_tokens=max_new_tokens, end=end, pad=pad)
        mask = answer_mask(tokens, P, end)                                          # (B, P + N)
        if end is not None:
            ended = (tokens[:, P:] == end).any(-1)
            if not ended.any():
                raise ValueError(f"none of {c.prompts * c.n} answers of {max_new_tokens} tokens has ended: there is nothing "
                                 "to learn from")
            tokens, mask = tokens[ended], mask[ended]
        idx, targets = next_tokens(tokens, mask)
        parts = [rows for _ in range(c.epochs)
                 for rows in np.array_split(rng.permutation(len(idx)), -(-len(idx) // c.batch_size))]
        losses = [train_step(policy, opt, idx[rows], targets[rows], max_norm=c.max_norm) for rows in parts]
        run.log(it + 1, loss=np.mean(losses), reward=score(tokens, last_token(mask)).mean(), lr=opt.lr,
                grad_norm=opt.grad_norm)
