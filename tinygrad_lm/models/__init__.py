"""Language models: networks that give the next token a probability, and heads that give an answer a score."""
from .reward import RewardModel
from .transformer import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig", "RewardModel"]
