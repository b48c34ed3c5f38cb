"""Tokens that are words and punctuation marks: few tokens a sentence, and a vocabulary that no text exhausts."""
import re
from collections import Counter

import numpy as np

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
SPECIAL = ("<pad>", "<end>", "<unk>")           # ids 0, 1 and 2; words that are not in the vocabulary become <unk>


def words_of(text):
    """The text's words and punctuation marks, in order."""
    return WORD.findall(text)


class WordTokenizer:
    """`words`, each a token, after pad (id 0), end (id 1) and the unknown word (id 2)."""
    pad, end, unknown = 0, 1, 2

    def __init__(self, words):
        self.words = [*SPECIAL, *dict.fromkeys(words)]
        self._ids = {w: i for i, w in enumerate(self.words) if i >= len(SPECIAL)}

    @classmethod
    def from_text(cls, text, *, least=1):
        """A token for every word that occurs at least `least` times, the most frequent first."""
        counts = Counter(words_of(text))
        if not counts:
            raise ValueError("the text has no words: there is nothing to learn a vocabulary from")
        return cls(w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= least)

    def __len__(self):
        return len(self.words)

    def encode(self, text):
        """The ids of the text's words, int64 (T,)."""
        return np.array([self._ids.get(w, self.unknown) for w in words_of(text)], np.int64)

    def decode(self, ids):
        """The words of the ids with spaces between them; pad and end are left out. What stood between the words is lost."""
        return " ".join(self.words[i] for i in np.asarray(ids).tolist() if i >= self.unknown)

    def to_dict(self):
        return {"kind": "words", "words": self.words[len(SPECIAL):]}

    @classmethod
    def from_dict(cls, saved):
        return cls(saved["words"])
