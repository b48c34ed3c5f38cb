"""A network and its tokenizer as a language model, which reads texts longer than its block by windows."""
from pathlib import Path

import numpy as np

from .. import functional as F
from ..generate import generate
from ..modes import no_grad
from ..nn import evaluating
from .language_model import LanguageModel, check_temperature
from .pretrained import from_pretrained, load_tokenizer
from .saved import load_model
from .tensors import BrokenFile, read_json
from .transformer import GPT

AT_ONCE = 32                            # windows that are read as one batch


class NetworkModel(LanguageModel):
    """`network(idx)` gives scores of every next token, int (B, T) -> (B, T, V), for T up to `network.config.block_size`.

    `start` stands before every text and `end` ends a sentence: both the tokenizer's end token, unless the network was
    trained on something else (lines of one long text: the newline).
    """

    def __init__(self, network, tokenizer, *, start=None, end=None):
        if network.config.vocab_size != len(tokenizer):
            raise ValueError(f"the network has a vocabulary of {network.config.vocab_size}, the tokenizer of "
                             f"{len(tokenizer)}: they do not belong together")
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
        return logp[len(logp) - len(tokens):]

    def _read(self, idx, targets):
        """log p of every target, (B, T) -> (B, T)."""
        with no_grad(), evaluating(self.network):
            return -F.cross_entropy(self.network(idx), targets, reduction="none").numpy()

    def next_logprobs(self, context):
        block = self.network.config.block_size
        text = np.concatenate([[self.start], context]).astype(np.int64)[-block:]
        with no_grad(), evaluating(self.network):
            return F.log_softmax(self.network(text[None])[0, -1]).numpy().astype(np.float64)

    def sample(self, n, *, rng, prompt="", temperature=1.0):
        """See LanguageModel; a GPT keeps what it has read in a cache."""
        if not isinstance(self.network, GPT):
            return super().sample(n, rng=rng, prompt=prompt, temperature=temperature)
        check_temperature(temperature)
        text = np.concatenate([[self.start], self.ids(prompt)]).astype(np.int64)
        written = generate(self.network, text[None], n, rng=rng, temperature=temperature, end=self.end).tokens[0, 1:]
        stop = np.flatnonzero(written[len(text) - 1:] == self.end)
        return self.tokenizer.decode(written[:len(text) - 1 + stop[0]] if len(stop) else written)


def windows(N, block):
    """(starts, T): windows of T places that cover N, each half a block further, the last one up to the end."""
    T = min(N, block)
    return np.append(np.arange(0, N - T, max(1, block // 2)), N - T), T


def load_pretrained(folder):
    """The GPT of a folder of Hugging Face's layout as a language model; config.json says which tokens start and end a text."""
    settings = read_json(folder / "config.json")
    end = settings.get("eos_token_id")
    end = end[0] if isinstance(end, list) else end
    if end is None:
        raise BrokenFile(f"{folder / 'config.json'} says nothing about 'eos_token_id', the token that ends a text")
    start = settings.get("bos_token_id")
    model = from_pretrained(folder)
    return NetworkModel(model, load_tokenizer(folder, model), start=end if start is None else start, end=end)


def load_network(path):
    """The GPT of a checkpoint, or of a folder of Hugging Face's layout, as a language model. Of names, ^ starts one and the
    end token ends it; of a text of many lines, a sentence stands between two newlines."""
    if (Path(path) / "config.json").exists():
        return load_pretrained(Path(path))
    network, tokenizer, _ = load_model(path)
    chars = getattr(tokenizer, "chars", "\n")                         # other kinds of tokenizers spell everything
    if "^" in chars:
        return NetworkModel(network, tokenizer, start=tokenizer.encode("^")[0])
    if "\n" in chars:
        newline = tokenizer.encode("\n")[0]
        return NetworkModel(network, tokenizer, start=newline, end=newline)
    return NetworkModel(network, tokenizer)
