"""A language model is a probability of a sentence. Whatever computes it, by counting or by a network, answers to this.

By the chain rule p(w₁ … w_T) = Π p(w_t | w₁ … w_{t−1}), so that a model need know only one thing: what comes next.
"""
from math import log

import numpy as np

from ..functional import check_ids


class LanguageModel:
    """What every model here answers to. A kind of model has a `tokenizer`; `start`, the token that stands before the first;
    `end`, the token that ends a sentence; and the two methods that raise here."""

    def next_logprobs(self, context):
        """log p(w | context) of every token w of the vocabulary: int (T,) -> float (V,). What comes before the context is
        the start of a text."""
        raise NotImplementedError(f"{type(self).__name__} does not say what comes next")

    def logprobs(self, tokens, *, context=()):
        """log p of each token, given the context and the tokens before it: int (T,) -> float (T,)."""
        raise NotImplementedError(f"{type(self).__name__} gives tokens no probability")

    def logprob(self, tokens, *, context=()):
        """log p(tokens | context), in nats. Both may be text, or ids. A sum of logarithms: the product would be 0 on any
        computer after a few hundred words."""
        return float(self.logprobs(self.ids(tokens), context=self.ids(context)).sum())

    def logprob_each(self, texts, *, context=()):
        """log p(text | context) of several texts, float (N,)."""
        return np.array([self.logprob(t, context=context) for t in texts])

    def logprob_many(self, asked):
        """The same for several contexts: [(context, texts)] -> [float (N,)]. A network reads many at once."""
        return [self.logprob_each(texts, context=context) for context, texts in asked]

    def sentence_logprob(self, sentence):
        """log p(sentence): of its tokens, and of ending there. With the end in, the probabilities of all sentences sum to 1;
        without it, to 1 for each length."""
        return self.logprob([*self.ids(sentence), self.end])

    def perplexity(self, text):
        """exp(−mean log p): among how many equally likely tokens the model chooses, on average. `text` is one text, or a
        list of texts, each read from its start."""
        return float(np.exp(-np.divide(*self._measure(text))))

    def bits_per_byte(self, text):
        """−log₂ p of the text a byte of UTF-8: what remains of it if it is compressed with this model. Perplexities compare
        only models with the same tokens; this compares all that can spell every text."""
        texts = [text] if isinstance(text, str) else text
        for t in texts:
            again = self.tokenizer.decode(self.tokenizer.encode(t))
            if again != t:
                raise ValueError(f"bits a byte are measured with tokens that give the text back, and {t[:40]!r}… comes back "
                                 f"as {again[:40]!r}…: use characters or bytes")
        return -self._measure(texts)[0] / log(2) / sum(len(t.encode()) for t in texts)

    def _measure(self, text):
        """(log p, number of tokens) of one text or several."""
        parts = [self.ids(t) for t in ([text] if isinstance(text, str) else text)]
        count = sum(map(len, parts))
        if not count:
            raise ValueError("the text is empty: there is no mean over no tokens")
        return float(self.logprob_each(parts).sum()), count

    def sample(self, n, *, rng, prompt="", temperature=1.0):
        """The prompt, continued by up to n tokens that are drawn one after another; it stops before the end token.

        temperature below 1 makes the likely likelier, 0 takes always the likeliest.
        """
        check_temperature(temperature)
        tokens = list(self.ids(prompt))
        for _ in range(n):
            token = draw_token(self.next_logprobs(np.array(tokens, np.int64)), temperature, rng)
            if token == self.end:
                break
            tokens.append(token)
        return self.tokenizer.decode(tokens)

    def ids(self, text):
        """Text as token ids, int (T,); ids are checked and returned."""
        if isinstance(text, str):
            return self.tokenizer.encode(text)
        ids = np.asarray(text)
        if ids.ndim != 1:
            raise ValueError(f"one sequence of tokens is needed, of shape (T,), not {ids.shape}")
        ids = ids if ids.size else ids.astype(np.int64)
        check_ids(ids, len(self.tokenizer), "token id")
        return ids


def check_temperature(temperature):
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature is 0 (always the likeliest) or above, not {temperature}")


def draw_token(logp, temperature, rng):
    """One index, with probability proportional to exp(logp / temperature)."""
    if temperature == 0:
        return int(logp.argmax())
    p = np.exp((logp - logp.max()) / temperature)
    return int(rng.choice(len(p), p=p / p.sum()))


def rank(model, sentences):
    """[(log p, sentence)], the likeliest first: which of several translations would a speaker of the language say?"""
    scored = [(model.sentence_logprob(s), s) for s in sentences]
    return sorted(scored, key=lambda pair: -pair[0])
