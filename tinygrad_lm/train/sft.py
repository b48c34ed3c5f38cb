"""Stage two: learn to do as asked, from examples of prompt and answer, the loss on the answer alone (instruction
fine-tuning; Ouyang et al. 2022 [INSTRUCT], Taori et al. 2023 [ALPACA])."""
from dataclasses import dataclass

from ..optim import AdamW, warmup_cosine
from .captured import captured_step
from .pretrain import evaluate


@dataclass(frozen=True)
class SFTConfig:
    steps: int = 600
    batch_size: int = 64
    lr: float = 2e-3
    warmup: int = 20
    weight_decay: float = 0.1
    max_norm: float = 1.0
    eval_every: int = 100


def sft(model, data, held_out, config, *, rng, run):
    """Fine-tune `model` on Rows, or Packed ones, whose targets are the answers' tokens; returns the loss on `held_out`, in
    nats a token."""
    opt = AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay)
    learn = captured_step(model, opt, max_norm=config.max_norm)                          # on the CPU: train_step
    for step in run.steps(config.steps, model=model, opt=opt, rng=rng):
        opt.lr = warmup_cosine(step, lr=config.lr, warmup=config.warmup, total=config.steps)
        loss = learn(*data.sample(rng, config.batch_size))
        if (step + 1) % config.eval_every == 0 or step + 1 == config.steps:
            run.log(step + 1, loss=loss, held_out=evaluate(model, held_out), lr=opt.lr)
        elif (step + 1) % 10 == 0:
            run.log(step + 1, loss=loss, lr=opt.lr)
    return run.history[-1]["held_out"] if run.history else evaluate(model, held_out)     # the last step measured it
