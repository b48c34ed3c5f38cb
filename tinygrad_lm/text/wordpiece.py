"""WordPiece, the tokenizer of BERT [BERT]: a text is cleaned and cut into words, a word into the longest known pieces."""
import re
from functools import cache, lru_cache

from . import unicode

# What the decoder puts right, piece by piece, where a space stood before every word.
CLEANUP = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
           (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))


@cache
def _pattern(kind):
    return re.compile({"control": unicode.one_of("bert-control"), "space": unicode.one_of("space"),
                       "cjk": unicode.one_of("bert-cjk"), "mark": unicode.one_of("bert-mark"),
                       "word": f"{unicode.one_of('bert-punctuation')}|[^{_inside('space', 'bert-punctuation')}]+"}[kind])


def _inside(*names):
    return "".join(unicode.bracket(unicode.ranges(name)) for name in names)


def basic_normalize(text, *, clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True):
    """The text as BERT reads it: no control characters, every white space a blank, CJK ideographs words of their own; with
    `lowercase` in lower case and, unless `strip_accents` says otherwise, without accents.
    """
    if clean_text:
        text = _pattern("space").sub(" ", _pattern("control").sub("", text))
    if handle_chinese_chars:
        text = _pattern("cjk").sub(r" \g<0> ", text)
    if lowercase if strip_accents is None else strip_accents:
        text = _pattern("mark").sub("", unicode.normalize("NFD", text))
    return unicode.lower(text) if lowercase else text


def basic_words(text):
    """Words between white space; each punctuation mark is one of its own."""
    return _pattern("word").findall(text)


class WordPiece:
    """Words to ids, the longest piece first. `tokens` {id: text}; pieces that continue a word begin with `prefix`.

    A word that cannot be spelled, or has more than `longest` characters, is the token `unknown` as a whole.
    """

    def __init__(self, tokens, *, unknown="[UNK]", prefix="##", longest=100):
        self.tokens, self.prefix, self.longest = tokens, prefix, longest
        self.ids = {token: i for i, token in tokens.items()}
        self.unknown = [self.ids[unknown]]
        self.word_ids = lru_cache(2**16)(self._word_ids)

    def _word_ids(self, word):
        out, start = [], 0
        while start < len(word) <= self.longest:
            for end in range(len(word), start, -1):
                piece = self.ids.get((self.prefix if start else "") + word[start:end])
                if piece is not None:
                    break
            else:
                return self.unknown
            out.append(piece)
            start = end
        return out or self.unknown

    def join(self, tokens, *, prefix="##", cleanup=True):
        """The text of tokens: pieces are put together, words apart, and with `cleanup` punctuation to its word."""
        out = []
        for i, token in enumerate(tokens):
            token = token if i == 0 else token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
            for written, meant in CLEANUP if cleanup else ():
                token = token.replace(written, meant)
            out.append(token)
        return "".join(out)
