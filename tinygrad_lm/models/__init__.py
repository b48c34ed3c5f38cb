"""Language models: networks that give the next token a probability, and heads that give an answer a score."""
from .bert import BERT
from .pretrained import from_pretrained, save_pretrained
from .reward import RewardModel
from .transformer import GPT, GPTConfig

__all__ = ["BERT", "GPT", "GPTConfig", "RewardModel", "from_pretrained", "save_pretrained"]
