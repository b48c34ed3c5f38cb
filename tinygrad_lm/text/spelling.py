"""A spelling corrector: the noisy channel (Kernighan et al. 1990 [SPELL]). What was meant, given what was typed?

    p(meant | typed) ∝ p(meant) · p(typed | meant)

The first factor is a language model, which knows nothing of mistakes; the second, the channel, knows only how fingers slip.
"""
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import log

from ..models.ngram import NGram
from .jamo import to_letters, to_syllables
from .letters import LetterTokenizer
from .noise import KEYS, WORD, slips as slips_of

BEFORE, AFTER = 40, 6                   # letters of the text around a word that have a say
STRANGE = 0.1                           # share of slips that are none of the usual ones: any letters in place of any


class Corrector:
    """Replaces words of a text by words of `vocabulary` within `distance` slips, where those are likelier in their place.

    model: a LanguageModel over letters (LetterTokenizer). rate: the share of words that are expected to be mistyped.
    """

    def __init__(self, model, vocabulary, *, rate=0.1, distance=2):
        if not 0 < rate < 1:
            raise ValueError(f"rate is the share of words that are mistyped, between 0 and 1, not {rate}")
        self.model, self.rate, self.distance = model, rate, distance
        self.known = set(model.tokenizer.chars)
        self.index = {}                                        # what is left of a word's letters after deletions -> words
        for letters in dict.fromkeys(to_letters(w.lower()) for w in vocabulary):
            for rest in deletions(letters, distance):
                self.index.setdefault(rest, []).append(letters)

    def correct(self, text):
        """The text as it was probably meant."""
        out, end = "", 0
        for found in WORD.finditer(text):
            out += text[end:found.start()]
            end = found.end()
            out += self.correct_word(found[0], out, text[end:])
        return out + text[end:]

    def correct_word(self, typed, before, after):
        """What was probably meant by `typed` between these texts."""
        letters = to_letters(typed)
        if not set(letters) <= self.known:                     # a foreign letter: no word of ours
            return typed
        left, right = self._readable(before[-BEFORE:]), self._readable(after[:AFTER])[:AFTER]
        candidates = self.candidates(letters)
        logp = self.model.logprob_each([c + right for c in candidates], context=left) + \
            [self.channel(letters, meant, slips) for meant, slips in candidates.items()]
        best = [*candidates][logp.argmax()]
        return typed if best == letters else to_syllables(best)

    def channel(self, typed, meant, slips):
        """log p(typed | meant), letters both."""
        if not slips:
            return log(1 - self.rate)
        usual = slips_of(meant).get(typed, 0) if slips == 1 else 0
        return log(self.rate * ((1 - STRANGE) * usual + STRANGE * (100 * len(meant)) ** -slips))

    def candidates(self, typed):
        """{letters: number of slips between them and `typed`}: typed itself, and the words that are near."""
        found, upper = {}, typed[0].isupper()
        near = {letters for rest in deletions(typed.lower(), self.distance) for letters in self.index.get(rest, ())}
        for letters in sorted(near):
            slips = edit_distance(typed.lower(), letters)
            word = letters.capitalize() if upper else letters
            if slips <= self.distance and set(word) <= self.known:
                found[word] = slips
        return found | {typed: 0}

    def _readable(self, text):
        return "".join(c for c in to_letters(text) if c in self.known)


def learn_corrector(texts, *, order=7, **options):
    """A Corrector that knows the words of these texts and a letter n-gram's opinion of where they stand. See Corrector."""
    tokenizer = LetterTokenizer.from_text("".join(texts) + KEYS + KEYS.upper())
    return Corrector(NGram(texts, tokenizer, order=order), (w for t in texts for w in WORD.findall(t)), **options)


def deletions(letters, most):
    """Every string that is left of the letters when up to `most` of them are deleted. Two words that few slips separate have
    one in common, so that the near ones are found without trying all."""
    n = len(letters)
    return {"".join(letters[i] for i in kept) for k in range(min(most, n) + 1) for kept in combinations(range(n), n - k)}


@lru_cache(maxsize=1 << 16)
def edit_distance(a, b):
    """How many slips lead from a to b: a letter replaced, added or left out, or two swapped (Damerau 1964 [EDIT])."""
    before, row = None, list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if last and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]


@dataclass(frozen=True)
class SpellingScore:
    """Of so many words, how many were wrong before and after, and how many right ones were spoiled."""
    words: int
    wrong_before: int
    wrong_after: int
    spoiled: int


def score(corrector, right_texts, noisy_texts):
    """How the corrector does on texts whose right spelling is known; words are what spaces separate. -> SpellingScore"""
    rows = [row for right, noisy in zip(right_texts, noisy_texts, strict=True)
            for row in zip(right.split(), noisy.split(), corrector.correct(noisy).split(), strict=True)]
    return SpellingScore(len(rows), sum(n != r for r, n, c in rows), sum(c != r for r, n, c in rows),
                         sum(n == r != c for r, n, c in rows))
