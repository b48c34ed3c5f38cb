"""The simplest tokenizer: a character is a token."""
import numpy as np

from .special import AddedToken, id_of

SPECIAL = ("<pad>", "<end>")                    # ids 0 and 1; no text can produce them, only the ids themselves


class CharTokenizer:
    """`chars`, each a token, after the special tokens pad (id 0) and end (id 1); special tokens `added` (str) come last."""
    pad, end = 0, 1
    kind = "char"                               # by which a checkpoint knows it

    def __init__(self, chars, added=()):
        self.chars = "".join(dict.fromkeys(chars))
        self._ids = {c: i for i, c in enumerate(self.chars, len(SPECIAL))}
        self.added = {i: AddedToken(i, t) for i, t in enumerate(dict.fromkeys(added), len(SPECIAL) + len(self.chars))}

    @classmethod
    def from_text(cls, text):
        """A token for every character that occurs in the text."""
        if not text:
            raise ValueError("the text is empty: there is nothing to learn an alphabet from")
        return cls(sorted(set(text)))

    @property
    def vocab_size(self):
        return len(SPECIAL) + len(self.chars) + len(self.added)

    def __len__(self):
        return self.vocab_size

    def id_of(self, token):
        """The id of an added token."""
        return id_of(token, self.added)

    def token(self, i):
        """One token as text, a special one too."""
        return self.added[i].text if i in self.added else SPECIAL[i] if i < len(SPECIAL) else self.chars[i - len(SPECIAL)]

    def encode(self, text):
        """The ids of the text's characters, int64 (T,)."""
        try:
            return np.array([self._ids[c] for c in text], np.int64)
        except KeyError:
            at = next(i for i, c in enumerate(text) if c not in self._ids)
            known = self.chars if len(self.chars) <= 100 else self.chars[:100] + "…"          # of Hangul there are hundreds
            raise ValueError(f"the character {text[at]!r} at position {at} is not among the tokenizer's "
                             f"{len(self.chars)}: {known!r}") from None

    def decode(self, ids):
        """The text of the ids; special tokens are left out."""
        return "".join(self.token(i) for i in checked(ids, self.vocab_size) if i >= len(SPECIAL) and i not in self.added)

    def to_dict(self):
        added = [t.text for t in self.added.values()]
        return {"kind": self.kind, "chars": self.chars} | ({"added": added} if added else {})

    @classmethod
    def from_dict(cls, saved):
        return cls(saved["chars"], saved.get("added", ()))


def checked(ids, vocab_size):
    """Ids (T,) as a list, if each is one of the vocabulary's."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.size and ids.dtype.kind not in "iu":
        raise ValueError(f"decode takes one sequence of ids, int (T,), not {ids.dtype} {ids.shape}")
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"token id {ids[at]} at position {at} is outside the vocabulary of {vocab_size} tokens, 0 to "
                         f"{vocab_size - 1}")
    return ids.tolist()
