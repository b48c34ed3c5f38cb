"""A text is cut into words before a tokenizer looks at it: no token reaches across two of them.

GPT-2 [GPT2] and GPT-4 cut by patterns that `re` does not read, for they speak of Unicode's letters (\\p{L}), numbers
(\\p{N}) and white space; `compile_pattern` writes those classes out. Together the pieces are the text, nothing is lost.
"""
import re
from functools import cache

from .unicode import bracket, one_of, others, ranges

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")

# What a pattern is made of: an escape, the brackets of a set (and what would make a set of sets), anything else.
PART = re.compile(r"\\[pP]\{\^?\w+\}|\\.|\[\^?|\]|&&|\(\?[<!=:i>-]*|[$^]|.", re.DOTALL)
SHORT = {"s": "space", "d": "Nd"}
PLAIN = set("rntfv") | set(r"\.|()[]{}*+?/-'\"^$& #~!%,:;<=>@_`")


@cache
def compile_pattern(pattern):
    """A tokenizer's pattern, as Oniguruma and Rust spell it, for `re`. ValueError names what that cannot say."""
    out, in_set = [], False
    for part in PART.findall(pattern):
        if part in ("[", "[^"):
            if in_set:
                raise ValueError(f"the pattern {pattern!r} has a set within a set, which `re` cannot say")
            in_set = True
        elif part == "]":
            in_set = False
        elif part.startswith("\\"):
            part = _escape(part, pattern, in_set)
        elif part == "&&" and in_set or part in ("$", "^") and not in_set:
            raise ValueError(f"the pattern {pattern!r} uses {part}, which means something else to `re`")
        out.append(part)
    try:
        return re.compile("".join(out))
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is none that `re` can read: {error.msg}") from None


def _escape(part, pattern, in_set):
    """A class such as \\p{L} or \\S written out, other escapes as they are."""
    kind, name = part[1], part[3:-1] if part[1] in "pP" else SHORT.get(part[1].lower())
    if name is None:
        if kind not in PLAIN:
            raise ValueError(f"the pattern {pattern!r} has the escape {part}, which is not known here")
        return part
    outside = kind.isupper() != name.startswith("^")
    try:
        found = ranges(name.removeprefix("^"))
    except KeyError:
        raise ValueError(f"the pattern {pattern!r} names the class {name!r}, which is no category of Unicode") from None
    written = bracket(others(found) if outside else found)
    return written if in_set else f"[{written}]"


def pieces(pattern, text):
    """The text cut at every match: each match is a piece, and so is what lies between two."""
    out, end = [], 0
    for match in compile_pattern(pattern).finditer(text):
        if match.start() > end:
            out.append(text[end:match.start()])
        if match.end() > match.start():
            out.append(match.group())
        end = match.end()
    if end < len(text):
        out.append(text[end:])
    return out


def matches(pattern, text):
    """Only what matches."""
    return [m.group() for m in compile_pattern(pattern).finditer(text) if m.group()]


def between(pattern, text):
    """Only what lies between the matches."""
    out, end = [], 0
    for match in compile_pattern(pattern).finditer(text):
        out.append(text[end:match.start()])
        end = match.end()
    return [piece for piece in [*out, text[end:]] if piece]


def digits(text, *, apart):
    """Numbers are pieces of their own, or with `apart` each digit is."""
    return _digits(apart).findall(text)


@cache
def _digits(apart):
    number = one_of("digit-digits")
    return re.compile(f"{number}{'' if apart else '+'}|[^{number[1:-1]}]+")
