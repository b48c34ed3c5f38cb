"""A network and its tokenizer as a language model, which reads texts longer than its block by windows."""
from pathlib import Path

import numpy as np

from .. import functional as F
from ..generate import generate
from ..modes import no_grad
from ..nn import evaluating
from .language_model import LanguageModel, check_temperature
from .pretrained import check_vocabulary, from_pretrained, load_tokenizer
from .saved import SAY_WHAT_COMES_NEXT, load_model
from .tensors import BrokenFile, read_json
from .transformer import GPT

AT_ONCE = 32                            # windows that are read as one batch


class NetworkModel(LanguageModel):
    """`network(idx)` gives scores of every next token, int (B, T) -> (B, T, V), for T up to `network.config.block_size`. V
    may be larger than the vocabulary: what the tokenizer does not know has no probability here.

    `start` stands before every text and `end` ends a sentence: both the tokenizer's end token, unless the network was
    trained on something else (lines of one long text: the newline).
    """

    def __init__(self, network, tokenizer, *, start=None, end=None):
        check_vocabulary(tokenizer, network.config)
        self.network, self.tokenizer = network, tokenizer
        self.end = tokenizer.end if end is None else end
        self.start = self.end if start is None else start

    def logprobs(self, tokens, *, context=()):
        """See LanguageModel. In a text longer than the block, a token beyond the first block is given at least half a block
        of the tokens before it."""
        text = np.concatenate([[self.start], context, tokens]).astype(np.int64)
        starts, T = windows(len(text) - 1, self.network.config.block_size)
        logp = np.empty(len(text) - 1)
        for several in np.array_split(starts[::-1], -(-len(starts) // AT_ONCE)):       # backwards: where windows overlap,
            places = several[:, None] + np.arange(T)                                   # the earlier has the last word (W, T)
            for start, found in zip(several, self._read(text[places], text[places + 1])):
                logp[start:start + T] = found
        check_finite(logp)
        return logp[len(logp) - len(tokens):]

    def _read(self, idx, targets):
        """log p of every target, (B, T) -> (B, T)."""
        with no_grad(), evaluating(self.network):
            return -F.cross_entropy(self._scores(idx), targets, reduction="none").numpy()

    def _scores(self, idx):
        """Of the tokens that the tokenizer has: (B, T) -> (B, T, V)"""
        scores = self.network(idx)
        return scores if self._exact else scores[..., :len(self.tokenizer)]

    @property
    def _exact(self):
        return self.network.config.vocab_size == len(self.tokenizer)

    def next_logprobs(self, context):
        block = self.network.config.block_size
        text = np.concatenate([[self.start], context]).astype(np.int64)[-block:]
        with no_grad(), evaluating(self.network):
            logp = F.log_softmax(self._scores(text[None])[0, -1]).numpy().astype(np.float64)
        check_finite(logp, after=len(context))
        return logp

    def sample(self, n, *, rng, prompt="", temperature=1.0):
        """See LanguageModel; a GPT keeps what it has read in a cache."""
        if not isinstance(self.network, GPT) or not self._exact:
            return super().sample(n, rng=rng, prompt=prompt, temperature=temperature)
        check_temperature(temperature)
        text = np.concatenate([[self.start], self.ids(prompt)]).astype(np.int64)
        written = generate(self.network, text[None], n, rng=rng, temperature=temperature, end=self.end).tokens[0, 1:]
        stop = np.flatnonzero(written[len(text) - 1:] == self.end)
        return self.tokenizer.decode(written[:len(text) - 1 + stop[0]] if len(stop) else written)


def check_finite(logp, after=None):
    """Refuse log-probabilities that are NaN or infinite: of a text's tokens, or of all that may come `after` so many."""
    wrong = ~np.isfinite(logp)
    if wrong.any():
        after = int(wrong.argmax()) if after is None else after
        raise FloatingPointError(f"the model's scores are NaN or infinite after {after} tokens: its weights are damaged, or "
                                 "its sums overflow")


def windows(N, block):
    """(starts, T): windows of T places that cover N, each half a block further, the last one up to the end."""
    T = min(N, block)
    return np.append(np.arange(0, N - T, max(1, block // 2)), N - T), T


def load_pretrained(folder):
    """The GPT of a folder of Hugging Face's layout as a language model; config.json says what starts and ends a text."""
    settings = read_json(folder / "config.json")
    end = settings.get("eos_token_id")
    end = end[0] if isinstance(end, list) else end
    if end is None:
        raise BrokenFile(f"{folder / 'config.json'} says nothing about 'eos_token_id', the token that ends a text")
    start = settings.get("bos_token_id")
    model = from_pretrained(folder)
    return NetworkModel(model, load_tokenizer(folder, model), start=end if start is None else start, end=end)


def load_network(path):
    """The GPT or FeedForward of a checkpoint, or the GPT of a folder of Hugging Face's layout, as a language model."""
    if (Path(path) / "config.json").exists():
        return load_pretrained(Path(path))
    network, tokenizer, _ = load_model(path, *SAY_WHAT_COMES_NEXT)
    start, end = sentence_bounds(tokenizer)
    return NetworkModel(network, tokenizer, start=start, end=end)


def sentence_bounds(tokenizer):
    """(start, end), the ids between which a sentence stands in what the tokenizer's model has read. Of names, ^ starts one
    and the end token ends it; of a text of many lines, a sentence stands between two newlines."""
    chars = getattr(tokenizer, "chars", "\n")                         # other kinds of tokenizers spell everything
    if "^" in chars:
        return tokenizer.encode("^")[0], tokenizer.end
    if "\n" in chars and len(newline := tokenizer.encode("\n")):
        return newline[0], newline[0]
    if not hasattr(tokenizer, "end"):
        raise ValueError("this model's tokenizer has no token for the end of a line, nor one for the end of a text")
    return tokenizer.end, tokenizer.end
