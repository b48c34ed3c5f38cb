"""What a model learns from, what it is measured on, and the tokens for both: names, or a text cut in two."""
from typing import NamedTuple

from . import names, tokenizer_json
from .batches import Rows, Windows
from .char import CharTokenizer
from .corpus import read_text


class Source(NamedTuple):
    """`data` to learn from and `held_out` to measure on; `unit` is what a token is called."""
    tokenizer: object
    data: Rows | Windows
    held_out: Rows | Windows
    unit: str
    bytes_a_token: float | None = None          # of the held-out text


def from_names():
    """Given names: nine tenths to learn from, one to measure on."""
    train, held_out = names.split_names(names.load_names())
    return Source(names.tokenizer, names.plain_rows(train), names.plain_rows(held_out), "character")


def from_text(path, T, tokenizer_path=None):
    """A UTF-8 file in examples of T tokens, its first nine tenths to learn from, the last to measure on: as characters, or
    as the tokens of a tokenizer, if they give the text back."""
    text = read_text(path)
    cut = len(text) * 9 // 10
    tokenizer = CharTokenizer.from_text(text) if tokenizer_path is None else tokenizer_json.load(tokenizer_path)
    ids = []
    for part, what in ((text[:cut], "nine tenths that are learned from have"),
                       (text[cut:], "tenth that is measured on has")):
        try:
            ids.append(tokenizer.encode(part))
        except ValueError as error:
            raise ValueError(f"{tokenizer_path} cannot spell {path}: {error}") from None
        check_whole(tokenizer, part, ids[-1], tokenizer_path)
        if len(ids[-1]) < T + 1:
            raise ValueError(f"{path} is too short: an example takes {T + 1:,} tokens, and the {what} {len(ids[-1]):,}: "
                             "give more text, or let the model read less at once")
    return Source(tokenizer, *(Windows(i, T) for i in ids), "character" if tokenizer_path is None else "token",
                  len(text[cut:].encode()) / len(ids[1]))


def check_whole(tokenizer, text, ids, path):
    """Refuse tokens that lose something, with the place where they first do."""
    again = tokenizer.decode(ids)
    if again != text:
        at = next((i for i, (a, b) in enumerate(zip(text, again)) if a != b), min(len(text), len(again)))
        raise ValueError(f"{path} does not give the text back: {text[at:at + 20]!r} becomes {again[at:at + 20]!r}. A model "
                         "that writes needs tokens that spell every text, such as those of `tinygrad-lm tokenizer train`")
