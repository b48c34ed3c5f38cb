"""Writing: draw the next token from what the model expects, append it, and ask again."""
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from .backend import to_host
from .decode import decoder
from .functional import check_ids
from .models.neural import PAD, FeedForward
from .models.transformer import KVCache
from .modes import no_grad
from .nn import evaluating
from .parallel import on_threads, one_blas_thread, processors
from .tensor import Tensor
from .text.streaming import pieces, until_stop

SMALL = 3e7                             # multiplications and additions a step below which one thread reads faster alone
FEW = 256                               # tokens whose matrix products are too small for several BLAS threads


@dataclass(frozen=True)
class Generation:
    """What was written. Columns after a sequence's end hold the padding id and a log-probability of 0."""
    tokens: np.ndarray                  # (B, T + N): the prompt, then the answer
    logprobs: np.ndarray                # (B, N): log p of each drawn token, under the temperature that drew it
    ended: np.ndarray                   # (B,): was the end token reached?


def generate(model, idx, max_new_tokens, *, rng, end=None, pad=0, mask=None, **choice):
    """Continue each prompt by up to `max_new_tokens`; a sequence stops after the token `end`. Returns a Generation.

    idx int (B, T), mask bool (B, T) where prompts of different length are padded on the left. `choice`: temperature, top_k,
    top_p, min_p and repetition_penalty, see `stream`.
    """
    tokens, logprobs = [to_host(idx)], []
    alive = np.ones(len(tokens[0]), bool)
    for step, logp in stream(model, idx, max_new_tokens, rng=rng, mask=mask, **choice):
        tokens.append(np.where(alive, step, pad)[:, None])
        logprobs.append(np.where(alive, logp, 0)[:, None])
        alive &= step != end if end is not None else True
        if not alive.any():
            break
    empty = np.zeros((len(alive), 0), np.float32)
    return Generation(np.concatenate(tokens, axis=1), np.concatenate([empty, *logprobs], axis=1), ~alive)


def stream_text(model, tokenizer, prompt, max_new_tokens, *, rng, end=None, stop=(), **choice):
    """Yield what continues the prompt, text or ids (T,), piece by piece as it is written; joined they are the whole.

    It ends before the token `end` and before the first of the strings `stop` that appears. A character is given out when
    its last byte is written, and what may be the beginning of a stop string when it is known not to be one. `choice` as
    for `stream`.
    """
    idx = (tokenizer.encode(prompt) if isinstance(prompt, str) else prompt)[None]
    tokens = (int(token[0]) for token, _ in stream(model, idx, max_new_tokens, rng=rng, **choice))
    yield from until_stop(pieces(takewhile(lambda token: token != end, tokens), tokenizer), stop)


def stream(model, idx, max_new_tokens, *, rng, temperature=1.0, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0,
           mask=None):
    """Yield (token ids, their log-probabilities), each (B,), one new token of every sequence at a time.

    temperature divides the scores: below 1 bolder, 0 always the likeliest. top_k keeps the k likeliest tokens, top_p
    the fewest likeliest whose probabilities reach p (nucleus sampling, Holtzman et al. 2020 [NUCLEUS]), min_p those at
    least p times as likely as the likeliest (Nguyen et al. 2025 [MINP]). repetition_penalty above 1 makes the tokens of
    prompt and answer so far less likely (Keskar et al. 2019 [CTRL]); below 1, likelier.
    When the block is full, the last half of it is read anew and writing goes on from there. A model on the GPU reads
    there; what it expects comes to the host, where the tokens are drawn.
    """
    text = to_host(idx)
    mask = None if mask is None else to_host(mask)
    if text.ndim != 2 or text.shape[1] == 0:
        raise ValueError(f"a prompt has shape (batch, time) with at least one token each, not {text.shape}")
    check_ids(text, model.config.vocab_size, "token id")
    seen = None if repetition_penalty == 1 else seen_tokens(text, mask, model.config.vocab_size)
    with evaluating(model):
        if isinstance(model, FeedForward):
            scores_after = rereading(model, text, mask)
        else:
            scores_after = remembering(model, text, mask, max_new_tokens)
        token = None
        for step in range(max_new_tokens):
            scores = scores_after(token)                                           # (B, V)
            scores = scores if seen is None else penalise(scores, seen, repetition_penalty)
            logp = next_logprobs(scores, temperature, top_k, top_p, min_p, step=step)              # (B, V)
            token = draw(logp, rng) if temperature else logp.argmax(-1)
            if seen is not None:
                seen[np.arange(len(token)), token] = True
            yield token, logp[np.arange(len(token)), token]


def remembering(model, text, mask, max_new_tokens):
    """scores_after(token): what a GPT expects, (B, V), when the texts (B, T) go on with one token more each, (B,); None at
    the first call. Keys and values of what was read are kept."""
    block = model.config.block_size
    readers = 1 if model.device == "cuda" else choose_readers(model.n_parameters(), len(text))
    parts = np.array_split(np.arange(len(text)), readers)
    read_one = decoder(model)
    caches, written = [], []                                    # written: the tokens since the caches were made

    def scores_after(token):
        nonlocal text, mask, caches, written
        if token is not None:
            written.append(token)
        if caches and caches[0].length < block:
            return in_parts(lambda rows, cache: read_one(token[rows], cache), parts, caches, few=True)
        text, mask = window(text, mask, written, block)                            # (B, T)
        caches, written = [KVCache(model, len(rows), min(block, text.shape[1] + max_new_tokens)) for rows in parts], []
        return in_parts(lambda rows, cache: read(model, text[rows], None if mask is None else mask[rows], cache),
                        parts, caches, few=text.size < FEW)

    return scores_after


def rereading(model, text, mask):
    """The same of a FeedForward, which reads its last few tokens anew each time."""
    text = text if mask is None else np.where(mask, text, PAD)

    def scores_after(token):
        nonlocal text
        text = text if token is None else np.concatenate([text, token[:, None]], axis=1)
        text = text[:, -model.config.context:]
        with no_grad():
            return to_host(model(text).data[:, -1])

    return scores_after


def window(text, mask, written, block):
    """What is read anew of the text and its mask: all, if it fits the block, else as much as half a block."""
    if written:
        text = np.concatenate([text, np.stack(written, axis=1)], axis=1)
        mask = None if mask is None else np.pad(mask, ((0, 0), (0, len(written))), constant_values=True)
    keep = slice(-kept(text.shape[1], block), None)
    return text[:, keep], None if mask is None else mask[:, keep]


def kept(T, block):
    """Of a text of T tokens, how many are read when it is read anew: all, or half a block, so that there is room."""
    return T if T <= block else max(1, block // 2)


def prompt_read(model, T):
    """Of a prompt of T tokens, how many the model reads before it writes."""
    return min(T, model.config.context) if isinstance(model, FeedForward) else kept(T, model.config.block_size)


def read(model, idx, mask, cache):
    """Scores of what comes after the tokens idx, (B, T) -> (B, V); the cache then holds them."""
    return model.scores(Tensor(model.hidden(idx, mask=mask, cache=cache).data[:, -1])).data


def in_parts(read, parts, caches, *, few):
    """read(rows, cache) of each part of the rows, on a thread of its own, together again: sequences do not see one
    another. Of a step with `few` tokens no product, the head's neither, may run on several BLAS threads: the one that it
    wakes goes on waiting for work on a processor that another part needs."""
    def work(rows, cache):
        with no_grad():
            return to_host(read(rows, cache))

    with one_blas_thread() if few or len(parts) > 1 else nullcontext():
        return np.concatenate(on_threads(work, zip(parts, caches)))


def choose_readers(n_parameters, batch):
    """How many threads read. As many as there are processors, but one where a step is too little work; and since each reads
    every weight, whose memory is then what takes time, none for fewer than 4 sequences."""
    return 1 if 2 * n_parameters * batch < SMALL else max(1, min(processors(), batch // 4))


def seen_tokens(text, mask, V):
    """Which tokens of the vocabulary stand in each row, padding left out: int (B, T) -> bool (B, V)."""
    seen = np.zeros((len(text), V), bool)
    rows, places = np.nonzero(np.ones(text.shape, bool) if mask is None else mask)
    seen[rows, text[rows, places]] = True
    return seen


def penalise(scores, seen, penalty):
    """Scores of seen tokens, divided by the penalty where they are positive and multiplied by it where they are negative:
    [CTRL] divides either, which would make what is unlikely likelier. (B, V) -> (B, V)"""
    if not 0 < penalty < np.inf:
        raise ValueError(f"repetition_penalty is above 0, where 1 penalises nothing, not {penalty}")
    return np.where(seen, np.where(scores > 0, scores / penalty, scores * penalty), scores).astype(scores.dtype, copy=False)


def next_logprobs(logits, temperature=1.0, top_k=None, top_p=None, min_p=None, *, step=None):
    """log p of every next token, (B, V); tokens that are ruled out have −∞. At temperature 0 nothing is scaled. `step`, how
    many tokens were written before, is for the error's text."""
    if temperature < 0 or not np.isfinite(temperature):
        raise ValueError(f"temperature is 0 (always the likeliest) or above, not {temperature}")
    wrong = ~np.isfinite(logits)
    if wrong.any():
        b, v = np.argwhere(wrong)[0]
        when = "" if step is None else f" at step {step} (after {step} written tokens)"
        raise FloatingPointError(f"the model's scores are NaN or infinite{when}: {int(wrong.sum())} of {wrong.size}, the "
                                 f"first {logits[b, v]}, of token {v} in row {b}: its weights are damaged, or its sums overflow")
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
    if min_p is not None:
        if not 0 <= min_p <= 1:
            raise ValueError(f"min_p is a share of the likeliest token's probability, from 0 to 1, not {min_p}")
        with np.errstate(divide="ignore"):                                         # min_p 0 keeps all
            low = logp < logp.max(-1, keepdims=True) + np.log(logp.dtype.type(min_p))
        logp = log_normalise(np.where(low, -np.inf, logp))
    return logp


def log_normalise(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def draw(logp, rng):
    """One index a row with probability exp(logp): the largest of log p + Gumbel noise (Gumbel 1954 [GUMBEL])."""
    return (logp + rng.gumbel(size=logp.shape)).argmax(-1)
