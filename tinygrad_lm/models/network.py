"""A network and its tokenizer as a language model: several texts are read as one batch, and those longer than its block by
windows."""
from pathlib import Path

import numpy as np

from .. import functional as F
from ..generate import generate
from ..modes import no_grad
from ..nn import evaluating
from ..tensor import Tensor
from .cache import KVCache
from .gguf_file import read_gguf
from .language_model import LanguageModel, check_temperature
from .named import NAMES, find, load_named
from .pretrained import check_vocabulary, from_pretrained, load_tokenizer
from .saved import SAY_WHAT_COMES_NEXT, load_model
from .tensors import BrokenFile, read_json
from .transformer import GPT

AT_ONCE = 512                           # tokens that are read as one batch: more are no faster, and fill up more places
SCORES = 1 << 22                        # scores that the head gives at once: 16 MB


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
        if not len(tokens):
            return np.zeros(0)
        text = np.concatenate([[self.start], context, tokens]).astype(np.int64)
        starts, T = windows(len(text) - 1, self.network.config.block_size)
        targets = text.copy()
        targets[:len(text) - len(tokens)] = -100                                       # nobody asks for the context's
        logp = np.empty(len(text) - 1)
        at_once = max(1, AT_ONCE // T)
        for several in np.array_split(starts[::-1], -(-len(starts) // at_once)):       # backwards: where windows overlap,
            places = several[:, None] + np.arange(T)                                   # the earlier has the last word (W, T)
            for start, found in zip(several, self._read(text[places], targets[places + 1])):
                logp[start:start + T] = found
        check_finite(logp)
        return logp[len(logp) - len(tokens):]

    def logprob_many(self, asked):
        """See LanguageModel. A GPT reads each context once: contexts of like length as one batch, and as others what follows
        them."""
        asked = [(np.concatenate([[self.start], self.ids(c)]).astype(np.int64), [self.ids(t) for t in texts])
                 for c, texts in asked]
        block, logp = self.network.config.block_size, {}
        short = [n for n, (before, _) in enumerate(asked) if isinstance(self.network, GPT) and len(before) <= block]
        for some in alike(short, [len(asked[n][0]) for n in short]):
            past = self._remember([asked[n][0][:-1] for n in some])
            room = block - (past.length if past else 0)
            rows = [(place, n, i) for place, n in enumerate(some) for i, t in enumerate(asked[n][1]) if 0 < len(t) <= room]
            for several in alike(rows, [len(asked[n][1][i]) for _, n, i in rows]):
                texts = [asked[n][1][i] for _, n, i in several]
                idx = on_the_left([np.append(asked[n][0][-1:], t[:-1]) for (_, n, _), t in zip(several, texts)], 0)      # (B, T)
                cache = past and past.rows([place for place, _, _ in several], idx.shape[1])
                found = self._read(idx, on_the_left(texts, -100), cache).sum(-1)
                logp |= {(n, i): x for (_, n, i), x in zip(several, found) if np.isfinite(x)}      # else: see logprobs
        return [np.array([logp[n, i] if (n, i) in logp else self.logprobs(t, context=before[1:]).sum()
                          for i, t in enumerate(texts)]) for n, (before, texts) in enumerate(asked)]

    def logprob_each(self, texts, *, context=()):
        return self.logprob_many([(context, texts)])[0]

    def _remember(self, contexts):
        """A cache that holds the contexts, filled up on the left where they differ in length; None where they are empty."""
        T = max(map(len, contexts))
        if not T:
            return None
        idx = on_the_left([c[::-1] for c in contexts], 0)[:, ::-1]                     # (B, T)
        mask = np.arange(T) >= T - np.array([[len(c)] for c in contexts])
        cache = KVCache(self.network, len(idx), T)
        with no_grad(), evaluating(self.network):
            self.network.hidden(idx, mask=None if mask.all() else mask, cache=cache)
        return cache

    def _read(self, idx, targets, cache=None):
        """log p of every target after those that the cache holds, (B, T) -> (B, T); 0 where a target is −100.

        Only what is asked for goes through the head, and little at a time: the scores of all places of a text may be larger
        than the model.
        """
        with no_grad(), evaluating(self.network):
            if not isinstance(self.network, GPT):
                return -F.cross_entropy(self._known(self.network(idx)), targets, reduction="none").numpy()
            x, logp = self.network.hidden(idx, cache=cache).data, np.zeros(targets.shape)
            rows, places = np.nonzero(targets != -100)
            step = max(1, SCORES // self.network.config.vocab_size)
            for n in range(0, len(rows), step):
                some = rows[n:n + step], places[n:n + step]
                scores = self._known(self.network.scores(Tensor(x[some])))                   # (n, V)
                logp[some] = -F.cross_entropy(scores, targets[some], reduction="none").numpy()
            return logp

    def _known(self, scores):
        """Those of the tokens that the tokenizer has: (..., V) -> (..., len(tokenizer))"""
        return scores if self._exact else scores[..., :len(self.tokenizer)]

    @property
    def _exact(self):
        return self.network.config.vocab_size == len(self.tokenizer)

    def next_logprobs(self, context):
        block = self.network.config.block_size
        text = np.concatenate([[self.start], context]).astype(np.int64)[-block:]
        with no_grad(), evaluating(self.network):
            logp = F.log_softmax(self._known(self.network(text[None]))[0, -1]).numpy().astype(np.float64)
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


def alike(items, lengths):
    """Lists of items: those of like length together, as many as AT_ONCE allows if all were as long as the longest."""
    several = []
    for i in np.argsort(lengths, kind="stable"):
        if several and (len(several) + 1) * lengths[i] > AT_ONCE:
            yield several
            several = []
        several.append(items[i])
    if several:
        yield several


def on_the_left(rows, rest):
    """Rows of different length as one array, filled up with `rest`: [int (T,)] -> int (B, longest T)"""
    filled = np.full((len(rows), max(map(len, rows))), rest, np.int64)
    for place, row in zip(filled, rows):
        place[:len(row)] = row
    return filled


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


def load_gguf(path):
    """The LLaMA of a GGUF file as a language model; its metadata say which tokens start and end a text."""
    fields = read_gguf(path)[0]
    ends = [fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")]
    if ends[1] is None:
        raise BrokenFile(f"{path} says nothing about tokenizer.ggml.eos_token_id, the token that ends a text")
    start, end = ends[0] if ends[0] is not None else ends[1], ends[1]
    return NetworkModel(*load_named(path), start=start, end=end)


def load_network(path):
    """The GPT or FeedForward of a checkpoint, or the GPT of a folder of Hugging Face's layout, of a GGUF file, or of a package
    that `named.py` knows, as a language model."""
    if str(path) in NAMES or Path(path).suffix == ".gguf":
        path = find(str(path))
        return load_gguf(path) if path.suffix == ".gguf" else load_pretrained(path)
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
