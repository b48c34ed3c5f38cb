"""Writing: draw the next token from what the model expects, append it, and ask again."""
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from .models.transformer import KVCache
from .modes import no_grad
from .nn import evaluating
from .parallel import choose_readers, on_threads, one_blas_thread

FEW = 256                               # new tokens whose matrix products are too small for several BLAS threads


@dataclass(frozen=True)
class Generation:
    """What was written. Columns after a sequence's end hold the padding id and a log-probability of 0."""
    tokens: np.ndarray                  # (B, T + N): the prompt, then the answer
    logprobs: np.ndarray                # (B, N): log p of each drawn token, under the temperature that drew it
    ended: np.ndarray                   # (B,): was the end token reached?


def generate(model, idx, max_new_tokens, *, rng, temperature=1.0, top_k=None, top_p=None, end=None, pad=0, mask=None):
    """Continue each prompt by up to `max_new_tokens`; a sequence stops after the token `end`. Returns a Generation.

    idx int (B, T), mask bool (B, T) where prompts of different length are padded on the left. See `stream`.
    """
    tokens, logprobs = [np.asarray(idx)], []
    alive = np.ones(len(tokens[0]), bool)
    for step, logp in stream(model, idx, max_new_tokens, rng=rng, temperature=temperature, top_k=top_k, top_p=top_p,
                             mask=mask):
        tokens.append(np.where(alive, step, pad)[:, None])
        logprobs.append(np.where(alive, logp, 0)[:, None])
        alive &= step != end if end is not None else True
        if not alive.any():
            break
    empty = np.zeros((len(alive), 0), np.float32)
    return Generation(np.concatenate(tokens, axis=1), np.concatenate([empty, *logprobs], axis=1), ~alive)


def stream(model, idx, max_new_tokens, *, rng, temperature=1.0, top_k=None, top_p=None, mask=None):
    """Yield (token ids, their log-probabilities), each (B,), one new token of every sequence at a time.

    temperature divides the scores: below 1 bolder, 0 always the likeliest. top_k keeps the k likeliest tokens, top_p
    the fewest likeliest whose probabilities reach p (nucleus sampling, Holtzman et al. 2020 [NUCLEUS]).
    When the block is full, the last half of it is read anew and writing goes on from there.
    """
    seen, block = np.asarray(idx), model.config.block_size
    if seen.ndim != 2 or seen.shape[1] == 0:
        raise ValueError(f"a prompt has shape (batch, time) with at least one token each, not {seen.shape}")
    caches, new = [], seen
    parts = np.array_split(np.arange(len(seen)), choose_readers(model.n_parameters(), seen[:, :1]))
    with evaluating(model):
        for _ in range(max_new_tokens):
            real = None                                                            # which of the new tokens are
            if not caches or caches[0].length + new.shape[1] > block:
                new = seen if seen.shape[1] <= block else seen[:, -max(1, block // 2):]
                real = None if mask is None else mask[:, -new.shape[1]:]
                room = min(block, new.shape[1] + max_new_tokens)
                caches = [KVCache(model, len(rows), room) for rows in parts]
            h = read(model, new, real, parts, caches)                              # (B, C)
            logits = h @ model.wte.weight.data.T                                   # (B, V)
            logp = next_logprobs(logits, temperature, top_k, top_p)
            token = draw(logp, rng) if temperature else logp.argmax(-1)
            yield token, logp[np.arange(len(token)), token]
            new = token[:, None]
            seen = np.concatenate([seen, new], axis=1)
            mask = None if mask is None else np.concatenate([mask, np.ones_like(new, bool)], axis=1)


def read(model, idx, mask, parts, caches):
    """What the head reads after the last of the new tokens idx (B, T) -> (B, C). Sequences do not see one another: each
    part of the rows has a cache and a thread of its own."""
    def work(rows, cache):
        with no_grad():
            return model.hidden(idx[rows], mask=None if mask is None else mask[rows], cache=cache).data[:, -1]

    with one_blas_thread() if len(parts) > 1 or idx.size < FEW else nullcontext():
        return np.concatenate(on_threads(work, zip(parts, caches)))


def next_logprobs(logits, temperature=1.0, top_k=None, top_p=None):
    """log p of every next token, (B, V); tokens that are ruled out have −∞. At temperature 0 nothing is scaled."""
    if temperature < 0 or not np.isfinite(temperature):
        raise ValueError(f"temperature is 0 (always the likeliest) or above, not {temperature}")
    if not np.isfinite(logits).all():
        raise FloatingPointError("the model's scores are NaN or infinite: its weights are damaged")
    if temperature:                                                 # shifted, so that dividing by 10⁻³⁰ is no overflow
        logits = (logits - logits.max(-1, keepdims=True)) / max(temperature, 1e-30)
    logp = log_normalise(logits)
    if top_k is not None and top_k < logp.shape[-1]:
        if top_k < 1:
            raise ValueError(f"top_k keeps at least 1 token, not {top_k}")
        kth = np.partition(logp, -top_k, axis=-1)[:, -top_k, None]
        logp = log_normalise(np.where(logp >= kth, logp, -np.inf))
    if top_p is not None and top_p < 1:
        if top_p <= 0:
            raise ValueError(f"top_p is a probability above 0, not {top_p}")
        order = np.argsort(-logp, axis=-1, kind="stable")
        p = np.exp(np.take_along_axis(logp, order, -1))
        outside = p.cumsum(-1) - p >= top_p                                        # the mass before it is enough
        ruled_out = np.zeros_like(outside)
        np.put_along_axis(ruled_out, order, outside, -1)
        logp = log_normalise(np.where(ruled_out, -np.inf, logp))
    return logp


def log_normalise(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def draw(logp, rng):
    """One index a row with probability exp(logp): the largest of log p + Gumbel noise (Gumbel 1954 [GUMBEL])."""
    return (logp + rng.gumbel(size=logp.shape)).argmax(-1)
