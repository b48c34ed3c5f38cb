"""Stage two: learn to do as asked, from examples of prompt and answer, the loss on the answer alone (instruction
fine-tuning; Ouyang et al. 2022 [INSTRUCT], Taori et al. 2023 [ALPACA])."""
from dataclasses import dataclass

from .pretrain import PretrainConfig, pretrain


@dataclass(frozen=True)
class SFTConfig(PretrainConfig):
    steps: int = 600
    lr: float = 2e-3
    warmup: int = 20


def sft(model, data, held_out, config, *, rng, run):
    """Fine-tune `model` on Rows, or Packed ones, whose targets are the answers' tokens: that is the whole difference to
    pretraining. Returns the loss on `held_out`, in nats a token."""
    return pretrain(model, data, held_out, config, rng=rng, run=run)
