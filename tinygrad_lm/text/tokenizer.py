"""Text to ids and back: normalise, cut out the special tokens, cut the rest into words, look each word up in the model."""
import re

import numpy as np

from .char import checked
from .special import id_of
from .unicode import one_of


class Tokenizer:
    """What a tokenizer.json describes; `tokenizer_json.build` makes it from one.

    `normalize` is a function str -> str, `cut` str -> list of words, `model` a BPE or WordPiece, `join` list of the model's
    tokens and added texts -> str, `frame` the ids that go before and after a sequence (what BERT calls CLS and SEP).
    """

    def __init__(self, spec, model, *, normalize, cut, join, added=(), frame=((), ())):
        self.spec, self.model, self.normalize, self.cut, self.join = spec, model, normalize, cut, join
        self.added, self._frame = {t.id: t for t in added}, frame
        self.vocab_size = 1 + max([*model.tokens, *self.added])
        self._raw = _finder(t for t in added if not t.normalized)
        self._normal = _finder((t for t in added if t.normalized), normalize)

    def __len__(self):
        return self.vocab_size

    def id_of(self, token):
        """The id of an added token, such as "<|endoftext|>"."""
        return id_of(token, self.added)

    def encode(self, text, *, special=False):
        """The ids of a text, int64 (T,). A special token written out is text like any other, unless `special`."""
        ids = []
        for part, token in _cut_out(_whole(text), self._raw, special):
            if token is not None:
                ids.append(token.id)
                continue
            for piece, token in _cut_out(self.normalize(part), self._normal, special):
                if token is not None:
                    ids.append(token.id)
                else:
                    for word in self.cut(piece):
                        ids += self.model.word_ids(word)
        return np.array(ids, np.int64)

    def frame(self, ids):
        """The ids with what their model expects around them, or nothing. int64 (T′,)"""
        before, after = self._frame
        return np.array([*before, *ids, *after], np.int64)

    def token(self, i):
        """One token: bytes of a byte-level model, else text; an added token is text."""
        return self.added[i].text if i in self.added else self.model.tokens[i]

    def decode(self, ids, *, special=False):
        """The text of ids; special tokens are left out, unless `special`. Bytes that are no UTF-8 become U+FFFD."""
        ids = checked(ids, self.vocab_size)
        for at, i in enumerate(ids):
            if i not in self.added and i not in self.model.tokens:
                raise ValueError(f"token id {i} at position {at} stands for nothing: the vocabulary of {self.vocab_size} "
                                 "has a gap there")
        return self.join([self.token(i) for i in ids if special or i not in self.added or not self.added[i].special])

    def to_dict(self):
        return {"kind": "tokenizer.json", "spec": self.spec}


def _whole(text):
    """The text, if UTF-8 can hold it: half a surrogate pair is no character."""
    for at, c in enumerate(text) if not text.isascii() else ():
        if "\ud800" <= c <= "\udfff":
            raise ValueError(f"U+{ord(c):04X} at position {at} is half a surrogate pair and no character: decode the text "
                             "with the right encoding")
    return text


def _finder(tokens, normalize=str):
    """(pattern that finds any of the tokens, the longest of those that begin alike; {what is found: token})"""
    found = {normalize(t.text): t for t in tokens}
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None, found


def _cut_out(text, finder, special):
    """(text, None) and (None, added token), in the order of the text. White space goes to a token that strips."""
    pattern, tokens = finder
    start = 0
    for match in pattern.finditer(text) if pattern else ():
        token = tokens[match.group()]
        if token.special and not special:
            continue
        left, right = match.span()
        if token.lstrip:
            left = max(start, left - len(_spaces(text[start:left][::-1])))
        if token.rstrip:
            right += len(_spaces(text[right:]))
        if start < left:
            yield text[start:left], None
        yield None, token
        start = right
    if start < len(text):
        yield text[start:], None


def _spaces(text):
    return re.match(one_of("space") + "*", text).group()
