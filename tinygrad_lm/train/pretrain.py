"""Stage one: learn what text looks like, by predicting every next token (GPT, Radford et al. 2018 [GPT1])."""
from dataclasses import dataclass
from itertools import islice
from math import log

from .. import mpi
from ..nn import evaluating
from ..optim import AdamW, warmup_cosine
from ..modes import no_grad
from .captured import captured_step


@dataclass(frozen=True)
class PretrainConfig:
    steps: int = 1000
    batch_size: int = 64
    lr: float = 3e-3
    warmup: int = 40
    weight_decay: float = 0.1
    max_norm: float = 1.0
    eval_every: int = 100


def pretrain(model, data, held_out, config, *, rng, run):
    """Train `model` on random batches of `data` (Rows or Windows); returns the loss on `held_out`, in nats a token."""
    opt = AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay)
    learn = captured_step(model, opt, max_norm=config.max_norm)                          # on the CPU: train_step
    for step in run.steps(config.steps, model=model, opt=opt, rng=rng):
        opt.lr = warmup_cosine(step, lr=config.lr, warmup=config.warmup, total=config.steps)
        batch = data.sample(rng, config.batch_size)
        numbers = {"loss": learn(*batch), "lr": opt.lr, "grad_norm": opt.grad_norm, "tokens": batch[0].size}
        if (step + 1) % config.eval_every == 0 or step + 1 == config.steps:
            run.log(step + 1, **numbers, held_out=evaluate(model, held_out))
        elif (step + 1) % 10 == 0:
            run.log(step + 1, **numbers)
    return run.history[-1]["held_out"] if run.history else evaluate(model, held_out)     # the last step measured it


def evaluate(model, data, *, batch_size=256):
    """The mean of −log p over all targets of `data` that count, in nats; dropout off. Ranks share the work
    (mpi.py): all of them call this."""
    total = count = 0
    rank, ranks = mpi.place()
    with no_grad(), evaluating(model):
        for batch in islice(data.chunks(batch_size), rank, None, ranks):
            n = int((batch[1] != -100).sum())
            if n:
                total += model.loss(*batch).item() * n
                count += n
    total, count = mpi.totals(total, count)
    if not count:
        raise ValueError("the held-out data is empty: there is nothing to measure the loss on")
    return total / count


def bits(nats):
    """Nats in bits: how many yes-or-no questions a token costs."""
    return nats / log(2)
