"""Unicode's classes of characters, the same in every Python: data/unicode.txt has them as of Unicode 16.0.

A tokenizer must cut a text the same way wherever it runs, and `unicodedata` grows with each Python. The table also has the
older classes by which BERT's tokenizer cleans a text; tests/unicode_table.py wrote it and says where each comes from.
"""
import re
import unicodedata
from functools import cache
from importlib.resources import files

LAST = 0x10ffff


@cache
def table():
    """{class: its ranges [(first, last), …]}, for the general categories (Lu, Nd, …), `space` and those with a hyphen."""
    lines = (files("tinygrad_lm") / "data" / "unicode.txt").read_text(encoding="ascii").splitlines()
    return {name: [_range(r) for r in ranges] for name, *ranges in map(str.split, lines) if not name.startswith("lower")}


def _range(text):
    first, _, last = text.partition("-")
    return int(first, 16), int(last or first, 16)


@cache
def ranges(name):
    """The ranges of one class, in order: a category (`Lu`), all that begin with a letter (`L`), or another of the table."""
    found = sorted(r for key, rs in table().items() for r in rs if key == name or len(name) == 1 and "-" not in key
                   and key.startswith(name))
    if not found:
        raise KeyError(name)
    merged = found[:1]
    for first, last in found[1:]:
        if first == merged[-1][1] + 1:
            merged[-1] = merged[-1][0], last
        else:
            merged.append((first, last))
    return tuple(merged)


def others(ranges):
    """Every character that is in none of the ranges."""
    starts, ends = zip(*ranges)
    between = zip((0, *(e + 1 for e in ends)), (*(s - 1 for s in starts), LAST))
    return tuple((first, last) for first, last in between if first <= last)


def bracket(ranges):
    """The ranges as `re` writes them between [ and ]."""
    return "".join(f"\\U{first:08x}" + (f"-\\U{last:08x}" if last > first else "") for first, last in ranges)


def one_of(*names):
    """A pattern for one character of any of the classes."""
    return "[" + "".join(bracket(ranges(name)) for name in names) + "]"


@cache
def _strangers():
    return re.compile(f"({one_of('normal-unknown', 'Cn')})")


def normalize(form, text):
    """NFC or NFD of a text. Characters newer than the normaliser of Hugging Face's tokenizers stay as they are.

    Such a character neither combines with its neighbours nor lets marks move past it, so the text is cut there.
    """
    parts = _strangers().split(text)
    parts[::2] = [unicodedata.normalize(form, part) for part in parts[::2]]          # between them stand the strangers
    return "".join(parts)


@cache
def _new_lower():
    """{code point: lower case} of letters that got one after Unicode 14, the oldest that a supported Python knows."""
    lines = (files("tinygrad_lm") / "data" / "unicode.txt").read_text(encoding="ascii").splitlines()
    pairs = next(line for line in lines if line.startswith("lower")).split()[1:]
    return {int(upper, 16): int(lower, 16) for upper, lower in (p.split(">") for p in pairs)}


def lower(text):
    """Lower case, each character by itself: Σ becomes σ at the end of a word, too."""
    return text.replace("Σ", "σ").translate(_new_lower()).lower()
