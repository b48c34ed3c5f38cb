"""Language models: tables of counts and networks that give the next token a probability, and heads that give an answer a
score."""
from .bert import BERT
from .gguf import from_gguf
from .neural import FeedForward, FeedForwardConfig
from .ngram import NGram
from .pretrained import from_pretrained, save_pretrained
from .reward import RewardModel, ValueHead
from .transformer import GPT, GPTConfig

__all__ = ["BERT", "FeedForward", "FeedForwardConfig", "GPT", "GPTConfig", "NGram", "RewardModel", "ValueHead",
           "from_gguf", "from_pretrained", "save_pretrained"]
