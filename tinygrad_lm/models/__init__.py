"""Language models: tables of counts and networks that give the next token a probability, and heads that give an answer a
score."""
from .neural import FeedForward, FeedForwardConfig
from .ngram import NGram
from .reward import RewardModel
from .transformer import GPT, GPTConfig

__all__ = ["FeedForward", "FeedForwardConfig", "GPT", "GPTConfig", "NGram", "RewardModel"]
