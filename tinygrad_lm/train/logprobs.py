"""How probable a model thinks each token of an answer: what the preference stages compare."""
import numpy as np

from .. import functional as F


def token_logprobs(model, tokens, mask, *, temperature=1.0):
    """log p of each token given those before it, 0 outside the mask: tokens, mask (B, T) -> Tensor (B, T − 1).

    Column t is about token t + 1. `temperature` must be the one that the tokens were drawn with.
    """
    return logprobs_of(model(tokens[:, :-1]), tokens, mask, temperature=temperature)


def logprobs_of(logits, tokens, mask, *, temperature=1.0):
    """The same from the scores of what comes after tokens[:, :-1]: Tensor (B, T − 1, V) -> Tensor (B, T − 1)"""
    targets = np.where(mask[:, 1:], tokens[:, 1:], -100)
    return -F.cross_entropy(logits * (1 / temperature) if temperature != 1 else logits, targets, reduction="none")


def answer_logprobs(model, tokens, mask):
    """log p of each whole answer: the sum over its tokens. -> Tensor (B,)"""
    return token_logprobs(model, tokens, mask).sum(axis=-1)
